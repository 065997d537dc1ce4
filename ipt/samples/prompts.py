"""The only place that decides what a model reads and writes around a question: system prompts, the format of questions and
options, the order of texts and images, and tags. Training, inference and evaluation render through it.

A `Profile` is the set of these decisions. ``default`` is ours, ``brief`` the same in few words. ``release`` is the layout of the
published training data, for users of released checkpoints. System prompts are the modes' own, and those of ``release`` stand in
a converted dataset's ``prompts.json`` (`ipt.imagination.recipe`).

Tags are plain text to the tokenizer. Text that comes from data cannot open one: `escape` breaks every marker in it, and the
tokenizer never turns text into a special token (`ipt.sequence.tokenizer`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ipt.common.errors import UserError
from ipt.common.files import write_json
from ipt.samples.sample import BadSample, SampleImage, SpatialSample

THINK, THINK_END = "<think>", "</think>"
DESCRIBE, DESCRIBE_END = "<think_image>", "</think_image>"
IMAGE_START, IMAGE_END = "<image_start>", "<image_end>"
LATENT_START, LATENT_END = "<latent_start>", "<latent_end>"
ANSWER, ANSWER_END = "<answer>", "</answer>"

PROMPTS_FILE = "prompts.json"
REFERENCE = re.compile(r"<image_(\d+)>")
MARKER = re.compile(
    r"<(?=\||/?(?:think|think_image|(?:image|latent)_(?:start|end)|answer|img|image|image_\d+)\s*/?>)", re.IGNORECASE
)

Part = Literal["system", "images", "question"]


@dataclass(frozen=True, slots=True)
class Layout:
    """How the prompt of one task is put together.

    ``order``: one entry per text of the prompt or run of images; parts in one entry are one text, joined by ``joint``.
    ``option``: the format of one option, from ``letter`` and ``choice``; ``separator`` stands before each. ``reference``: how
    the k-th input image, ``<image_k>`` in a stored question, is named, from ``number``.
    """

    order: tuple[tuple[Part, ...], ...] = (("system",), ("images",), ("question",))
    joint: str = "\n"
    option: str = "({letter}) {choice}"
    separator: str = "\n"
    reference: str = "image {number}"

    def __post_init__(self) -> None:
        parts = [part for entry in self.order for part in entry]
        if sorted(parts) != ["images", "question", "system"]:
            raise UserError(f"a layout holds system, images and question once each, got {self.order}")
        if any("images" in entry and len(entry) > 1 for entry in self.order):
            raise UserError(f"images cannot share an entry with text, got {self.order}")


@dataclass(frozen=True, slots=True)
class Profile:
    """Everything that is the same for all samples.

    ``systems``: the system prompt of an imagination mode, by ``"ipt"`` or, for one task, by ``"pet/ipt"``. ``thoughts``: by
    task, what the model says before it imagines; a sample takes one of them. ``layouts``: by task, else the default one.
    """

    name: str
    systems: Mapping[str, str]
    thoughts: Mapping[str, tuple[str, ...]]
    layouts: Mapping[str, Layout] = field(default_factory=dict)

    def system(self, task: str, mode: str) -> str:
        """The system prompt that asks for ``mode``; ``ValueError`` where the profile has none."""
        for key in (f"{task}/{mode}", mode):
            if key in self.systems:
                return self.systems[key]
        raise UserError(
            f"profile '{self.name}' has no system prompt for mode '{mode}' of task '{task}'; it has: "
            f"{', '.join(sorted(self.systems)) or 'none'}"
        )

    def thought_of(self, sample: SpatialSample, rng: np.random.Generator) -> str:
        """What is said before the sample's image is drawn: its own published words (fact ``thought``), which may name the
        queried side, in profile ``release``; else one of the task's, drawn by ``rng``."""
        own = sample.facts.get("thought")
        if self.name == "release" and isinstance(own, str) and own:
            return own
        known = self.thoughts_of(sample.task)
        return known[int(rng.integers(len(known)))]

    def thoughts_of(self, task: str) -> tuple[str, ...]:
        """What may be said before an image of ``task`` is drawn; ``ValueError`` if the profile has nothing."""
        if not self.thoughts.get(task):
            raise UserError(f"profile '{self.name}' has no thoughts for task '{task}'")
        return self.thoughts[task]

    def layout(self, task: str) -> Layout:
        return self.layouts.get(task, Layout())


