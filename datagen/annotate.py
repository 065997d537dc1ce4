"""The red X, direction arrow, path overlay and camera marks, drawn on rendered frames the same way for every simulator.

Marks lie on a level plane, usually the floor, and are painted in two dimensions: the ray of each pixel meets the plane
at a known point, the distance of that point to the mark's strokes gives an antialiased coverage, and the depth image
decides whether something stands before it. So a mark is foreshortened, hidden by furniture, and sharp at any size. On
maps the marks float at eye height, where cameras are, so that tables do not hide them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from datagen.backends.base import Floats, Frame
from datagen.visibility import fractions, inside
from ipt.common.images import RGB
from ipt.samples.camera import Camera

RED, BLUE, GREEN, ORANGE, WHITE = (222, 22, 28), (30, 90, 235), (16, 140, 62), (240, 140, 0), (255, 255, 255)
Colour = tuple[int, int, int]

FLOOR_TOLERANCE_M = 0.06  # a rug is floor, a book lying on it is not
ARROW_SHARE = 0.12  # of a map's width: the shortest arrow
MIN_HALF_WIDTH_PX = 0.8
LABEL_RADIUS = 0.026  # of the image's longer side
MIN_LABEL_RADIUS_PX = 4.0
OVERSAMPLING = 4
SEEN_M = 0.15  # around a point that a picture shows: its pixels are that far apart on a distant floor
UNSEEN_GREY = 128
OFFSETS = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]])


@dataclass(frozen=True, slots=True, eq=False)
class Mark:
    """Round-ended strokes: segments (n, 2, 2) of world (x, y), half width in metres, colour, rim of halo in half widths,
    height above the floor in metres.
    """

    segments: Floats
    half_width: float
    colour: Colour
    halo: float = 0.3
    height: float = 0.0

    @property
    def points(self) -> Floats:
        return self.segments.reshape(-1, 2)


@dataclass(frozen=True, slots=True)
class Label:
    """A lettered disc at a world floor point (x, y)."""

    text: str
    at: tuple[float, float]
    colour: Colour


def cross(centre: ArrayLike, yaw: float, size: float) -> Mark:
    """An X of arm-to-arm ``size`` metres whose arms run diagonally to heading ``yaw``."""
    middle = np.asarray(centre, dtype=np.float64)[:2]
    arms = []
    for turn in (math.pi / 4, -math.pi / 4):
        step = size / 2 * np.array([math.cos(yaw + turn), math.sin(yaw + turn)])
        arms.append([middle - step, middle + step])
    return Mark(np.array(arms), 0.09 * size, RED)


def arrow(start: ArrayLike, yaw: float, length: float, colour: Colour = BLUE, width: float = 0.07) -> Mark:
    """An arrow from ``start`` along heading ``yaw``; metres."""
    foot = np.asarray(start, dtype=np.float64)[:2]
    tip = foot + length * np.array([math.cos(yaw), math.sin(yaw)])
    barbs = [
        [tip, tip - 0.38 * length * np.array([math.cos(yaw + turn), math.sin(yaw + turn)])] for turn in (0.6, -0.6)
    ]
    return Mark(np.array([[foot, tip], *barbs]), width * length, colour)


def polyline(points: ArrayLike, width: float, colour: Colour = RED) -> Mark:
    """A path through world points (n, >=2), ``width`` metres wide."""
    corners = np.asarray(points, dtype=np.float64)[:, :2]
    return Mark(np.stack([corners[:-1], corners[1:]], axis=1), width / 2, colour)


def arrow_head(mark: Mark) -> Mark:
    """The two barbs of an :func:`arrow`."""
    return replace(mark, segments=mark.segments[1:])


def camera_marks(cameras: Sequence[Camera], length: float, height: float) -> tuple[list[Mark], list[Label]]:
    """An arrow per camera where it stands and looks, ``height`` metres up, numbered from 1 at the arrow heads."""
    marks, labels = [], []
    for number, camera in enumerate(cameras, start=1):
        x, y, _ = camera.pose.position
        yaw = camera.pose.yaw
        marks.append(replace(arrow((x, y), yaw, length, RED, 0.09), height=height))
        reach = 1.45 * length
        labels.append(Label(str(number), (x + reach * math.cos(yaw), y + reach * math.sin(yaw)), RED))
    return marks, labels


def legible(size: float, camera: Camera, at: ArrayLike, share: float) -> float:
    """``size`` in metres, enlarged where it would span less than ``share`` of the image width at a floor point (3,)."""
    return float(legible_sizes(size, camera, at, share))


def legible_sizes(size: float, camera: Camera, at: ArrayLike, share: float) -> Floats:
    """:func:`legible` at floor points (..., 3)."""
    _, depth = camera.project(np.asarray(at, dtype=np.float64))
    scale = depth if camera.ortho_height_m is None else np.ones_like(depth)
    return np.maximum(size, share * camera.width * camera.metres_per_pixel * scale)


def draw(frame: Frame, floor_z: float, marks: Sequence[Mark], labels: Sequence[Label] = ()) -> RGB:
    """A copy of the frame's picture with marks, in order, and labels on top; needs RGB and depth."""
    assert frame.rgb is not None, "render RGB first"
    picture = frame.rgb.copy()
    for mark in marks:
        paint(picture, frame, floor_z + mark.height, mark)
    for label in labels:
        stamp(picture, frame.camera, floor_z, label)
    return picture


