"""A top-down plan of a sample from its cameras and facts: where each picture was taken, the walk, the marked places."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from ipt.common.html import Html, join, tag
from ipt.samples.camera import Camera
from ipt.samples.sample import SpatialSample

PLACES = ("target", "midpoint", "waypoints", "position")
LINES = ("path",)
INPUT, IMAGINED, MARK = "#5b6675", "#2457a6", "#b3261e"
MARGIN_M = 1.0

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
    marks = [(name, point) for name in PLACES for point in points(sample.facts.get(name))]
    lines = [list(points(sample.facts.get(name))) for name in LINES]
    spots = (
        [at(camera) for _, camera, _ in cameras] + [point for _, point in marks] + [p for line in lines for p in line]
    )
    west, east = min(x for x, _ in spots) - MARGIN_M, max(x for x, _ in spots) + MARGIN_M
    south, north = min(y for _, y in spots) - MARGIN_M, max(y for _, y in spots) + MARGIN_M
    shapes = [outline(camera, colour) for _, camera, colour in cameras if camera.projection == "orthographic"]
    shapes += [polyline(line) for line in lines if line]
    shapes += [cross(name, point) for name, point in marks]
    shapes += [wedge(role, camera, colour) for role, camera, colour in cameras if camera.projection == "pinhole"]
    shapes.append(scale_bar(west, south))
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


def at(camera: Camera) -> Point:
    return camera.pose.position[0], camera.pose.position[1]


def corner(x: float, y: float) -> str:
    """SVG coordinates of a world point: y points down there."""
    return f"{x:.3f},{-y:.3f}"


def wedge(role: str, camera: Camera, colour: str, reach: float = 0.7) -> Html:
    """The horizontal field of view of a first-person camera, with its role."""
    x, y = at(camera)
    half = math.atan(camera.half_height * camera.width / camera.height)
    rim = [
        (x + reach * math.cos(camera.pose.yaw + turn), y + reach * math.sin(camera.pose.yaw + turn))
        for turn in (-half, half)
    ]
    shape = tag("polygon", points=" ".join(corner(*p) for p in ((x, y), *rim)), fill=colour, fill_opacity="0.35")
    dot = tag("circle", cx=f"{x:.3f}", cy=f"{-y:.3f}", r="0.06", fill=colour)
    return join([shape, dot, label(role, x + 0.1, y + 0.1, colour)])


def outline(camera: Camera, colour: str) -> Html:
    """The region of a camera that looks down in parallel projection."""
    (x, y), high = at(camera), 2 * camera.half_height
    wide = high * camera.width / camera.height
    return tag(
        "rect",
        x=f"{x - wide / 2:.3f}",
        y=f"{-y - high / 2:.3f}",
        width=f"{wide:.3f}",
        height=f"{high:.3f}",
        fill="none",
        stroke=colour,
        stroke_width="0.04",
        stroke_dasharray="0.15 0.1",
    )


def polyline(line: list[Point]) -> Html:
    drawn = " ".join(corner(*point) for point in line)
    return tag("polyline", points=drawn, fill="none", stroke=MARK, stroke_width="0.05")


def cross(name: str, point: Point) -> Html:
    x, y = point
    strokes = (
        f"M{corner(x - 0.1, y - 0.1)}L{corner(x + 0.1, y + 0.1)}M{corner(x - 0.1, y + 0.1)}L{corner(x + 0.1, y - 0.1)}"
    )
    return join([tag("path", d=strokes, stroke=MARK, stroke_width="0.06"), label(name, x + 0.14, y - 0.2, MARK)])


def label(words: str, x: float, y: float, colour: str) -> Html:
    return tag("text", words, x=f"{x:.3f}", y=f"{-y:.3f}", font_size="0.22", fill=colour)


def scale_bar(west: float, south: float) -> Html:
    start = (west + 0.2, south + 0.2)
    return tag("path", d=f"M{corner(*start)}L{corner(start[0] + 1, start[1])}", stroke=INPUT, stroke_width="0.06")