#: By profile and task, what the model says before it imagines.
THOUGHTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "default": {
        "pet": ("I need the view from the marked place after the turn.",),
        "pt": ("I need the view to the side at the midpoint of the path.",),
        "mvc": ("I need the whole area as seen from above.",),
    },
    "brief": {"pet": ("the view",), "pt": ("the side",), "mvc": ("the map",)},
}

RELEASE_LAYOUTS: Mapping[str, Layout] = {
    "pet": Layout(order=(("images",), ("system", "question"))),
    "mvc": Layout(order=(("images",), ("system", "question")), option="{letter}) {choice}", separator=" "),
    "pt": Layout(reference="<img><|image_{number}|></img>"),
}


def checked_text(value: Any) -> str:
    """``value``, if it is a text that says something; else ``TypeError``."""
    if not isinstance(value, str) or not value.strip():
        raise TypeError(f"expected text, got {value!r}")
    return value


def write_prompts(folder: Path, systems: Mapping[str, str], thoughts: Mapping[str, Sequence[str]]) -> Path:
    """Write ``prompts.json``, which `load_profile` reads, and return its path."""
    write_json(folder / PROMPTS_FILE, {"systems": dict(systems), "thoughts": {k: list(v) for k, v in thoughts.items()}})
    return folder / PROMPTS_FILE


@dataclass(frozen=True, slots=True)
class PromptPart:
    """One text of a prompt, or one input image."""

    role: Literal["system", "observation", "question"]
    text: str = ""
    image: SampleImage | None = None


def render_prompt(sample: SpatialSample, mode: str, profile: Profile) -> list[PromptPart]:
    """The prompt of ``sample`` for an imagination mode: what training shows and what inference sends, in order.

    A text that joins the system prompt and the question has the role of the question. Input images keep the order of the
    sample. ``BadSample`` names the sample and the field that cannot be rendered.
    """
    layout = profile.layout(sample.task)
    texts = {"system": profile.system(sample.task, mode), "question": question_text(sample, layout)}
    parts: list[PromptPart] = []
    for entry in layout.order:
        if entry == ("images",):
            parts += [PromptPart("observation", image=image) for image in sample.images]
        else:
            role: Literal["system", "question"] = "question" if "question" in entry else "system"
            parts.append(PromptPart(role, layout.joint.join(texts[part] for part in entry)))
    return parts


def question_text(sample: SpatialSample, layout: Layout) -> str:
    """Question and options in the format of ``layout``, markers escaped."""
    options = zip(sample.letters, sample.choices, strict=True)
    lines = [layout.option.format(letter=letter, choice=escape(choice)) for letter, choice in options]
    return layout.separator.join([name_images(sample, layout), *lines])


def name_images(sample: SpatialSample, layout: Layout) -> str:
    """The question with its image references written out and everything else that looks like a marker escaped."""
    pieces = REFERENCE.split(sample.question)
    for place in range(1, len(pieces), 2):
        number = int(pieces[place])
        if not 1 <= number <= len(sample.images):
            raise BadSample(
                f"sample '{sample.id}', field 'question': names image {number}, the sample has {len(sample.images)} images"
            )
        pieces[place] = layout.reference.format(number=number)
    pieces[::2] = [escape(piece) for piece in pieces[::2]]
    return "".join(pieces)


def escape(text: str) -> str:
    """``text`` with the angle bracket of every tag, image reference or special token in it written as ``&lt;``."""
    return MARKER.sub("&lt;", text)


def answer_text(sample: SpatialSample) -> str:
    """``<answer>B</answer>``; ``BadSample`` where nothing is to be answered."""
    return f"{ANSWER}{sample.letters[sample.answer_index]}{ANSWER_END}"


def think(text: str) -> str:
    """Words of reasoning between their tags, escaped."""
    return f"{THINK}{escape(text)}{THINK_END}"


def describe(text: str) -> str:
    """A described view between its tags, escaped."""
    return f"{DESCRIBE}{escape(text)}{DESCRIBE_END}"


def written(sample: SpatialSample, field_name: Literal["rationale", "caption"]) -> str:
    """A text field that a mode needs; ``BadSample`` where it is empty."""
    text: str = getattr(sample, field_name)
    if not text.strip():
        raise BadSample(f"sample '{sample.id}', field '{field_name}': this mode is trained on it, but it is empty")
    return text
