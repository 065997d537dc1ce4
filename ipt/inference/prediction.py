"""What inference leaves behind: one `Prediction` per sample in a run folder, from which metrics and reports are computed.

    run.json           `RunManifest`, written first
    predictions.jsonl  one line per sample, in any order
    images/            imagined pictures, named by `image_name`
    done.json          counts, written last: the run is complete

`PredictionWriter` writes such a folder, `read_run` reads it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO
from urllib.parse import quote

from ipt.common.errors import MissingFile, UserError
from ipt.common.files import CorruptFile, read_json, write_json
from ipt.common.locking import held
from ipt.common.settings import differences, typed
from ipt.samples.sample import SpatialSample

SCHEMA_VERSION = 1
MANIFEST, PREDICTIONS, IMAGES, DONE = "run.json", "predictions.jsonl", "images", "done.json"
MODES = ("answer_only", "imagination", "gt_imagination", "wrong_imagination", "free", "selective")
MAX_NAME = 160
MAX_ERROR = 1000


@dataclass(frozen=True)
class Prediction:
    """What a model answered to one sample.

    ``task``, ``sub_category`` (the question type; for PET one of six), ``scene``, ``split``, ``question``, ``choices`` and
    ``expected`` (index of the right choice) repeat the sample. ``mode``: the column of a table that it belongs to.
    ``answer``: index of the chosen option, ``None`` where ``text`` names none. ``probabilities``: of the options, normalised
    over them; empty where they were not asked for. ``thoughts``: texts written before the answer; ``images``: names of
    imagined pictures, relative to the run folder; ``votes``: the answers of several imaginations. ``opened_image``: the model
    announced an image. ``error``: why there is no answer; where not even the sample could be read, ``choices`` is empty and
    ``expected`` -1.

    Raises ``ValueError`` for an index outside ``choices``, probabilities that are none, or an answer beside an error.
    """

    sample_id: str
    task: str
    sub_category: str
    scene: str
    split: str
    mode: str
    question: str
    choices: tuple[str, ...]
    expected: int
    answer: int | None = None
    probabilities: tuple[float, ...] = ()
    text: str = ""
    thoughts: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    opened_image: bool = False
    text_tokens: int = 0
    image_tokens: int = 0
    seconds: float = 0.0
    seed: int = 0
    votes: tuple[int | None, ...] = ()
    error: str | None = None
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        options = range(len(self.choices))
        self._check(self.schema_version == SCHEMA_VERSION, "schema_version", f"must be {SCHEMA_VERSION}")
        unread = self.error is not None and not options and self.expected == -1
        self._check(unread or self.expected in options, "expected", f"must be an index of {len(options)} choices")
        self._check(self.answer is None or self.answer in options, "answer", "must be an index of the choices or None")
        self._check(
            all(v is None or v in options for v in self.votes), "votes", "must be indices of the choices or None"
        )
        self._check(self.answer is None or self.error is None, "error", "stands beside an answer")
        if self.probabilities:
            one_each = len(self.probabilities) == len(options) and min(self.probabilities) >= 0
            self._check(
                one_each and abs(sum(self.probabilities) - 1) < 1e-3,
                "probabilities",
                "must be one per choice, of sum 1",
            )

    def _check(self, holds: bool, name: str, rule: str) -> None:
        if not holds:
            raise UserError(f"prediction '{self.sample_id}', field '{name}': {rule}, got {getattr(self, name)!r}")

    @property
    def correct(self) -> bool:
        return self.answer == self.expected

    def failed(self, error: Exception) -> Prediction:
        """The prediction of a question that could not be answered."""
        return replace(self, error=described(error))

    def to_json(self) -> str:
        """One line, without its end."""
        return json.dumps(asdict(self), allow_nan=False)

    @classmethod
    def from_json(cls, line: str | bytes) -> Prediction:
        """Inverse of `to_json`; ``ValueError`` says what is wrong."""
        return typed(cls, json.loads(line), "prediction")


def about(sample: SpatialSample, mode: str, seed: int = 0) -> Prediction:
    """What a prediction repeats of its sample, without an answer."""
    return Prediction(
        sample_id=sample.id,
        task=sample.task,
        sub_category=sample.question_type,
        scene=sample.provenance.scene_id,
        split=sample.split,
        mode=mode,
        question=sample.question,
        choices=sample.choices,
        expected=sample.answer_index,
        seed=seed,
    )


def unread(sample_id: str, mode: str, error: Exception, seed: int = 0) -> Prediction:
    """The prediction of a sample that could not be read."""
    return Prediction(sample_id, "", "", "", "", mode, "", (), -1, seed=seed, error=described(error))


def described(error: Exception) -> str:
    """An error in one line: its kind, then its message."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:MAX_ERROR]


@dataclass(frozen=True)
class RunManifest:
    """What a run is: where the model (``checkpoint``, with the SHA-256 of its weights) and the questions (``data``, with that of
    the folder's manifest) come from, the mode's ``settings``, and the code that ran. ``versions``: of libraries, by name."""

    checkpoint: str
    checkpoint_sha256: str
    data: str
    data_sha256: str
    mode: str
    settings: Mapping[str, Any]
    seed: int
    code_revision: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    #: Fields that may differ when a run is continued: they do not change what is asked, or of what.
    MAY_CHANGE = ("checkpoint", "data", "code_revision", "versions")

    def check_same(self, other: RunManifest, folder: Path) -> None:
        """Raise ``ValueError`` naming the fields in which the run that ``folder`` holds, ``other``, is another one."""
        if changed := differences(asdict(other), asdict(self), self.MAY_CHANGE):
            raise UserError(f"{folder} holds another run ({changed}); restore it, or set another output_dir")


