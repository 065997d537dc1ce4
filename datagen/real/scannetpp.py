"""ScanNet++: rooms as iPhone pictures with poses, and as a labelled mesh that says what each picture shows.

Layout of the published set (github.com/scannetpp/scannetpp, ``common/scene_release.py``), below ``data/SCENE``:
``scans/mesh_aligned_0.05.ply`` (vertex colours, metres, z up), ``scans/segments.json`` (``segIndices``: a segment per vertex),
``scans/segments_anno.json`` (``segGroups``: ``objectId``, ``label``, ``segments``), ``iphone/pose_intrinsic_imu.json`` (by frame:
``aligned_pose``, camera to world with x right, y down, z ahead; ``intrinsic``, 3 x 3) and, once the set's own script has taken
the video apart, ``iphone/rgb/frame_NNNNNN.jpg``. ``splits/nvs_sem_train.txt`` and ``nvs_sem_val.txt`` list the scenes.

Ray casting on the mesh gives depth and instances of every picture, and the map from above (the IPT paper restyles a map with an
image editor, which may add or lose things). From a recorded camera, the colour is the photograph's.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datagen.backends.base import (
    ALL_MODALITIES,
    Floats,
    Frame,
    Layer,
    Modality,
    SceneError,
    SceneInfo,
    SceneObject,
)
from datagen.backends.embedded.backend import package_version
from datagen.backends.embedded.ray_caster import RayRenderer
from datagen.backends.embedded.scene import Scene
from datagen.real.recorded import RecordedBackend, named, required_fields
from datagen.real.scan import floor_height, read_groups, read_mesh, read_segments, scene_of
from datagen.tasks.base import SceneView
from datagen.tasks.multiview_counting import FAINT, MultiviewCounting, Spot
from datagen.yields import Yields
from ipt.common.errors import UserError
from ipt.common.files import opened_text, read_json
from ipt.common.images import RGB, image_size
from ipt.samples.camera import Camera, CameraPose, wrap_angle

LICENCE = "ScanNet++ Terms of Use: no sharing of its data or of samples made of them; everyone downloads it themselves"
VAL_EVERY = 10  # of the training scenes, for val: the set has two labelled splits


@dataclass(frozen=True, slots=True)
class ScanNetConfig:
    """``root``: the folder with ``data/`` and ``splits/``. ``frames``: fewest and most pictures of a question.

    ``max_frames_looked_at``: of a scene, evenly over its video. ``min_yaw_gap_deg``: between any two pictures of a question; the
    paper has a least gap without a figure. ``cut_height_m``: above the floor, surface without a label is left out of the map.
    """

    root: str = ""
    frames: tuple[int, int] = (5, 8)
    max_frames_looked_at: int = 120
    min_yaw_gap_deg: float = 20.0
    cut_height_m: float = 2.0

    def __post_init__(self) -> None:
        if not 1 <= self.frames[0] <= self.frames[1] or self.frames[1] * self.min_yaw_gap_deg > 360:
            raise UserError(
                f"backend.frames must be two numbers, fewest and most, that fit into a turn with gaps of min_yaw_gap_deg "
                f"{self.min_yaw_gap_deg:g}, got {list(self.frames)}"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Photo:
    """An iPhone picture turned upright: its file, quarter turns to the left that make it upright, focal lengths and principal
    point (u, v) in pixels of the upright picture, its size, and the pose."""

    file: str
    quarter_turns: int
    focal: tuple[float, float]
    centre: tuple[float, float]
    size: tuple[int, int]
    pose: CameraPose

    def camera(self, longer_side: int) -> Camera:
        """The largest part of the picture around the principal point, as a camera with square pixels."""
        reach = [min(c, s - c) / f for c, s, f in zip(self.centre, self.size, self.focal, strict=True)]
        scale = longer_side / max(reach)
        width, height = max(1, round(scale * reach[0])), max(1, round(scale * reach[1]))
        half = min(reach[1], reach[0] * height / width)
        return Camera(self.pose, width, height, 2 * math.degrees(math.atan(half)))

    def pixels(self, picture: Image.Image, camera: Camera) -> RGB:
        """What a camera of this pose sees of the stored picture."""
        for _ in range(self.quarter_turns):
            picture = picture.transpose(Image.Transpose.ROTATE_90)
        half = camera.half_height * self.focal[0] * camera.width / camera.height, camera.half_height * self.focal[1]
        low = [max(0.0, c - h) for c, h in zip(self.centre, half, strict=True)]
        high = [min(float(s), c + h) for c, s, h in zip(self.centre, self.size, half, strict=True)]
        shape = camera.width, camera.height
        return np.asarray(picture.resize(shape, Image.Resampling.LANCZOS, box=(low[0], low[1], high[0], high[1])))


class ScanNetBackend(RecordedBackend):
    """See the module's docstring."""

    name: ClassVar[str] = "scannetpp"
    capabilities: ClassVar[frozenset[str]] = frozenset({"rgb", "depth", "instance", "ortho", "deterministic"})
    layout: ClassVar[str] = "backend.root must be the ScanNet++ folder, with data/SCENE/ and splits/"

    def __init__(self, config: ScanNetConfig) -> None:
        super().__init__(config.root)
        self.config = config
        self._renderer = RayRenderer()
        self._scene: Scene | None = None
        self._photos: dict[CameraPose, Photo] = {}

    @property
    def version(self) -> str:
        return f"scannetpp-{package_version()}+{self._renderer.version}"

    def _listed(self, split: str) -> Sequence[str]:
        """train and val: the published training scenes, every tenth of them for val; test: the published validation scenes."""
        with opened_text(self.existing(f"splits/nvs_sem_{'val' if split == 'test' else 'train'}.txt")) as stream:
            lines = stream.read().split()
        if split == "test":
            return lines
        return [scene for place, scene in enumerate(lines) if (place % VAL_EVERY == VAL_EVERY - 1) == (split == "val")]

    def load(self, scene_id: str) -> SceneInfo:
        self._scene = None
        folder = f"data/{scene_id}"
        scene = read_scan(self, folder, scene_id)
        self._photos = {photo.pose: photo for photo in read_photos(self, folder)}
        self._renderer.load(scene)
        self._scene = scene
        self._info = SceneInfo(
            scene_id,
            self.name,
            self.version,
            scene.bounds_min,
            scene.bounds_max,
            floor_z=scene.floor_z,
            source_licence=LICENCE,
        )
        return self._info

    def close(self) -> None:
        super().close()
        self._renderer.close()
        self._scene, self._photos = None, {}

    @property
    def photos(self) -> list[Photo]:
        """The recorded pictures of the loaded scene, in the order of the video."""
        return list(self._photos.values())

    def objects(self) -> tuple[SceneObject, ...]:
        if self._scene is None:
            raise SceneError("no scene is loaded; call load(scene_id) first")
        return self._scene.objects

    def render(
        self,
        cameras: Sequence[Camera],
        modalities: Collection[Modality] = ALL_MODALITIES,
        hide: Collection[Layer] = (),
    ) -> list[Frame]:
        return [self._frame(camera, set(modalities), hide) for camera in cameras]

    def _frame(self, camera: Camera, modalities: set[Modality], hide: Collection[Layer]) -> Frame:
        photo = self._photos.get(camera.pose)
        if photo is None or "rgb" not in modalities:
            return self._renderer.render([camera], modalities, hide)[0]
        cast = self._renderer.render([camera], modalities - {"rgb"}, hide)[0]
        return Frame(camera, photo.pixels(self.picture(photo.file), camera), cast.depth, cast.instance)


