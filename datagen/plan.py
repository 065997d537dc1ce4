"""A top-down plan of a sample from its cameras and facts: where each picture was taken, the walk, the marked places."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ipt.common.html import Html, join, tag
from ipt.samples.camera import Camera
from ipt.samples.sample import SpatialSample

PLACES = ("target", "midpoint", "waypoints")
LINES = ("path",)
INPUT, IMAGINED, MARK = "#5b6675", "#2457a6", "#b3261e"
MARGIN_M = 0.6

Point = tuple[float, float]


def draw_plan(sample: SpatialSample) -> Html:
    """The plan as inline SVG, north (+y) up, with a metre scale; empty where the sample keeps no camera.

    First-person cameras are wedges, parallel projections the outline of their region; the imagination is blue.
    """
    taken = [(image.role, image.camera, INPUT) for image in sample.images]
    taken.append((sample.imagination.role, sample.imagination.camera, IMAGINED))
    cameras = [(role, camera, colour) for role, camera, colour in taken if camera is not None]
    if not cameras:
        return Html("")
    marks = [
        (name if count == 1 else f"{name} {number}", point)
        for name, count, number, point in (
            (name, len(found), number, point)
            for name, found in ((name, list(points(sample.facts.get(name)))) for name in PLACES)
            for number, point in enumerate(found, 1)
        )
    ]
    lines = [list(points(sample.facts.get(name))) for name in LINES]
    spots = [spot for _, camera, _ in cameras for spot in extent(camera)]
    spots += [point for _, point in marks] + [point for line in lines for point in line]
    west, east = min(x for x, _ in spots) - MARGIN_M, max(x for x, _ in spots) + MARGIN_M
    south, north = min(y for _, y in spots) - MARGIN_M, max(y for _, y in spots) + MARGIN_M
    pen = Pen(max(east - west, north - south) / 100)
    shapes = [pen.outline(camera, colour) for _, camera, colour in cameras if camera.projection == "orthographic"]
    shapes += [pen.line(line, MARK) for line in lines if line]
    shapes += [pen.cross(name, point) for name, point in marks]
    shapes += [pen.wedge(role, camera, colour) for role, camera, colour in cameras if camera.projection == "pinhole"]
    shapes.append(pen.line([(west + 0.2, south + 0.2), (west + 1.2, south + 0.2)], INPUT))
    drawing = tag(
        "svg",
        *shapes,
        viewBox=f"{west:.3f} {-north:.3f} {east - west:.3f} {north - south:.3f}",
        width="340",
        role="img",
        aria_label="plan",
    )
    return tag(
        "figure", drawing, tag("figcaption", "plan: cameras, walk and marks; the bar is one metre"), class_="plan"
    )


def points(value: Any) -> Iterator[Point]:
    """(x, y) of a point or of a list of points, metres; nothing for anything else."""
    if not isinstance(value, list) or not value:
        return
    if all(isinstance(number, int | float) for number in value):
        if len(value) >= 2:
            yield float(value[0]), float(value[1])
    else:
        for inner in value:
            yield from points(inner)


def extent(camera: Camera) -> tuple[Point, Point]:
    """South-west and north-east ends of what a camera takes up on the plan, metres."""
    x, y, _ = camera.pose.position
    high = camera.half_height if camera.projection == "orthographic" else 0.0
    wide = high * camera.width / camera.height
    return (x - wide, y - high), (x + wide, y + high)


def corner(x: float, y: float) -> str:
    """SVG coordinates of a world point: y points down there."""
    return f"{x:.3f},{-y:.3f}"


@dataclass(frozen=True, slots=True)
class Pen:
    """Draws in world coordinates with strokes that fit the plan; ``unit`` is a hundredth of the plan's side, metres."""

    unit: float

    def wedge(self, role: str, camera: Camera, colour: str) -> Html:
        """The horizontal field of view of a first-person camera, with its role."""
        (x, y), _ = extent(camera)
        half = math.atan(camera.half_height * camera.width / camera.height)
        reach = 14 * self.unit
        turns = (camera.pose.yaw - half, camera.pose.yaw + half)
        rim = [(x + reach * math.cos(turn), y + reach * math.sin(turn)) for turn in turns]
        shape = tag("polygon", points=" ".join(corner(*p) for p in ((x, y), *rim)), fill=colour, fill_opacity="0.35")
        dot = tag("circle", cx=f"{x:.3f}", cy=f"{-y:.3f}", r=f"{self.unit:.3f}", fill=colour)
        return join([shape, dot, self.label(role, x, y + 2.5 * self.unit, colour)])

    def outline(self, camera: Camera, colour: str) -> Html:
        """The region of a camera that looks down in parallel projection."""
        (west, south), (east, north) = extent(camera)
        ring = [(west, south), (east, south), (east, north), (west, north), (west, south)]
        return self.line(ring, colour, stroke_dasharray=f"{2 * self.unit:.3f}")

    def line(self, line: list[Point], colour: str, **attributes: str) -> Html:
        drawn = " ".join(corner(*point) for point in line)
        width = f"{0.7 * self.unit:.3f}"
        return tag("polyline", points=drawn, fill="none", stroke=colour, stroke_width=width, **attributes)

    def cross(self, name: str, point: Point) -> Html:
        (x, y), arm = point, 1.5 * self.unit
        rising, falling = [(x - arm, y - arm), (x + arm, y + arm)], [(x - arm, y + arm), (x + arm, y - arm)]
        return join([self.line(rising, MARK), self.line(falling, MARK), self.label(name, x, y - 5 * self.unit, MARK)])

    def label(self, words: str, x: float, y: float, colour: str) -> Html:
        place = {"x": f"{x:.3f}", "y": f"{-y:.3f}", "text_anchor": "middle"}
        return tag("text", words, font_size=f"{3.6 * self.unit:.3f}", fill=colour, **place)
