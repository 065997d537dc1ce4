"""The interleaved schema of BAGEL's trainer: image_list (inputs, then targets), instruction_list, output_text_list,
num_input_images.

Instructions are a system prompt and a question, as two texts or as one text whose last line is the question. Outputs say which
variant a row belongs to: an answer alone, reasoning and answer, or a thought, an image and an answer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from ipt.samples.answers import split_options
from ipt.samples.official.rows import Row
from ipt.samples.official.viewer import make_sample
from ipt.samples.sample import ImaginationKind, SampleImage, SpatialSample, Split, Task

COLUMNS = ("image_list", "instruction_list", "output_text_list")
TARGETS: dict[Task, ImaginationKind] = {"pet": "view", "pt": "side_view", "mvc": "bev"}
STRATA = ("question_type", "variant_type", "movement_type")

ANSWERED = re.compile(
    r"\s*(?:<image_end>)?\s*(?:<think>(?P<think>.*)</think>)?\s*<answer>(?P<answer>.*)</answer>\s*", re.DOTALL
)
ANNOUNCED = re.compile(r"\s*(?:<think>(?P<thought>.*)</think>)?\s*<image_start>\s*", re.DOTALL)
REFERENCE = re.compile(r"<img>\s*<\|image_(\d+)\|>\s*</img>")

Mode = Literal["label_only", "text_cot", "ipt"]


@dataclass(frozen=True, slots=True)
class Content:
    """What a row says. ``system`` keeps its white space, since models were trained with it."""

    mode: Mode
    system: str
    question: str
    choices: tuple[str, ...]
    answer: str
    thought: str
    rationale: str
    inputs: tuple[bytes, ...]
    target: bytes | None


def read_content(row: Row) -> Content:
    """Parse a row. Raises ``CorruptFile`` naming file, row and field."""
    data = row.images("image_list")
    mode, outputs = read_outputs(row)
    inputs: Any = row.cells.get("num_input_images")
    inputs = 1 if inputs is None else inputs
    if not isinstance(inputs, int) or not 1 <= inputs <= len(data) or len(data) - inputs != (mode == "ipt"):
        row.fail(
            "num_input_images", f"{inputs} of {len(data)} images are inputs, which does not fit to a row of mode {mode}"
        )
    system, question, choices = read_instructions(row)
    return Content(
        mode,
        system,
        question,
        choices,
        inputs=tuple(data[:inputs]),
        target=data[inputs] if mode == "ipt" else None,
        **outputs,
    )


def read_outputs(row: Row) -> tuple[Mode, dict[str, str]]:
    """The variant of a row; its thought, rationale and answer."""
    texts = row.texts("output_text_list")
    final = ANSWERED.fullmatch(texts[-1])
    announced = ANNOUNCED.fullmatch(texts[0]) if len(texts) == 2 else None
    if final is None or len(texts) > 2 or (len(texts) == 2 and announced is None):
        row.fail(
            "output_text_list",
            f"expected [<think>...</think>]<answer>X</answer>, with an image before it or not: {texts!r:.200}",
        )
    think, answer = final["think"] or "", final["answer"].strip()
    thought = (announced["thought"] or "") if announced else ""
    mode: Mode = "ipt" if announced else "text_cot" if think else "label_only"
    return mode, {"thought": thought, "rationale": think, "answer": answer}


def read_instructions(row: Row) -> tuple[str, str, tuple[str, ...]]:
    """System prompt, question and options. A question is one line (its options may follow on lines of their own)."""
    *before, last = row.texts("instruction_list")
    question, choices = split_options(last)
    if not choices:
        row.fail(
            "instruction_list",
            f"no answer options in {last[-120:]!r}; the releases' own converter leaves out those of PET: convert the viewer "
            "files, which have them in answer_choices",
        )
    if not before and "\n" in question:
        head, _, question = question.rpartition("\n")
        before = [last[: last.index(head) + len(head)]]
    return "\n".join(before), REFERENCE.sub(r"<image_\1>", question.strip()), choices


def interleaved_sample(row: Row, content: Content, task: Task, sample_id: str, split: Split) -> SpatialSample:
    """The sample of a row with an image target. Raises ``CorruptFile`` where there is none."""
    if content.target is None:
        row.fail(
            "image_list",
            f"a row of mode {content.mode} has no imagined image; convert the 'ipt' variant, and name this one in companions=",
        )
    stratum = next((str(row.cells[name]) for name in STRATA if row.cells.get(name)), task)
    facts = row.scalars() | ({"thought": content.thought} if content.thought else {})
    return make_sample(
        row,
        id=sample_id,
        task=task,
        split=split,
        question=content.question,
        question_type=stratum,
        choices=content.choices,
        answer=content.answer,
        images=tuple(
            SampleImage(data, role) for data, role in zip(content.inputs, input_roles(task, content), strict=True)
        ),
        imagination=SampleImage(content.target, TARGETS[task]),
        rationale=content.rationale,
        facts=facts,
    )


def input_roles(task: Task, content: Content) -> list[str]:
    """Roles of the inputs by their place, as our own generators name them."""
    count = len(content.inputs)
    if task == "pet":
        return ["observation"] * count
    return (
        [f"frame_{number}" for number in range(count)]
        if task == "mvc"
        else ["map", *(f"ego_{n}" for n in range(1, count))]
    )
