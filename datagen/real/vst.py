"""VST: pairs of first-person pictures and how the camera moved between them, as instructions to imagine the second one.

Layout of the published set (huggingface.co/datasets/rayruiyang/vst_500k; read as ``tools/parse_vst_500k.py`` of
github.com/Yangr116/VST does): ``mi_camera_motion/*.parquet`` with columns ``id``, ``images`` (list of ``{bytes}``) and
``conversations`` (list of ``{from, value}``): a person's question with lettered options, and the answer, such as ``C. left and
forward``.

The IPT paper lets a language model rewrite each answer into an instruction that leads from the first picture to the second. The
answers are a handful of direction words, so that rules do it here, the same way every time: what they do not understand word for
word is left out and counted. Where the question takes the second picture as its reference, the answer describes the way back,
and every direction is turned round. A sample has no choices: it asks for the picture alone.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from datagen.backends.base import SceneError, SceneInfo
from datagen.backends.embedded.backend import package_version
from datagen.balance import Deck
from datagen.real.motion import KINDS, motion_of
from datagen.real.recorded import RecordedBackend, fitted, named, required_fields
from datagen.tasks.base import Candidate, Question, SceneView, Selector, SpatialTask
from datagen.yields import Yields
from ipt.common.errors import UserError
from ipt.common.images import encode_image, open_image
from ipt.common.registry import unknown_name
from ipt.samples.questions import word, wordings
from ipt.samples.sample import SampleImage, Task

LICENCE = "VST (Yang et al., 2025): released for academic purposes; its pictures are from other sets, whose terms hold as well"
COLUMNS = ("id", "images", "conversations")
PAD = re.compile(r"<\|?image(?:_pad)?\|?>")


@dataclass(frozen=True, slots=True)
class VstConfig:
    """``root``: the downloaded ``vst_500k``; ``folder``: the part of it about the motion of the camera.

    ``kinds``: of motions, ``move`` and ``turn``. ``min_change``: mean difference of the two pictures in grey levels (of 255, on a
    32 x 32 lattice), at least: where less has changed, no motion can be seen.
    """

    root: str = ""
    folder: str = "mi_camera_motion"
    kinds: tuple[str, ...] = KINDS
    min_change: float = 4.0

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in KINDS:
                raise UserError(unknown_name("backend.kinds", kind, KINDS))
        if not self.kinds or self.min_change < 0:
            wrong = "backend.min_change must not be negative" if self.kinds else "backend.kinds must not be empty"
            raise UserError(wrong)


@dataclass(frozen=True, slots=True)
class Pair:
    """A row: where it is, its pictures as they are stored, and the words of question and answer."""

    where: str
    pictures: tuple[bytes, ...]
    question: str
    answer: str


class VstBackend(RecordedBackend):
    """See the module's docstring. A scene is a row: the set does not say which rows were taken in one place."""

    name: ClassVar[str] = "vst"
    layout: ClassVar[str] = "backend.root must be the downloaded vst_500k, with mi_camera_motion/*.parquet"

    def __init__(self, config: VstConfig) -> None:
        super().__init__(config.root)
        self.config = config
        self._files: list[tuple[str, pq.ParquetFile]] = []
        self._scenes: dict[str, tuple[int, int]] = {}
        self._group: tuple[int, int, pa.Table] | None = None
        self._pair: Pair | None = None

    @property
    def version(self) -> str:
        return f"vst-{package_version()}"

    @property
    def pair(self) -> Pair:
        """The loaded row."""
        if self._pair is None:
            raise SceneError("no scene is loaded; call load(scene_id) first")
        return self._pair

    def _listed(self, split: str) -> Sequence[str]:
        if split != "train":
            raise SceneError(
                f"VST has no split '{split}': it does not say which rows show one place, so that none can be held out; "
                "use split=train, and test on another set"
            )
        self._open()
        return list(self._scenes)

    def _open(self) -> None:
        """Open every file and name its rows; ``SceneError`` names a file that is cut short or has other columns."""
        if self._files:
            return
        paths = sorted((self.root / self.config.folder).glob("*.parquet"))
        if not paths:
            raise SceneError(f"{self.config.folder} has no *.parquet in {self.root}; {self.layout}")
        files = []
        for path in paths:
            name = f"{self.config.folder}/{path.name}"
            with named(name):
                file = pq.ParquetFile(path)
                for column in COLUMNS:
                    if column not in file.schema_arrow.names:
                        raise SceneError(f"{name}: column '{column}' is missing")
            files.append((name, file))
        self._files = files
        self._scenes = {
            f"{path.stem}-row{row}": (number, row)
            for number, (path, (_, file)) in enumerate(zip(paths, files, strict=True))
            for row in range(file.metadata.num_rows)
        }

    def load(self, scene_id: str) -> SceneInfo:
        self._open()
        if scene_id not in self._scenes:
            raise SceneError(f"row '{scene_id}' is in none of {self.config.folder}/*.parquet")
        number, row = self._scenes[scene_id]
        where = f"{self._files[number][0]}, row {row}"
        self._pair = None
        with named(where):
            self._pair = read_pair(self._row(number, row), where)
        zero = (0.0, 0.0, 0.0)
        self._info = SceneInfo(scene_id, self.name, self.version, zero, zero, source_licence=LICENCE)
        return self._info

    def _row(self, number: int, row: int) -> dict[str, Any]:
        """A row of a file; the row group that it is in stays in memory."""
        name, file = self._files[number]
        counts = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        starts = list(accumulate(counts, initial=0))
        group = bisect_right(starts, row) - 1
        if self._group is None or self._group[:2] != (number, group):
            with named(name):
                self._group = number, group, file.read_row_group(group, columns=list(COLUMNS))
        found: dict[str, Any] = self._group[2].slice(row - starts[group], 1).to_pylist()[0]
        return found

    def close(self) -> None:
        super().close()
        for _, file in self._files:
            file.close()
        self._files, self._scenes, self._group, self._pair = [], {}, None, None

    def answer_from_labels(self, facts: Mapping[str, Any]) -> str | None:
        """The motion that the loaded row tells."""
        motion = motion_of(self.pair.question, self.pair.answer, self.pair.where, Yields())
        return None if motion is None else motion.name