def visible_share(frame: Frame, floor_z: float, mark: Mark) -> float:
    """Share of the mark's picture area, 0..1, that is inside the frame and not hidden; 0 where it is behind the camera."""
    whole = coverage(frame.camera, floor_z, mark, 0.0, clip=False)
    if whole is None:
        return 0.0
    shown = coverage(frame.camera, floor_z, mark, 0.0)
    if shown is None:
        return 0.0
    rows, columns, alpha, floor_depth = shown
    return float((alpha * unhidden(frame, rows, columns, floor_depth, floor_z)).sum() / max(whole[2].sum(), 1e-9))


def all_shown(frame: Frame, floor_z: float, marks: Sequence[Mark], arrows: Sequence[Mark] = ()) -> float:
    """The smallest :func:`visible_share` of marks at their heights, of arrows and of each arrow's head; 0 where the edge of
    the picture cuts one of them."""
    parts = [*marks, *arrows, *map(arrow_head, arrows)]
    if not all(in_frame(frame.camera, floor_z, mark) for mark in parts):
        return 0.0
    return min((visible_share(frame, floor_z + mark.height, mark) for mark in parts), default=1.0)


def in_frame(camera: Camera, floor_z: float, mark: Mark) -> bool:
    """Whether the ends of all strokes, with their width, fall into the picture."""
    around = (mark.points[:, None, :] + mark.half_width * OFFSETS).reshape(-1, 2)
    places = fractions(camera, np.column_stack([around, np.full(len(around), floor_z + mark.height)]))
    return bool(inside(places, 0.0).all())


def paint(picture: RGB, frame: Frame, floor_z: float, mark: Mark) -> None:
    """Blend one mark into ``picture`` in place, its halo first."""
    for colour, rim in ((WHITE, mark.halo), (mark.colour, 0.0)):
        shown = coverage(frame.camera, floor_z, mark, rim) if rim or colour == mark.colour else None
        if shown is None:
            continue
        rows, columns, alpha, floor_depth = shown
        alpha = alpha * unhidden(frame, rows, columns, floor_depth, floor_z) * (0.6 if rim else 1.0)
        window = picture[rows, columns].astype(np.float64)
        blended = window + alpha[..., None] * (np.asarray(colour, dtype=np.float64) - window)
        picture[rows, columns] = np.rint(blended).astype(np.uint8)


def coverage(
    camera: Camera, floor_z: float, mark: Mark, rim: float, clip: bool = True
) -> tuple[slice, slice, Floats, Floats] | None:
    """Where a mark, widened by ``rim`` half widths, falls: rows, columns, coverage 0..1, planar depth of the floor there.

    Without ``clip`` the window may reach beyond the image. None where the mark is outside or not wholly before the camera.
    """
    reach = mark.half_width * (1 + rim)
    around = (mark.points[:, None, :] + reach * OFFSETS).reshape(-1, 2)
    corners, depth = camera.project(np.column_stack([around, np.full(len(around), floor_z)]))
    if (depth <= camera.near).any():
        return None
    low, high = np.floor(corners.min(axis=0)).astype(int) - 2, np.ceil(corners.max(axis=0)).astype(int) + 2
    if clip:
        low, high = np.maximum(low, 0), np.minimum(high, [camera.width, camera.height])
    if (high < low + 2).any():
        return None
    columns, rows = np.meshgrid(np.arange(low[0], high[0]) + 0.5, np.arange(low[1], high[1]) + 0.5)
    pixels = np.stack([columns, rows], axis=-1)
    start = camera.unproject(pixels, np.zeros(columns.shape))
    step = camera.unproject(pixels, np.ones(columns.shape)) - start
    with np.errstate(divide="ignore", invalid="ignore"):
        floor_depth = (floor_z - start[..., 2]) / step[..., 2]
    ahead = np.isfinite(floor_depth) & (floor_depth > 0)
    points = start + np.where(ahead, floor_depth, 0)[..., None] * step
    distance = segment_distance(points[..., :2], mark.segments)
    down, across = np.gradient(distance)
    pixel = np.maximum(np.hypot(down, across), 1e-9)
    half_width = np.maximum(mark.half_width, MIN_HALF_WIDTH_PX * pixel) + rim * np.maximum(mark.half_width, pixel)
    alpha = np.clip(0.5 + (half_width - distance) / pixel, 0, 1) * ahead
    return slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0])), alpha, floor_depth