class ScanNetCounting(MultiviewCounting):
    """Multiview Counting whose places are sets of recorded pictures; counts, map and checks are those of simulators."""

    def _spots(self, scene: SceneView, rng: np.random.Generator, yields: Yields) -> list[Spot]:
        """Walks through the recorded pictures, each from another first picture."""
        backend = scene.backend
        assert isinstance(backend, ScanNetBackend)
        cameras = [photo.camera(scene.search_size) for photo in backend.photos]
        stats = [scene.stats(frame) for frame in scene.render(cameras, ("depth", "instance"))]
        usable = [place for place, one in enumerate(stats) if scene.acceptable(one, yields, "frame")]
        if not usable:
            return []
        areas = np.array([stats[place].area for place in usable])
        yaws = np.array([cameras[place].pose.yaw for place in usable])
        things = sorted(scene.candidates)
        least = max(self.config.min_best_area, self.config.min_area)
        spots = []
        for first in rng.permutation(len(usable))[: self.config.spots_per_scene].tolist():
            chosen = walk(areas[:, things] >= least, yaws, first, backend.config)
            if yields.check("walk.pictures_apart", chosen is not None) and chosen is not None:
                best = areas[chosen].max(axis=0)
                clear, seen = (frozenset(np.flatnonzero(best >= limit).tolist()) for limit in (least, FAINT))
                spots.append(Spot("walk", tuple(cameras[usable[place]] for place in chosen), clear, seen))
        return spots