class VstMotion(SpatialTask):
    """A question a row: the second picture is asked for, in words that lead to it."""

    name: ClassVar[Task] = "pet"
    needs: ClassVar[frozenset[str]] = frozenset()

    @property
    def required(self) -> frozenset[str]:
        """Wrong imaginations need views that can be rendered, and an arrow needs a floor to be drawn on."""
        arrow = getattr(self.config, "arrow", "without") != "without"
        return super().required | ({"rgb"} if self.config.counterfactuals.enabled or arrow else frozenset())

    def propose(self, scene: SceneView, rng: np.random.Generator, yields: Yields) -> list[Candidate]:
        backend = scene.backend
        assert isinstance(backend, VstBackend)
        pair = backend.pair
        if not yields.check("row.two_pictures", len(pair.pictures) == 2):
            return []
        motion = motion_of(pair.question, pair.answer, pair.where, yields)
        if motion is None or not yields.check("motion.wanted_kind", motion.kind in backend.config.kinds):
            return []
        pictures = [opened(data, f"{pair.where}, images[{place}]") for place, data in enumerate(pair.pictures)]
        if not yields.check("pictures.differ", change(*pictures) >= backend.config.min_change):
            return []
        first, second = (
            encode_image(
                fitted(picture, (0, 0, *picture.size), scene.image_size),
                self.config.image_format,  # type: ignore[arg-type]
            )
            for picture in pictures
        )
        facts = {
            "answer": motion.name,
            "kind": motion.kind,
            "directions": list(motion.directions),
            "instruction": motion.instruction,
            "reference": motion.reference,
            "asked": pair.question,
            "said": pair.answer,
        }
        return [Candidate("0", facts, (SampleImage(first, "observation"),), SampleImage(second, "view"))]

    def selector(self, count: int, rng: np.random.Generator) -> Selector:
        return VstSelector(count, self.config.plain, rng)


class VstSelector:
    """Rows as they come, each once however often the set is gone through."""

    def __init__(self, count: int, plain: bool, rng: np.random.Generator) -> None:
        self._left = count
        self._templates = Deck(wordings(plain)["pet_view"], rng)

    @property
    def remaining(self) -> int:
        return self._left

    def pending(self) -> frozenset[str]:
        return frozenset()

    def offer(self, candidate_id: str, facts: Mapping[str, Any]) -> list[Question]:
        again = re.search(r"-row\d+-turn\d+-0$", candidate_id)
        if not self._left or again:
            return []
        self._left -= 1
        template = self._templates.deal()
        return [
            Question(
                candidate_id=candidate_id,
                question=word(template, motion=facts["instruction"]),
                question_type=f"view_after_{facts['kind']}",
                choices=(),
                answer_text="",
                rationale="",
                caption="",
                facts={**facts, "template": template.id, "person": template.person},
            )
        ]


def read_pair(row: Mapping[str, Any], where: str) -> Pair:
    """A row's pictures, and its first question and answer; ``SceneError`` names the field that is wrong."""
    turns = row["conversations"]
    said = []
    for place, speaker in enumerate(("human", "gpt")):
        here = f"{where}, conversations[{place}]"
        turn = required_fields(turns[place] if place < len(turns or ()) else None, here, "from", "value")
        if turn["from"] != speaker or not isinstance(turn["value"], str) or not turn["value"].strip():
            raise SceneError(f"{here}: expected words of '{speaker}', got {str(turn)[:60]!r}")
        said.append(PAD.sub(" ", turn["value"]).strip())
    pictures = []
    for place, entry in enumerate(row["images"] or ()):
        data = required_fields(entry, f"{where}, images[{place}]", "bytes")["bytes"]
        if not isinstance(data, bytes):
            raise SceneError(f"{where}, images[{place}]: field 'bytes' must be an encoded picture, got {data!r:.40}")
        pictures.append(data)
    return Pair(where, tuple(pictures), said[0], said[1])


def opened(data: bytes, where: str) -> Image.Image:
    """A stored picture; ``SceneError`` names file, row and place of a broken one."""
    with named(where):
        return open_image(data, where)


def change(one: Image.Image, other: Image.Image) -> float:
    """Mean difference of two pictures, in grey levels of 255."""
    greys = [
        np.asarray(picture.convert("L").resize((32, 32), Image.Resampling.BOX), np.float64) for picture in (one, other)
    ]
    return float(np.abs(greys[0] - greys[1]).mean())
