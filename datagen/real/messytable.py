"""MessyTable: tables full of things, photographed by nine cameras, with instance ids that hold across them.

Layout of the published archive (github.com/caizhongang/MessyTable, ``src/data.py``): ``images/SCENE-0C.jpg`` for cameras C = 1 to
9, and ``labels/{train,val,test}.json`` with ``scenes: {SCENE: {cameras: {C: {extrinsics: [x, y, z, rx, ry, rz], instances: {ID:
{subcls, cls, pos: [x1, y1, x2, y2]}}}}}}``. Extrinsics are a camera's pose in a common frame, angles in radians about x, y, z.

The question shows some of the side cameras and asks how many there are of a kind of thing; the view of the camera above the table
is the imagination (IPT paper, real data for MVC).
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from datagen.backends.base import Floats, SceneError, SceneInfo
from datagen.backends.embedded.backend import package_version
from datagen.real.recorded import Box, RecordedBackend, fitted, named, required_fields, union
from datagen.tasks.base import Candidate, SceneView
from datagen.tasks.multiview_counting import MultiviewCounting
from datagen.tasks.places import candidate_key
from datagen.tasks.vocabulary import looks_like, vocabulary_of
from datagen.yields import Yields
from ipt.common.errors import UserError
from ipt.common.files import read_json
from ipt.common.images import encode_image
from ipt.samples.sample import SPLITS, SampleImage

CAMERAS = tuple(str(number) for number in range(1, 10))
LICENCE = "MessyTable (Cai et al., ECCV 2020): ask its authors before sharing its pictures or samples made of them"
#: Nouns of subclasses 1 to 120: 60 goods, 23 fruits and vegetables, 13 bakery products, 24 pieces of tableware. Subclasses that
#: words do not tell apart (24 sorts of snack) share a noun and are counted together.
NOUNS = (
    *["water bottle"] * 2, "pepsi", *["coke"] * 4, *["tea bottle"] * 2, "yogurt", *["instant ramen"] * 7, *["juice box"] * 2,
    *["can"] * 9, *["ham"] * 2, *["pack"] * 6, *["snack"] * 24,
    "green apple", "red apple", "tangerine", "lime", "lemon", "yellow quince", "green quince", "white quince", *["fruit"] * 2,
    "peach", "banana", "fruit", "pineapple", "fruit", "strawberry", "cherry", "red bell pepper", "green bell pepper", "carrot",
    *["cabbage"] * 2, "eggplant",
    "bread", "baguette", "sandwich", "hamburger", "hot dog", "donut", "cake", "onion", "marshmallow", "mooncake",
    "piece of shrimp sushi", *["piece of sushi"] * 2,
    "big spoon", "small spoon", "fork", "knife", "big plate", "small plate", "bowl", "white rice bowl", "blue rice bowl",
    "black rice bowl", "green rice bowl", "black mug", "gray mug", "pink mug", "green mug", "blue mug", "blue cup", "orange cup",
    "yellow cup", "big wineglass", "small wineglass", *["glass"] * 3,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class MessyTableConfig:
    """``root``: the unzipped archive. ``top_camera``: the one above the table. ``names``: a JSON file {subclass: noun} that
    replaces the built-in nouns.

    ``views``: fewest and most pictures of a question. ``share_of_several``: of the draws, for kinds of which there are two or
    more; the paper's 90 %. ``prefer_absent``: among sets of views that together show every instance, those with the fewest
    sightings, as in the paper. It leaves out what no view shows at all as well; here every instance is in a view, or the
    question could only be guessed. ``min_angle_deg``: cameras whose axes are nearer are adjacent, and avoided together.
    ``crop_margin``: around the union of a picture's boxes, as a share of its sides.
    """

    root: str = ""
    top_camera: str = "1"
    names: str = ""
    views: tuple[int, int] = (2, 7)
    share_of_several: float = 0.9
    prefer_absent: bool = True
    min_angle_deg: float = 30.0
    crop_margin: float = 0.05

    def __post_init__(self) -> None:
        if self.top_camera not in CAMERAS:
            raise UserError(f"backend.top_camera must be one of {', '.join(CAMERAS)}, got '{self.top_camera}'")
        if not 1 <= self.views[0] <= self.views[1] <= len(CAMERAS) - 1:
            raise UserError(f"backend.views must be two numbers in 1..{len(CAMERAS) - 1}, got {list(self.views)}")


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What one camera shows: boxes (x1, y1, x2, y2) in pixels by instance id, and its optical axis, a unit vector (3,)."""

    boxes: Mapping[str, Box]
    axis: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A scene: its views by camera, and the noun of every instance, each once however many cameras see it."""

    scene_id: str
    views: Mapping[str, View]
    nouns: Mapping[str, str]

    @property
    def kinds(self) -> dict[str, frozenset[str]]:
        """Instance ids by noun, over all cameras."""
        found: dict[str, set[str]] = {}
        for instance, noun in self.nouns.items():
            found.setdefault(noun, set()).add(instance)
        return {noun: frozenset(found[noun]) for noun in sorted(found)}

    def image(self, camera: str) -> str:
        """The file of a camera's picture, below the root."""
        return f"images/{self.scene_id}-0{camera}.jpg"