def walk(shows: NDArray[np.bool_], yaws: Floats, first: int, config: ScanNetConfig) -> list[int] | None:
    """Pictures from ``first`` on, each the one that adds most things, their headings apart; None where there are too few.

    ``shows`` (pictures, things); ``yaws`` (pictures,) radians. Beyond the fewest, a picture must add something.
    """
    chosen, gap = [first], math.radians(config.min_yaw_gap_deg)
    while len(chosen) < config.frames[1]:
        apart = [
            place
            for place, yaw in enumerate(yaws)
            if all(abs(wrap_angle(float(yaw - yaws[other]))) >= gap for other in chosen)
        ]
        known = shows[chosen].any(axis=0)
        gains = [int((shows[place] & ~known).sum()) for place in apart]
        if not apart or (len(chosen) >= config.frames[0] and max(gains) == 0):
            break
        chosen.append(apart[int(np.argmax(gains))])
    return chosen if len(chosen) >= config.frames[0] else None


def read_scan(backend: ScanNetBackend, folder: str, scene_id: str) -> Scene:
    """The labelled mesh as a scene: an object per annotated group, index in their order; the rest is background (-1)."""
    mesh_file, segments_file, groups_file = (
        f"{folder}/scans/{name}" for name in ("mesh_aligned_0.05.ply", "segments.json", "segments_anno.json")
    )
    scan = read_mesh(backend, mesh_file)
    segment_of = read_segments(backend, segments_file, len(scan.vertices), "vertices")
    labels, owner_of_vertex = read_groups(backend, groups_file, segment_of)
    corners = owner_of_vertex[scan.faces]
    owner = np.where(corners[:, 1] == corners[:, 2], corners[:, 1], corners[:, 0])
    floor_z = floor_height(scan, labels, owner)
    return scene_of(scene_id, scan, labels, owner, floor_z, backend.config.cut_height_m, LICENCE)


def read_photos(backend: ScanNetBackend, folder: str) -> list[Photo]:
    """The pictures of a scene, at most as many as are looked at; every picture must have a pose."""
    poses_file, folder_of_pictures = f"{folder}/iphone/pose_intrinsic_imu.json", f"{folder}/iphone/rgb"
    with named(poses_file):
        poses = required_fields(read_json(backend.existing(poses_file)), poses_file)
    files = sorted((backend.root / folder_of_pictures).glob("frame_*.jpg"))
    if not files:
        raise SceneError(
            f"{folder_of_pictures} has no frame_*.jpg: take the video apart with iphone/prepare_iphone_data.py of the set's tools"
        )
    count = min(len(files), backend.config.max_frames_looked_at)
    photos = []
    for place in np.linspace(0, len(files) - 1, count).round().astype(int).tolist():
        name, file = files[place].stem, f"{folder_of_pictures}/{files[place].name}"
        if name not in poses:
            raise SceneError(f"{file} has no pose: '{name}' is missing in {poses_file}")
        where = f"{poses_file}, {name}"
        record = required_fields(poses[name], where, "aligned_pose", "intrinsic")
        with named(where):
            matrix = np.asarray(record["aligned_pose"], np.float64).reshape(4, 4)
            intrinsic = np.asarray(record["intrinsic"], np.float64).reshape(3, 3)
        with named(file):
            photos.append(photo_of(file, matrix, intrinsic, image_size(files[place], file), where))
    return photos


def photo_of(file: str, matrix: Floats, intrinsic: Floats, size: tuple[int, int], where: str) -> Photo:
    """A picture from its pose (camera to world; x right, y down, z ahead), intrinsics in pixels, and (width, height)."""
    right, ahead = matrix[:3, 0], matrix[:3, 2]
    if not np.allclose(matrix[:3, :3].T @ matrix[:3, :3], np.eye(3), atol=1e-2):
        raise SceneError(
            f"{where}: field 'aligned_pose' must be a rotation and a position, got {matrix[:3, :3].tolist()}"
        )
    focal, centre = intrinsic[[0, 1], [0, 1]], intrinsic[:2, 2]
    if focal.min() <= 0 or np.any(np.abs(2 * centre / size - 1) > 0.2):
        raise SceneError(
            f"{where}: field 'intrinsic' is not that of a picture of {size[0]} x {size[1]} pixels ({file})"
        )
    yaw, pitch = math.atan2(ahead[1], ahead[0]), math.asin(float(np.clip(ahead[2], -1, 1)))
    level = CameraPose((0, 0, 0), yaw, pitch).camera_to_world
    roll = math.atan2(float(right @ level[:3, 1]), float(right @ level[:3, 0]))
    turns = round(roll / (math.pi / 2)) % 4
    width, height = size
    for _ in range(turns):  # a quarter turn to the left takes (u, v) to (v, width - u)
        focal, centre = focal[::-1], np.array([centre[1], width - centre[0]])
        width, height = height, width
    x, y, z = (float(value) for value in matrix[:3, 3])
    pose = CameraPose((x, y, z), yaw, pitch, wrap_angle(roll - turns * math.pi / 2))
    (fx, fy), (cx, cy) = focal.tolist(), centre.tolist()
    return Photo(file, turns, (fx, fy), (cx, cy), (width, height), pose)
