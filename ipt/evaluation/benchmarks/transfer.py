"""Readers of other people's benchmarks to which the paper transfers: SAT, MindCube, All-Angles. None has an imagined image.

Each is put under the task that it is nearest to, which decides its prompt: SAT's perspective questions under PET, questions
about several views under MVC.
"""

from __future__ import annotations

import ast
import base64
import binascii
import csv
import json
import string
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ipt.common.errors import MissingFile
from ipt.common.files import CorruptFile, opened_text, read_json
from ipt.evaluation.benchmarks.published import drawn_by_stratum, with_roles
from ipt.samples.answers import split_options
from ipt.samples.official.rows import Row
from ipt.samples.official.viewer import make_sample
from ipt.samples.sample import SampleImage, SpatialSample

SAT_CATEGORY = "perspective"
MINDCUBE_FILE, MINDCUBE_SUBSET = "MindCube_tinybench.jsonl", 200
ALL_ANGLES_FILE = "egohumans_only.json"


def sat(source: Path, name: str) -> Iterator[SpatialSample]:
    """The perspective questions of SAT_circular.tsv (the folder's only TSV file, or the file): VLMEvalKit's format."""
    path = only_file(source, "*.tsv")
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    with opened_text(path) as stream:
        table = csv.DictReader(stream, delimiter="\t")
        found = table.fieldnames or ()
        if missing := [
            column for column in ("image", "question", "answer", "category", "A", "B") if column not in found
        ]:
            raise CorruptFile(f"{path} lacks the columns {', '.join(missing)}; it has {', '.join(found)}")
        for number, cells in enumerate(table):
            if cells["category"] == SAT_CATEGORY:
                yield sat_sample(Row(path, number, cells), f"{name}-{number:05d}")


def sat_sample(row: Row, sample_id: str) -> SpatialSample:
    choices = lettered_options(row)
    encoded: Any = row.text("image")
    try:
        encoded = ast.literal_eval(encoded) if encoded.startswith("[") else [encoded]
        pictures = [base64.b64decode(text, validate=True) for text in encoded]
    except (ValueError, SyntaxError, TypeError, binascii.Error) as error:
        row.fail("image", f"is neither base64 nor a list of it ({error})")
    data = [row.checked_image(picture, f"image[{number}]") for number, picture in enumerate(pictures)]
    return make_sample(
        row,
        id=sample_id,
        task="pet",
        split="test",
        question=row.text("question").strip(),
        question_type=SAT_CATEGORY,
        choices=choices,
        answer=row.letter("answer", choices),
        images=tuple(SampleImage(picture, "observation") for picture in data),
        imagination=SampleImage(b"", "view"),
    )


def mindcube(source: Path, name: str) -> Iterator[SpatialSample]:
    """200 questions of MindCube's tiny benchmark, drawn by their setting; ``source`` is the folder of its images."""
    path = only_file(source, f"**/{MINDCUBE_FILE}")
    rows = []
    with opened_text(path) as stream:
        for number, line in enumerate(stream):
            try:
                rows.append(Row(path, number, json.loads(line)))
            except json.JSONDecodeError as error:
                raise CorruptFile(f"{path}, line {number + 1}: {error}") from error
    settings = [row.text("id").partition("_")[0] for row in rows]
    for number in drawn_by_stratum(settings, MINDCUBE_SUBSET):
        row = rows[number]
        question, choices = split_options(row.text("question"))
        if not choices:
            row.fail("question", f"no answer options in {row.text('question')[-120:]!r}")
        scene = "_".join(row.text("id").split("_")[:2])
        yield views_sample(
            row,
            source,
            row.cells.get("images"),
            {"scene_name": scene},
            id=f"{name}-{row.text('id')}",
            question=question,
            question_type=settings[number],
            choices=choices,
            answer=row.letter("gt_answer", choices),
        )


def all_angles(source: Path, name: str) -> Iterator[SpatialSample]:
    """The EgoHumans questions of All-Angles-Bench; ``source`` is the folder of its images."""
    path = only_file(source, f"**/{ALL_ANGLES_FILE}")
    for number, cells in enumerate(read_json(path, list)):
        row = Row(path, number, cells)
        choices = lettered_options(row)
        yield views_sample(
            row,
            source,
            row.cells.get("image_path"),
            {"scene_name": str(cells.get("folder", ""))},
            id=f"{name}-{number:04d}",
            question=row.text("question").strip(),
            question_type=row.text("category"),
            choices=choices,
            answer=row.letter("answer", choices),
        )


def views_sample(row: Row, folder: Path, names: Any, cells: Mapping[str, str], **fields: Any) -> SpatialSample:
    """A question about several views, whose files are named relative to ``folder``."""
    if not isinstance(names, list) or not names:
        row.fail("images", f"expected a list of files, got {names!r:.80}")
    data = [row.checked_image(file_in(folder, str(name), row), f"images, {name}") for name in names]
    return make_sample(
        Row(row.path, row.number, cells),
        task="mvc",
        split="test",
        images=with_roles(data, "frame"),
        imagination=SampleImage(b"", "bev"),
        **fields,
    )


def lettered_options(row: Row) -> tuple[str, ...]:
    """The options in columns A, B, ... up to the first that is missing or empty."""
    choices = []
    for letter in string.ascii_uppercase:
        value = row.cells.get(letter)
        if value is None or not str(value).strip():
            break
        choices.append(str(value).strip())
    return tuple(choices)


def only_file(source: Path, pattern: str) -> Path:
    """``source`` itself, or the one file in it that matches."""
    found = [source] if source.is_file() else sorted(source.glob(pattern))
    if len(found) != 1:
        raise MissingFile(f"{source} holds {len(found)} files {pattern.removeprefix('**/')}, expected one")
    return found[0]


def file_in(folder: Path, name: str, row: Row) -> bytes:
    """A picture's bytes; a name that leads out of the folder is an error."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        row.fail("images", f"{name!r} lies outside of {folder}")
    if not path.is_file():
        row.fail("images", f"there is no file {name!r} in {folder}")
    return path.read_bytes()
