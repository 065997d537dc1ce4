"""``SpatialSample``: the one record that generation, training, inference, evaluation and audit share."""

from __future__ import annotations

import json
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from ipt.common.images import RGB, decode_image
from ipt.samples.camera import Camera

SCHEMA_VERSION = 1

Task = Literal["pet", "pt", "mvc"]
Split = Literal["train", "val", "test"]
ImaginationKind = Literal["view", "side_view", "bev"]
TASKS: tuple[Task, ...] = get_args(Task)
SPLITS: tuple[Split, ...] = get_args(Split)


class BadSample(ValueError):
    """A record that is not a valid sample; the message names the sample and the field."""


@dataclass(frozen=True, slots=True)
class SampleImage:
    """An encoded image (PNG, JPEG or WebP bytes), the part it plays, and the camera that took it.

    Roles of inputs: ``observation`` (first-person), ``map`` (top-down), ``ego_1``/``ego_2`` (first-person at a waypoint),
    ``frame_0`` ... (views of a trajectory). An imagination's role is its kind; a counterfactual names its change.
    """

    data: bytes
    role: str
    camera: Camera | None = None

    def pixels(self) -> RGB:
        """Decoded pixels, (height, width, 3) uint8; a broken image is a ``BadImage`` error."""
        return decode_image(self.data, self.role)


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a sample comes from: enough to make it again."""

    backend: str
    backend_version: str
    scene_id: str
    seed: int
    code_revision: str = ""
    config_sha256: str = ""


@dataclass(frozen=True, slots=True)
class SpatialSample:
    """One question with its pictures, its ground-truth imagination and everything that is known to be true about it.

    ``answer`` is the letter of the right choice. ``question_type`` is the stratum that metrics average over (PET: six
    sub-categories). ``facts`` is machine-checkable ground truth (JSON values only). ``counterfactuals`` are optional
    wrong imaginations for analysis.
    """

    id: str
    task: Task
    split: Split
    question: str
    question_type: str
    choices: tuple[str, ...]
    answer: str
    images: tuple[SampleImage, ...]
    imagination: SampleImage
    rationale: str
    caption: str
    provenance: Provenance
    facts: Mapping[str, Any] = field(default_factory=dict)
    counterfactuals: tuple[SampleImage, ...] = ()
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        self._check(self.schema_version == SCHEMA_VERSION, "schema_version", f"expected {SCHEMA_VERSION}")
        self._check(bool(self.id), "id", "must not be empty")
        self._check(self.task in TASKS, "task", f"must be one of {', '.join(TASKS)}")
        self._check(self.split in SPLITS, "split", f"must be one of {', '.join(SPLITS)}")
        self._check(bool(self.question.strip()), "question", "must not be empty")
        self._check(2 <= len(self.choices) <= 26, "choices", "needs 2 to 26 entries")
        self._check(len(set(self.choices)) == len(self.choices), "choices", "must differ from each other")
        self._check(all(choice.strip() for choice in self.choices), "choices", "must not be empty")
        self._check(self.answer in self.letters, "answer", f"must be one of {', '.join(self.letters)}")
        self._check(bool(self.images), "images", "needs at least one input image")
        self._check(
            self.imagination.role in get_args(ImaginationKind), "imagination.role", "must be view, side_view or bev"
        )

    def _check(self, holds: bool, name: str, rule: str) -> None:
        if not holds:
            value = getattr(self, name.split(".")[0])
            raise BadSample(f"sample '{self.id}', field '{name}': {rule}, got {str(value)[:80]!r}")

    @property
    def letters(self) -> tuple[str, ...]:
        """Letters of the choices: A, B, ..."""
        return tuple(string.ascii_uppercase[: len(self.choices)])

    @property
    def answer_index(self) -> int:
        return self.letters.index(self.answer)

    @property
    def answer_text(self) -> str:
        return self.choices[self.answer_index]

    def with_choices(self, choices: Sequence[str], answer_text: str) -> SpatialSample:
        """The same question with other or reordered options, one of which must be ``answer_text``."""
        letter = string.ascii_uppercase[list(choices).index(answer_text)]
        return replace(self, choices=tuple(choices), answer=letter)

    def to_record(self) -> dict[str, Any]:
        """A flat record of strings, bytes and lists: one row of the parquet store."""
        return {
            "schema_version": self.schema_version,
            "id": self.id,
            "task": self.task,
            "split": self.split,
            "question": self.question,
            "question_type": self.question_type,
            "choices": list(self.choices),
            "answer": self.answer,
            "images": [image_record(image) for image in self.images],
            "imagination": image_record(self.imagination),
            "rationale": self.rationale,
            "caption": self.caption,
            "facts": json.dumps(self.facts, sort_keys=True, allow_nan=False),
            "provenance": {name: getattr(self.provenance, name) for name in Provenance.__dataclass_fields__},
            "counterfactuals": [image_record(image) for image in self.counterfactuals],
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> SpatialSample:
        """Inverse of :meth:`to_record`; ``BadSample`` names the sample and the field that is wrong."""
        name = str(record.get("id", "?"))
        unknown = sorted(set(record) - set(cls.__dataclass_fields__))
        missing = sorted(set(cls.__dataclass_fields__) - set(record))
        if unknown or missing:
            raise BadSample(f"sample '{name}': unknown fields {unknown}, missing fields {missing}")
        fields = dict(record)
        try:
            for field_name, convert in CONVERTERS.items():
                fields[field_name] = convert(fields[field_name])
        except (KeyError, TypeError, ValueError) as error:
            raise BadSample(f"sample '{name}', field '{field_name}': {error!r}") from error
        return cls(**fields)


def image_record(image: SampleImage) -> dict[str, Any]:
    """``bytes`` is the column name that the Hugging Face viewer shows as a picture; ``path`` carries the role."""
    camera = None if image.camera is None else json.dumps(image.camera.to_json(), sort_keys=True)
    return {"image": {"bytes": image.data, "path": None}, "role": image.role, "camera": camera}


def image_from_record(record: Mapping[str, Any]) -> SampleImage:
    data = record["image"]["bytes"]
    if not isinstance(data, bytes) or record["image"].get("path"):
        raise ValueError("images must be embedded as bytes; paths and URLs are not followed")
    camera = None if record["camera"] is None else Camera.from_json(json.loads(record["camera"]))
    return SampleImage(data, record["role"], camera)


def images_from_records(records: Sequence[Mapping[str, Any]]) -> tuple[SampleImage, ...]:
    return tuple(image_from_record(record) for record in records)


CONVERTERS: Mapping[str, Any] = {
    "choices": tuple,
    "images": images_from_records,
    "imagination": image_from_record,
    "facts": json.loads,
    "provenance": lambda record: Provenance(**record),
    "counterfactuals": images_from_records,
}
