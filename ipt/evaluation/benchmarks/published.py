"""Readers of the paper's own evaluation sets: parquet files, a Hugging Face dataset each.

A reader takes the downloaded folder and gives samples in the order of its files. Where a set has no imagined image, neither has
the sample (`SpatialSample.has_imagination`). Errors are ``CorruptFile`` and ``ValueError``, naming file, row and field.

What the published evaluation code draws while it loads its data (which rows, and the wrong options of counting questions) is
drawn here by Python's ``random`` module under the published seed, because it must give the published questions.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from ipt.common.errors import UserError
from ipt.samples.official.rows import Row, count_rows, parquet_files, require_columns, rows_of
from ipt.samples.official.viewer import make_sample, read_viewer
from ipt.samples.sample import SampleImage, SpatialSample

SEED = 42
MOST = 8


def drawn(rows: int, count: int) -> list[int]:
    """The numbers of the ``count`` rows drawn from ``rows``, in the order of the draw."""
    return random.Random(SEED).sample(range(rows), min(count, rows))


def drawn_by_stratum(strata: Sequence[str], count: int) -> list[int]:
    """``count`` rows, from each stratum in proportion to its size (rounded down), the rest from all that are left."""
    rng = random.Random(SEED)
    rows: dict[str, list[int]] = {name: [] for name in strata}
    for row, name in enumerate(strata):
        rows[name].append(row)
    chosen: list[int] = []
    for members in rows.values():
        chosen += rng.sample(members, min(len(members), max(1, int(len(members) / len(strata) * count))))
    taken = set(chosen)
    left = [row for members in rows.values() for row in members if row not in taken]
    if len(chosen) < count and left:
        chosen += rng.sample(left, min(count - len(chosen), len(left)))
    return chosen[:count]


def count_options(count: int, row: int) -> tuple[str, ...]:
    """Four options for a question whose answer is ``count``: it and three numbers within 3 of it, from 1 to 8, shuffled."""
    rng = random.Random(SEED + row)
    near = [other for other in range(max(1, count - 3), min(MOST, count + 3) + 1) if other != count]
    if len(near) < 3:
        near = [other for other in range(1, MOST + 1) if other != count]
    options = [*rng.sample(near, 3), count]
    rng.shuffle(options)
    return tuple(map(str, options))


SPLIT = re.compile(r"(.+)-\d+-of-\d+")
SIDES = [f"{before}_{after}" for before, after in product(("left", "right"), repeat=2)]
PET_KINDS = ("distance_change_closer", "distance_change_further", *(f"relative_position_{sides}" for sides in SIDES))
HABITAT_KINDS = ("distance_closer", "distance_further", *(f"position_{sides}" for sides in SIDES))
HABITAT_PER_KIND = 50
PT_VARIANTS = ("td_ego_dir", "td_path", "td_path_arrow")
PT_REAL_VARIANTS = ("td_path", "td_path_arrow")
COUNTING_SUBSET = 200


def parts(source: Path, names: Sequence[str]) -> Iterator[tuple[str, list[Path]]]:
    """The files of each part of a dataset, a split or a configuration: they are ``NAME-00000-of-00001.parquet``, or lie in a
    folder of that name. ``ValueError`` names the parts that are missing."""
    files: dict[str, list[Path]] = {}
    for path in parquet_files(source):
        split = SPLIT.fullmatch(path.stem)
        places = [split[1] if split else path.stem, *path.relative_to(source).parts[:-1]]
        files.setdefault(next((name for name in names if name in places), ""), []).append(path)
    if missing := [name for name in names if name not in files]:
        found = ", ".join(str(path.relative_to(source)) for paths in files.values() for path in paths)
        raise UserError(f"{source} lacks the parts {', '.join(missing)}; its files are: {found[:400]}")
    return ((name, files[name]) for name in names)


def numbered(files: Sequence[Path], columns: Sequence[str], count: int | None = None) -> Iterator[tuple[int, Row]]:
    """All rows of some files with their numbers, or the ``count`` of them that the published code draws.

    Raises ``CorruptFile`` naming the ``columns`` that a file lacks.
    """
    for path in files:
        require_columns(path, columns)
    total = count_rows(files)
    chosen = set(range(total) if count is None else drawn(total, count))
    rows = (row for path in files for row in rows_of(path))
    return ((number, row) for number, row in enumerate(rows) if number in chosen)


def pet(source: Path, name: str) -> Iterator[SpatialSample]:
    """PET in AI2-THOR: a split for each sub-category."""
    return pet_samples(source, name, PET_KINDS, None)


def pet_habitat(source: Path, name: str) -> Iterator[SpatialSample]:
    """PET in Habitat: 50 of each sub-category."""
    return pet_samples(source, name, HABITAT_KINDS, HABITAT_PER_KIND)


def pet_samples(source: Path, name: str, kinds: Sequence[str], count: int | None) -> Iterator[SpatialSample]:
    """The version without an arrow."""
    for kind, files in parts(source, kinds):
        for number, row in numbered(files, ("answer_choices", "answer", "new_perspective"), count):
            answer = row.letter("answer", row.options("answer_choices"))
            known = replace(row, cells={**row.cells, "question_type": kind, "answer": answer})
            yield read_viewer(known, "pet", f"{name}-{kind}-{number:04d}", "test")


def mvc(source: Path, name: str) -> Iterator[SpatialSample]:
    """MVC in AI2-THOR."""
    columns = ("question", "answer", "frame_0", "topdown_map", "movement_type")
    for number, row in numbered(parquet_files(source), columns):
        yield read_viewer(row, "mvc", f"{name}-{number:04d}", "test")


def counting(source: Path, name: str) -> Iterator[SpatialSample]:
    """MessyTable (its test split) and ScanNet (all it has): 200 rows, with options that are drawn here."""
    files = parquet_files(source)
    files = [path for path in files if path.stem.startswith("test")] or files
    for number, row in numbered(files, ("question", "gt_answer", "images"), COUNTING_SUBSET):
        value: Any = row.cells["gt_answer"]
        if not re.fullmatch(r"\d+", str(value)):
            row.fail("gt_answer", f"expected a number, got {value!r:.80}")
        choices = count_options(int(value), number)
        yield make_sample(
            row,
            id=f"{name}-{number:04d}",
            task="mvc",
            split="test",
            question=row.text("question").strip(),
            question_type="count",
            choices=choices,
            answer="ABCD"[choices.index(str(int(value)))],
            images=with_roles(row.images("images"), "frame"),
            imagination=SampleImage(b"", "bev"),
            facts=row.scalars("question"),
        )


def path_tracing(source: Path, name: str) -> Iterator[SpatialSample]:
    """PT in AI2-THOR, in the three versions that the paper reports."""
    for variant, files in parts(source, PT_VARIANTS):
        for number, row in numbered(files, ("topdown_image", "question", "choices", "answer")):
            views = with_roles(row.images("ego_images"), "ego", 1) if row.cells.get("ego_images") else ()
            side = next((key for key in ("sideview_image", "sideview_images") if row.cells.get(key)), None)
            inputs = (SampleImage(row.image("topdown_image"), "map"), *views)
            yield path_sample(row, f"{name}-{variant}-{number:04d}", variant, inputs, row.image(side) if side else b"")


def path_tracing_real(source: Path, name: str) -> Iterator[SpatialSample]:
    """PT in Matterport3D, in two versions; without side views."""
    for variant, files in parts(source, PT_REAL_VARIANTS):
        for number, row in numbered(files, ("image", "question", "choices", "answer")):
            inputs = (SampleImage(row.image("image"), "map"),)
            yield path_sample(row, f"{name}-{variant}-{number:04d}", variant, inputs, b"")


def path_sample(
    row: Row, sample_id: str, variant: str, inputs: tuple[SampleImage, ...], side_view: bytes
) -> SpatialSample:
    choices = row.options("choices")
    return make_sample(
        row,
        id=sample_id,
        task="pt",
        split="test",
        question=row.text("question").strip(),
        question_type=variant,
        choices=choices,
        answer=row.letter("answer", choices),
        images=inputs,
        imagination=SampleImage(side_view, "side_view"),
        facts=row.scalars("question", "answer"),
    )


def with_roles(images: Sequence[bytes], role: str, first: int = 0) -> tuple[SampleImage, ...]:
    return tuple(SampleImage(data, f"{role}_{number}") for number, data in enumerate(images, first))