@dataclass(frozen=True)
class Run:
    """A run folder as read: ``done`` is ``None`` while it is unfinished."""

    folder: Path
    manifest: RunManifest
    predictions: tuple[Prediction, ...]
    done: Mapping[str, Any] | None = None


def read_manifest(folder: Path) -> RunManifest:
    """``run.json`` of a run folder. ``FileNotFoundError`` for a folder that is none, ``CorruptFile`` for an unreadable one."""
    path = folder / MANIFEST
    if not path.is_file():
        raise MissingFile(f"{folder} is no run of inference: it has no {MANIFEST}")
    try:
        return typed(RunManifest, read_json(path), MANIFEST)
    except UserError as error:
        raise CorruptFile(f"{path} is not the manifest of a run: {error}") from error


def read_run(folder: Path | str) -> Run:
    """A run and its predictions. A last line that was cut off is left out.

    Raises ``FileNotFoundError`` and ``CorruptFile``, which names file and line: also for a sample that occurs twice.
    """
    folder = Path(folder)
    manifest, (predictions, _) = read_manifest(folder), read_predictions(folder / PREDICTIONS)
    done = read_json(folder / DONE) if (folder / DONE).is_file() else None
    return Run(folder, manifest, tuple(predictions), done)


def read_predictions(path: Path) -> tuple[list[Prediction], int]:
    """The predictions of a file, and the bytes that their lines take; a last line without its end is not one of them."""
    if not path.is_file():
        return [], 0
    data = path.read_bytes()
    complete = data.rfind(b"\n") + 1
    predictions, seen = [], set()
    for number, line in enumerate(data[:complete].splitlines(), start=1):
        try:
            prediction = Prediction.from_json(line)
        except (ValueError, TypeError) as error:
            raise CorruptFile(f"{path}, line {number}: {error}") from error
        if prediction.sample_id in seen:
            raise CorruptFile(f"{path}, line {number}: sample '{prediction.sample_id}' occurs a second time")
        seen.add(prediction.sample_id)
        predictions.append(prediction)
    return predictions, complete


class PredictionWriter:
    """Appends predictions to a run folder, each on disk before `write` returns. A context manager.

    Opening a folder that holds the same run continues it: ``finished`` are its predictions, and a torn last line is cut off.
    Raises ``ValueError`` where the folder holds another run or another process writes it, ``CorruptFile`` for damaged
    predictions.
    """

    def __init__(self, folder: Path, manifest: RunManifest) -> None:
        self.folder, self.manifest = folder, manifest
        self.finished: list[Prediction] = []
        self._stream: BinaryIO | None = None
        self._open = ExitStack()

    def __enter__(self) -> PredictionWriter:
        with ExitStack() as opening:
            opening.enter_context(held(self.folder))
            self._stream = opening.enter_context(self._continued())
            self._open = opening.pop_all()
        return self

    def _continued(self) -> BinaryIO:
        """The folder checked and cleared of what was cut short, its predictions read and open to be appended to."""
        path = self.folder / PREDICTIONS
        if (self.folder / MANIFEST).is_file():
            self.manifest.check_same(read_manifest(self.folder), self.folder)
        elif path.is_file():
            raise CorruptFile(f"{self.folder} holds {PREDICTIONS} without {MANIFEST}; set another output_dir")
        else:
            write_json(self.folder / MANIFEST, asdict(self.manifest))
        for partial in self.folder.rglob(".*.partial"):  # what a killed process had not finished
            partial.unlink()
        self.finished, complete = read_predictions(path)
        stream = path.open("ab")
        stream.truncate(complete)
        return stream

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def write(self, predictions: Iterable[Prediction]) -> None:
        """Append. A failure (full disk) leaves whole lines only."""
        assert self._stream is not None, "the writer is not open"
        start = os.fstat(self._stream.fileno()).st_size
        try:
            self._stream.write("".join(prediction.to_json() + "\n" for prediction in predictions).encode())
            self._stream.flush()
            os.fsync(self._stream.fileno())
        except OSError:
            os.ftruncate(self._stream.fileno(), start)
            raise

    def finish(self, seconds: float) -> dict[str, Any]:
        """Write ``done.json`` from all predictions of the folder and return it."""
        predictions, _ = read_predictions(self.folder / PREDICTIONS)
        done = {**counts(predictions), "seconds": seconds}
        write_json(self.folder / DONE, done)
        return done


def counts(predictions: Iterable[Prediction]) -> dict[str, Any]:
    """Predictions that ended in an answer, in a text that names none, and in an error, by the error's first words."""
    listed = list(predictions)
    errors = Counter(p.error.partition(":")[0] for p in listed if p.error is not None)
    answered = sum(p.answer is not None for p in listed)
    return {
        "samples": len(listed),
        "answered": answered,
        "invalid": len(listed) - answered - sum(errors.values()),
        "errors": dict(errors),
    }


def image_name(sample_id: str, *numbers: int) -> str:
    """The file of a sample's imagination, or of one of several, relative to the run folder. Names that would be too long for a
    file system end in a digest."""
    name = quote(sample_id, safe="")
    if len(name) > MAX_NAME:
        name = f"{name[: MAX_NAME - 65]}-{hashlib.sha256(sample_id.encode()).hexdigest()}"
    return f"{IMAGES}/{'-'.join([name, *map(str, numbers)])}.png"


def without_seconds(prediction: Prediction) -> Prediction:
    """The prediction without what depends on the machine: for comparisons of runs."""
    return replace(prediction, seconds=0.0)