def seen_on_map(above: Frame, frames: Sequence[Frame], instances: Collection[int]) -> NDArray[np.bool_]:
    """Which pixels of a map (h, w) lie over what the frames saw: within ``SEEN_M`` metres of a point that one of them shows,
    or of one of ``instances``, of which they saw the side and the map shows the top."""
    assert above.instance is not None, "render instances first"
    seen = np.isin(above.instance, list(instances))
    camera, points = above.camera, np.zeros(above.instance.shape, bool)
    for frame in frames:
        assert frame.depth is not None, "render depth first"
        rows, columns = np.nonzero(frame.depth > 0)
        where = frame.camera.unproject(np.stack([columns + 0.5, rows + 0.5], axis=-1), frame.depth[rows, columns])
        pixels = np.floor(camera.project(where)[0]).astype(int)
        pixels = pixels[((pixels >= 0) & (pixels < [camera.width, camera.height])).all(axis=1)]
        points[pixels[:, 1], pixels[:, 0]] = True
    if points.any():
        seen |= ndimage.distance_transform_edt(~points) * camera.metres_per_pixel <= SEEN_M
    return seen


def masked(frame: Frame, shown: NDArray[np.bool_]) -> Frame:
    """The frame with everything but ``shown`` (h, w) painted over in grey."""
    assert frame.rgb is not None
    return replace(frame, rgb=np.where(shown[..., None], frame.rgb, np.uint8(UNSEEN_GREY)))


def segment_distance(points: Floats, segments: Floats) -> Floats:
    """Distance (h, w) of points (h, w, 2) to the nearest of segments (n, 2, 2)."""
    nearest = np.full(points.shape[:-1], np.inf)
    for start, end in segments:
        along = end - start
        length_sq = max(float(along @ along), 1e-12)
        share = np.clip((points - start) @ along / length_sq, 0, 1)
        nearest = np.minimum(nearest, np.linalg.norm(points - start - share[..., None] * along, axis=-1))
    return nearest


def unhidden(frame: Frame, rows: slice, columns: slice, plane_depth: Floats, plane_z: float) -> NDArray[np.bool_]:
    """Pixels of a window in which nothing stands before the plane; the thickness of a rug is allowed."""
    assert frame.depth is not None, "render depth first"
    depth = frame.depth[rows, columns].astype(np.float64)
    camera = frame.camera
    with np.errstate(divide="ignore", invalid="ignore"):
        if camera.ortho_height_m is None:
            # By similar triangles a point at depth d on a ray that meets the plane at D is (1 - d / D) of the way up.
            lift = (1 - depth / plane_depth) * abs(camera.pose.position[2] - plane_z)
        else:
            lift = (plane_depth - depth) * abs(float(camera.pose.forward[2]))
    return (depth > 0) & (lift <= FLOOR_TOLERANCE_M)


def stamp(picture: RGB, camera: Camera, floor_z: float, label: Label) -> None:
    """Blend a lettered disc into ``picture`` in place; it is kept inside the image."""
    centre = fractions(camera, np.array([*label.at, floor_z])) * [camera.width, camera.height]
    if np.isnan(centre).any():
        return
    disc = disc_patch(label.text, label.colour, max(MIN_LABEL_RADIUS_PX, LABEL_RADIUS * max(picture.shape[:2])))
    size = disc.shape[0]
    left, top = np.clip(np.rint(centre - size / 2), 0, np.array([camera.width, camera.height]) - size).astype(int)
    window = picture[top : top + size, left : left + size].astype(np.float64)
    alpha = disc[..., 3:] / 255
    picture[top : top + size, left : left + size] = np.rint(window + alpha * (disc[..., :3] - window))


@functools.lru_cache(maxsize=64)
def disc_patch(text: str, colour: Colour, radius: float) -> NDArray[np.float64]:
    """A disc with white rim and text, (s, s, 4) RGBA in 0..255, antialiased by oversampling."""
    size = 2 * math.ceil(radius) + 1
    big, middle, reach = size * OVERSAMPLING, size * OVERSAMPLING / 2, radius * OVERSAMPLING
    image = Image.new("RGBA", (big, big), (*colour, 0))
    pen = ImageDraw.Draw(image)
    pen.ellipse([middle - reach, middle - reach, middle + reach, middle + reach], fill=(*WHITE, 255))
    inner = reach * 0.88
    pen.ellipse([middle - inner, middle - inner, middle + inner, middle + inner], fill=(*colour, 255))
    font = ImageFont.load_default(size=reach * (1.5 if len(text) == 1 else 1.05))
    pen.text((middle, middle), text, fill=(*WHITE, 255), font=font, anchor="mm", stroke_width=reach * 0.04)
    return np.asarray(image.resize((size, size), Image.Resampling.BOX), dtype=np.float64)
