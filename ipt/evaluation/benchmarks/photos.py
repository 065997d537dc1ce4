"""One's own pictures as an evaluation set: a folder of them with ``questions.csv`` or ``questions.jsonl``.

A row has ``images`` (file names), ``question``, ``choices`` and ``answer`` (a letter or the text of a choice); it may have
``id``, ``task`` (pet, pt or mvc: whose prompt is used; default mvc), ``question_type`` (a stratum of scores), ``scene`` (rows
that show the same place) and ``imagination`` (the file of the true picture to imagine). In CSV, several names or choices stand
apart by ``|``.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ipt.common.errors import MissingFile, UserError
from ipt.common.files import CorruptFile, opened_text
from ipt.common.images import open_image
from ipt.samples.sample import TASKS, Provenance, SampleImage, SpatialSample

QUESTIONS = ("questions.csv", "questions.jsonl")
REQUIRED = ("images", "question", "choices", "answer")
FIELDS = (*REQUIRED, "id", "task", "question_type", "scene", "imagination")
IMAGINED = {"pet": "view", "pt": "side_view", "mvc": "bev"}


def read(folder: Path, name: str) -> Iterator[SpatialSample]:
    """The questions in their order. ``UserError`` names file, row (from 1) and field of what is wrong."""
    found = [folder / file for file in QUESTIONS if (folder / file).is_file()]
    if len(found) != 1:
        raise MissingFile(f"{folder} must hold one of {' or '.join(QUESTIONS)}, found {len(found)}")
    seen: set[str] = set()
    for number, row in enumerate(rows(found[0]), start=1):
        where = f"{found[0]}, row {number}"
        sample = sample_of(row, folder, name, number, where)
        if sample.id in seen:
            raise CorruptFile(f"{where}, field 'id': '{sample.id}' is the id of an earlier row, too")
        seen.add(sample.id)
        yield sample


def rows(path: Path) -> Iterator[Mapping[str, Any]]:
    """Rows of a CSV file with a head, or objects of a JSON-lines file."""
    with opened_text(path) as stream:
        if path.suffix == ".csv":
            for row in csv.DictReader(stream):
                yield {key: value for key, value in row.items() if value not in (None, "")}
            return
        for number, line in enumerate(filter(str.strip, stream), start=1):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise CorruptFile(f"{path}, row {number}: not valid JSON ({error})") from error
            yield row if isinstance(row, dict) else {"": row}


def sample_of(row: Mapping[str, Any], folder: Path, name: str, number: int, where: str) -> SpatialSample:
    """One question with its pictures."""
    if unknown := [key for key in row if key not in FIELDS]:
        raise CorruptFile(f"{where}: unknown field '{unknown[0]}'; valid: {', '.join(FIELDS)}")
    if missing := [key for key in REQUIRED if key not in row]:
        raise CorruptFile(f"{where}: field '{missing[0]}' is missing or empty")
    task = str(row.get("task", "mvc"))
    if task not in TASKS:
        raise CorruptFile(f"{where}, field 'task': must be one of {', '.join(TASKS)}, got '{task}'")
    choices, answer = listed(row["choices"]), str(row["answer"]).strip()
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(choices)]
    if answer not in choices and (len(answer) != 1 or answer.upper() not in letters):
        raise CorruptFile(
            f"{where}, field 'answer': must be a letter in {letters} or one of the choices, got '{answer}'"
        )
    names = listed(row["images"])
    pictures = [picture(folder, file, f"{where}, field 'images'") for file in names]
    target = str(row.get("imagination", ""))
    imagined = picture(folder, target, f"{where}, field 'imagination'") if target else b""
    try:
        return SpatialSample(
            id=str(row.get("id", f"{name}-{number}")),
            task=task,
            split="test",
            question=str(row["question"]),
            question_type=str(row.get("question_type", name)),
            choices=choices,
            answer=letters[choices.index(answer)] if answer in choices else answer.upper(),
            images=tuple(map(SampleImage, pictures, roles(task, len(pictures)))),
            imagination=SampleImage(imagined, IMAGINED[task]),
            rationale="",
            caption="",
            provenance=Provenance("photos", "", str(row.get("scene", names[0] if names else "")), 0),
            facts={"files": [*names, *filter(None, [target])]},
        )
    except UserError as error:
        raise CorruptFile(f"{where}: {error}") from error


def listed(value: Any) -> tuple[str, ...]:
    """A list of texts, or a text whose entries stand apart by ``|``."""
    entries = value if isinstance(value, list) else str(value).split("|")
    return tuple(str(entry).strip() for entry in entries)


def roles(task: str, count: int) -> Sequence[str]:
    """What each picture is: the view of PET, the map and ego views of PT, the frames of MVC."""
    if task == "pet":
        return ["observation"] * count
    return ["map", *(f"ego_{n}" for n in range(1, count))] if task == "pt" else [f"frame_{n}" for n in range(count)]


def picture(folder: Path, file: str, where: str) -> bytes:
    """The bytes of a picture below ``folder``, decoded once to see that it is whole."""
    path = folder / file
    if not path.resolve().is_relative_to(folder.resolve()):
        raise CorruptFile(f"{where}: '{file}' lies outside of {folder}")
    try:
        open_image(path, file)
    except UserError as error:
        raise CorruptFile(f"{where}: {error}") from error
    return path.read_bytes()
