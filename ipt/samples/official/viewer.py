"""The viewer schema: a column per part of a sample. Its rows hold no system prompt.

PET: question(_no_arrow, _with_arrow), marked_image(_no_arrow, _with_arrow), new_perspective, answer_choices (a JSON list, in an
order that varies by row), answer (a letter). MVC: question (options inside), frame_0 ... frame_7, topdown_map, answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ipt.common.errors import UserError
from ipt.common.files import CorruptFile
from ipt.samples.answers import split_options
from ipt.samples.official.rows import Row
from ipt.samples.sample import Provenance, SampleImage, SpatialSample, Split, Task

BACKEND = "published"
MARKS = {"pet": ("answer_choices", "new_perspective"), "mvc": ("topdown_map", "frame_0")}
FRAMES = tuple(f"frame_{number}" for number in range(8))


def viewer_task(columns: Sequence[str]) -> Task | None:
    """The task whose viewer schema these columns are, if any."""
    if set(MARKS["pet"]) <= set(columns):
        return "pet"
    return "mvc" if set(MARKS["mvc"]) <= set(columns) else None


def read_viewer(row: Row, task: Task, sample_id: str, split: Split, arrow: bool = False) -> SpatialSample:
    """A sample from a viewer row; ``arrow`` chooses PET's version with the direction drawn.

    Raises ``CorruptFile`` naming file, row and field.
    """
    parts = read_pet(row, arrow) if task == "pet" else read_mvc(row)
    return make_sample(row, id=sample_id, task=task, split=split, **parts)


def read_pet(row: Row, arrow: bool) -> dict[str, Any]:
    suffix = "_with_arrow" if arrow else "_no_arrow"
    question, image = (
        f"{name}{suffix}" if row.cells.get(f"{name}{suffix}") is not None else name
        for name in ("question", "marked_image")
    )
    return {
        "question": row.text(question).strip(),
        "question_type": row.text("question_type"),
        "choices": row.options("answer_choices"),
        "answer": row.text("answer").strip(),
        "images": (SampleImage(row.image(image), "observation"),),
        "imagination": SampleImage(row.image("new_perspective"), "view"),
        "facts": row.scalars("question", "question_no_arrow", "question_with_arrow", "answer", "answer_choices"),
    }


def read_mvc(row: Row) -> dict[str, Any]:
    question, choices = split_options(row.text("question"))
    if not choices:
        row.fail("question", f"no answer options (A) ... in {row.text('question')!r:.200}")
    frames = [name for name in FRAMES if row.cells.get(name) is not None]
    if not frames:
        row.fail("frame_0", "expected at least one frame")
    return {
        "question": question,
        "question_type": row.text("movement_type" if row.cells.get("movement_type") else "question_type"),
        "choices": choices,
        "answer": row.text("answer").strip(),
        "images": tuple(SampleImage(row.image(name), name) for name in frames),
        "imagination": SampleImage(row.image("topdown_map"), "bev"),
        "facts": row.scalars("question", "answer"),
    }


def make_sample(row: Row, **parts: Any) -> SpatialSample:
    """A sample with the provenance of its row; what the sample itself refuses is a ``CorruptFile`` error, too."""
    scene = str(row.cells.get("scene_name") or row.cells.get("scene_id") or "")
    parts = {"rationale": "", "caption": "", **parts}
    try:
        return SpatialSample(provenance=Provenance(BACKEND, "", scene, 0), **parts)
    except UserError as error:
        raise CorruptFile(f"{row.path}, row {row.number}: {error}") from error
