"""``SpatialSample``: the one record that generation, training, inference, evaluation and audit share."""

from __future__ import annotations

import base64
import json
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import quote

from ipt.common.errors import UserError
from ipt.common.images import RGB, decode_image
from ipt.samples.camera import Camera

SCHEMA_VERSION = 1

Task = Literal["pet", "pt", "mvc"]
Split = Literal["train", "val", "test"]
ImaginationKind = Literal["view", "side_view", "bev"]
TASKS: tuple[Task, ...] = get_args(Task)
SPLITS: tuple[Split, ...] = get_args(Split)


class BadSample(UserError):
    """A record that is not a valid sample; the message names the sample and the field."""


@dataclass(frozen=True, slots=True)
class SampleImage:
    """An encoded image (PNG, JPEG or WebP bytes), the part it plays, and the camera that took it.

    ``data`` is empty only in the imagination of a sample that has none (questions of other people's benchmarks).

    Roles of inputs: ``observation`` (first-person), ``map`` (top-down), ``ego_1``/``ego_2`` (first-person at a waypoint),
    ``frame_0`` ... (views of a trajectory). An imagination's role is its kind; a counterfactual names its change.
    """

    data: bytes
    role: str
    camera: Camera | None = None

    def pixels(self) -> RGB:
        """Decoded pixels, (height, width, 3) uint8; a broken image is a ``BadImage`` error."""
        return decode_image(self.data, self.role)