class MessyTableBackend(RecordedBackend):
    """See the module's docstring."""

    name: ClassVar[str] = "messytable"
    layout: ClassVar[str] = "backend.root must be the unzipped MessyTable.zip, with images/ and labels/"
    _table: Table | None = None

    def __init__(self, config: MessyTableConfig) -> None:
        super().__init__(config.root)
        self.config = config
        self._labels: dict[str, Mapping[str, Any]] = {}
        self._nouns = {str(number): noun for number, noun in enumerate(NOUNS, start=1)}
        if config.names:
            values = read_json(self.existing(config.names))
            if not isinstance(values, dict) or not all(isinstance(noun, str) and noun for noun in values.values()):
                raise SceneError(
                    f"{config.names}: expected a JSON object from subclass to noun, such as {{'1': 'mug'}}"
                )
            self._nouns = values

    @property
    def version(self) -> str:
        return f"messytable-{package_version()}"

    @property
    def table(self) -> Table:
        """The loaded scene."""
        if self._table is None:
            raise SceneError("no scene is loaded; call load(scene_id) first")
        return self._table

    def _listed(self, split: str) -> Sequence[str]:
        if split not in self._labels:
            name = f"labels/{split}.json"
            with named(name):
                record = required_fields(read_json(self.existing(name)), name, "scenes")
                self._labels[split] = required_fields(record["scenes"], f"{name}, scenes")
        return list(self._labels[split])

    def load(self, scene_id: str) -> SceneInfo:
        order = sorted(SPLITS, key=lambda split: split not in self._labels)  # what is in memory first
        split = next((split for split in order if scene_id in self._labels.get(split, self._listed(split))), None)
        if split is None:
            raise SceneError(f"scene '{scene_id}' is in none of labels/{{{','.join(SPLITS)}}}.json")
        where = f"labels/{split}.json, scene {scene_id}"
        with named(where):
            self._table = self._parsed(scene_id, self._labels[split][scene_id], where)
        zero = (0.0, 0.0, 0.0)
        self._info = SceneInfo(scene_id, self.name, self.version, zero, zero, source_licence=LICENCE)
        return self._info

    def close(self) -> None:
        super().close()
        self._table, self._labels = None, {}

    def _parsed(self, scene_id: str, record: Any, where: str) -> Table:
        cameras = required_fields(required_fields(record, where, "cameras")["cameras"], where, self.config.top_camera)
        views, subclasses = {}, dict[str, str]()
        for camera, entry in cameras.items():
            here = f"{where}, camera {camera}"
            if camera not in CAMERAS:
                raise SceneError(f"{here}: there is no such camera; valid: {', '.join(CAMERAS)}")
            required_fields(entry, here, "extrinsics", "instances")
            boxes = {}
            for instance, thing in required_fields(entry["instances"], here).items():
                place = f"{here}, instance {instance}"
                subclass = str(required_fields(thing, place, "subcls", "pos")["subcls"])
                if subclass not in self._nouns:
                    raise SceneError(f"{place}: unknown subclass {subclass}; known: {', '.join(self._nouns)}")
                if subclasses.setdefault(instance, subclass) != subclass:
                    raise SceneError(f"{place}: subclass {subclass} here, {subclasses[instance]} in another camera")
                boxes[instance] = box_of(thing["pos"], place)
            with named(f"{here}, extrinsics"):
                turn = Rotation.from_euler("xyz", np.asarray(entry["extrinsics"], float).reshape(6)[3:])
                views[camera] = View(boxes, turn.apply([0.0, 0.0, 1.0]))
        return Table(scene_id, views, {instance: self._nouns[name] for instance, name in subclasses.items()})

    def answer_from_labels(self, facts: Mapping[str, Any]) -> str | None:
        """How many instances the question's cameras show together; None where the view from above shows others."""
        table = self.table
        shown = [
            {instance for instance in table.views[camera].boxes if table.nouns[instance] == facts["category"]}
            for camera in (*facts["cameras"], self.config.top_camera)
        ]
        together = set().union(*shown[:-1])
        return str(len(together)) if together == shown[-1] else None