def picture_path(folder: Path, sample_id: str) -> Path:
    """Where a folder of pictures, one per sample, holds that of a sample."""
    return folder / f"{quote(sample_id, safe='')}.png"


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

    ``answer`` is the letter of the right choice. A sample without ``choices`` asks for its imagination and for nothing else:
    ``question`` says what to draw, there is no answer, and ``task`` is the one that imagines such pictures. ``question_type`` is
    the stratum that metrics average over (PET: six sub-categories). ``facts`` is machine-checkable ground truth (JSON values
    only). ``counterfactuals`` are optional wrong imaginations for analysis.
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
        for name in ("id", "question", "question_type", "answer", "rationale", "caption"):
            self._check(isinstance(getattr(self, name), str), name, "must be text")
        self._check(self.schema_version == SCHEMA_VERSION, "schema_version", f"expected {SCHEMA_VERSION}")
        self._check(bool(self.id), "id", "must not be empty")
        self._check(self.task in TASKS, "task", f"must be one of {', '.join(TASKS)}")
        self._check(self.split in SPLITS, "split", f"must be one of {', '.join(SPLITS)}")
        self._check(bool(self.question.strip()), "question", "must not be empty")
        self._check(len(self.choices) != 1 and len(self.choices) <= 26, "choices", "needs 2 to 26 entries, or none")
        self._check(
            bool(self.choices) or self.has_imagination, "imagination", "must be there where there are no choices"
        )
        is_text = all(isinstance(choice, str) and choice.strip() for choice in self.choices)
        self._check(is_text, "choices", "must be text, none of it empty")
        self._check(len(set(self.choices)) == len(self.choices), "choices", "must differ from each other")
        rule = (
            f"must be one of {', '.join(self.letters)}" if self.choices else "must be empty where there are no choices"
        )
        self._check(self.answer in (self.letters or ("",)), "answer", rule)
        self._check(bool(self.images), "images", "needs at least one input image")
        self._check(
            self.imagination.role in get_args(ImaginationKind), "imagination.role", "must be view, side_view or bev"
        )
        try:  # tuples become lists here, so that a sample equals its stored self
            facts = json.loads(json.dumps(self.facts, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise BadSample(f"sample '{self.id}', field 'facts': only JSON values are allowed ({error})") from error
        self._check(isinstance(facts, dict), "facts", "must be a mapping")
        object.__setattr__(self, "facts", facts)

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
        """The place of the right choice; ``BadSample`` where nothing is to be answered."""
        self._check(bool(self.choices), "choices", "this sample asks for a picture alone, there is nothing to answer")
        return self.letters.index(self.answer)

    @property
    def has_imagination(self) -> bool:
        """Whether the true imagination is known; it is in all samples of our own."""
        return bool(self.imagination.data)

    @property
    def answer_text(self) -> str:
        return self.choices[self.answer_index]

    def with_choices(self, choices: Sequence[str], answer_text: str) -> SpatialSample:
        """The same question with other or reordered options, one of which must be ``answer_text``."""
        letter = string.ascii_uppercase[list(choices).index(answer_text)]
        return replace(self, choices=tuple(choices), answer=letter)

    def to_record(self) -> dict[str, Any]:
        """A flat record: one row of the parquet store. Pictures are columns of their own (``images``, ``imagination``,
        ``counterfactuals``), with roles and cameras beside them, because the Hugging Face viewer shows no nested ones.
        """
        return {
            "schema_version": self.schema_version,
            "id": self.id,
            "task": self.task,
            "split": self.split,
            "question": self.question,
            "question_type": self.question_type,
            "choices": list(self.choices),
            "answer": self.answer,
            **images_to_columns("images", self.images),
            **{name: values[0] for name, values in images_to_columns("imagination", (self.imagination,)).items()},
            **({} if self.has_imagination else {"imagination": None}),
            "rationale": self.rationale,
            "caption": self.caption,
            "facts": json.dumps(self.facts, sort_keys=True, allow_nan=False),
            "provenance": {name: getattr(self.provenance, name) for name in Provenance.__dataclass_fields__},
            **images_to_columns("counterfactuals", self.counterfactuals),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> SpatialSample:
        """Inverse of :meth:`to_record`; ``BadSample`` names the sample and the field that is wrong."""
        name = str(record.get("id", "?"))
        unknown, missing = sorted(set(record) - set(RECORD_FIELDS)), sorted(set(RECORD_FIELDS) - set(record))
        if unknown or missing:
            raise BadSample(f"sample '{name}': unknown fields {unknown}, missing fields {missing}")
        fields = {key: value for key, value in record.items() if key in cls.__dataclass_fields__}
        field_name = ""
        try:
            for field_name, convert in CONVERTERS.items():
                fields[field_name] = convert(record)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise BadSample(f"sample '{name}', field '{field_name}': {error}") from error
        return cls(**fields)

    def to_json(self) -> str:
        """The record as one line of JSON, pictures in base64."""
        return json.dumps(
            self.to_record(), sort_keys=True, allow_nan=False, default=lambda data: base64.b64encode(data).decode()
        )

    @classmethod
    def from_json(cls, text: str) -> SpatialSample:
        """Inverse of :meth:`to_json`."""
        record = json.loads(text)
        for picture in filter(None, (*record["images"], record["imagination"], *record["counterfactuals"])):
            picture["bytes"] = base64.b64decode(picture["bytes"], validate=True)
        return cls.from_record(record)


def images_to_columns(column: str, images: Sequence[SampleImage]) -> dict[str, list[Any]]:
    """Three parallel columns; ``bytes`` and ``path`` are the names by which Hugging Face recognises a picture."""
    return {
        column: [{"bytes": image.data, "path": None} for image in images],
        f"{column}_role": [image.role for image in images],
        f"{column}_camera": [
            None if image.camera is None else json.dumps(image.camera.to_json(), sort_keys=True) for image in images
        ],
    }


def images_from_columns(column: str, record: Mapping[str, Any]) -> tuple[SampleImage, ...]:
    """Inverse of :func:`images_to_columns`; ``ValueError`` for anything but embedded bytes."""
    rows = zip(record[column], record[f"{column}_role"], record[f"{column}_camera"], strict=True)
    return tuple(image_from_cells(*row) for row in rows)


def image_from_cells(picture: Mapping[str, Any], role: str, camera: str | None) -> SampleImage:
    if not isinstance(picture["bytes"], bytes) or picture["path"] is not None:
        raise UserError("images must be embedded as bytes; paths and URLs are not followed")
    return SampleImage(picture["bytes"], role, None if camera is None else Camera.from_json(json.loads(camera)))


RECORD_FIELDS: tuple[str, ...] = (
    *SpatialSample.__dataclass_fields__,
    *(f"{column}_{part}" for column in ("images", "imagination", "counterfactuals") for part in ("role", "camera")),
)
CONVERTERS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "choices": lambda record: tuple(record["choices"]),
    "images": lambda record: images_from_columns("images", record),
    "imagination": lambda record: image_from_cells(
        {"bytes": b"", "path": None} if record["imagination"] is None else record["imagination"],
        record["imagination_role"],
        record["imagination_camera"],
    ),
    "facts": lambda record: json.loads(record["facts"]),
    "provenance": lambda record: Provenance(**record["provenance"]),
    "counterfactuals": lambda record: images_from_columns("counterfactuals", record),
}