class MessyTableCounting(MultiviewCounting):
    """Kinds of things drawn from the labels, and views that together show each of their instances."""

    needs: ClassVar[frozenset[str]] = frozenset()

    @property
    def required(self) -> frozenset[str]:
        """Wrong imaginations need a view from above that can be rendered."""
        return super().required | ({"ortho"} if self.config.counterfactuals.enabled else frozenset())

    def propose(self, scene: SceneView, rng: np.random.Generator, yields: Yields) -> list[Candidate]:
        backend = scene.backend
        assert isinstance(backend, MessyTableBackend)
        table, config = backend.table, backend.config
        vocabulary = vocabulary_of(backend.name)
        counted = {noun: found for noun, found in table.kinds.items() if noun not in vocabulary.uncountable}
        candidates = []
        for number in range(self.config.samples_per_scene):
            noun = drawn(counted, config.share_of_several, rng)
            if noun is None:
                break
            instances = counted.pop(noun)
            if not yields.check("count.few_enough", len(instances) <= self.config.max_count):
                continue
            others = table.kinds.keys() - {noun}
            if not yields.check("count.no_lookalike", not any(looks_like(other, noun, vocabulary) for other in others)):
                continue
            above = table.views[config.top_camera].boxes
            if not yields.check("count.all_seen_from_above", instances <= above.keys()):
                continue
            cameras = chosen_views(table, instances, config, rng)
            if yields.check("views.show_all", cameras is not None) and cameras is not None:
                candidates.append(self._candidate(scene, backend, noun, instances, cameras, f"{number:02d}"))
        return candidates

    def _candidate(
        self,
        scene: SceneView,
        backend: MessyTableBackend,
        noun: str,
        instances: frozenset[str],
        cameras: Sequence[str],
        place: str,
    ) -> Candidate:
        table, top = backend.table, backend.config.top_camera

        def cut(camera: str) -> tuple[Image.Image, Box]:
            picture = backend.picture(table.image(camera))
            boxes = list(table.views[camera].boxes.values()) or [
                (0.0, 0.0, float(picture.width), float(picture.height))
            ]
            return picture, union(boxes, backend.config.crop_margin, *picture.size)

        def taken(camera: str, role: str) -> SampleImage:
            return SampleImage(
                encode_image(fitted(*cut(camera), scene.image_size), self.config.image_format),  # type: ignore[arg-type]
                role,
            )

        left, upper, right, lower = cut(top)[1]
        layout = [
            [
                table.nouns[item],
                round(((x0 + x1) / 2 - left) / (right - left), 3),
                round(((y0 + y1) / 2 - upper) / (lower - upper), 3),
            ]
            for item, (x0, y0, x1, y1) in sorted(table.views[top].boxes.items())
        ]
        others = Counter(name for item in table.views[top].boxes if (name := table.nouns[item]) != noun)
        facts = {
            "answer": str(len(instances)),
            "count": len(instances),
            "category": noun,
            "members": [noun],
            "movement": "cameras",
            "view_group": place,
            "cameras": list(cameras),
            "instances": sorted(instances, key=numeric),
            "instances_per_frame": [
                sorted(instances & table.views[camera].boxes.keys(), key=numeric) for camera in cameras
            ],
            "also_on_map": dict(sorted(others.items())),
            "layout": layout,
        }
        images = tuple(taken(camera, f"frame_{number}") for number, camera in enumerate(cameras))
        return Candidate(candidate_key(place, noun), facts, images, taken(top, "bev"))


def drawn(kinds: Mapping[str, frozenset[str]], share_of_several: float, rng: np.random.Generator) -> str | None:
    """A noun: with probability ``share_of_several`` one with several instances where there is any; None where none is left."""
    several = [noun for noun, found in kinds.items() if len(found) > 1]
    single = [noun for noun, found in kinds.items() if len(found) == 1]
    wanted = several if rng.random() < share_of_several else single
    pool = wanted or several or single
    return pool[int(rng.integers(len(pool)))] if pool else None


def chosen_views(
    table: Table, instances: frozenset[str], config: MessyTableConfig, rng: np.random.Generator
) -> tuple[str, ...] | None:
    """Side cameras that together show ``instances``, or None: with the fewest adjacent pairs, then with the fewest sightings.

    Their number is drawn first; the next number is tried where no such set exists. Equally good sets are drawn from.
    """
    side = [camera for camera in table.views if camera != config.top_camera]
    side = [side[place] for place in rng.permutation(len(side))]
    sees = {camera: instances & table.views[camera].boxes.keys() for camera in side}
    near = math.cos(math.radians(config.min_angle_deg))

    def cost(cameras: tuple[str, ...]) -> tuple[int, int]:
        pairs = itertools.combinations(cameras, 2)
        adjacent = sum(float(table.views[one].axis @ table.views[other].axis) > near for one, other in pairs)
        return adjacent, sum(len(sees[camera]) for camera in cameras) if config.prefer_absent else 0

    for number in config.views[0] + rng.permutation(config.views[1] - config.views[0] + 1):
        sets = itertools.combinations(side, int(number))
        fitting = [cameras for cameras in sets if frozenset().union(*(sees[camera] for camera in cameras)) == instances]
        if fitting:
            return min(fitting, key=cost)
    return None


def numeric(instance: str) -> tuple[int, str]:
    """Sorts ids that are numbers by their value."""
    return len(instance), instance


def box_of(value: Any, where: str) -> Box:
    """Four numbers x1 < x2, y1 < y2 in pixels; else a ``SceneError``."""
    numbers = [float(entry) for entry in value] if isinstance(value, list) else []
    if len(numbers) != 4 or not (numbers[0] < numbers[2] and numbers[1] < numbers[3]):
        raise SceneError(f"{where}: field 'pos' must be [x1, y1, x2, y2] with x1 < x2 and y1 < y2, got {value}")
    return numbers[0], numbers[1], numbers[2], numbers[3]
