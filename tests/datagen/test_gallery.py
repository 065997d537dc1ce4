"""The gallery shows everything of a sample, and nothing that tells the answer before it is asked for."""

from __future__ import annotations

import base64
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from datagen.gallery import GalleryConfig, main, render_gallery
from datagen.plan import draw_plan
from ipt.common import cli
from ipt.samples.camera import Camera, CameraPose
from ipt.samples.sample import SampleImage
from ipt.samples.store import write_shard
from tests.synthetic import make_sample


class Reader(HTMLParser):
    """Text and pictures of a page, apart for what is inside and outside the closed parts."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.depth = 0
        self.text = {True: "", False: ""}
        self.pictures: dict[bool, list[bytes]] = {True: [], False: []}
        self.tags: list[str] = []
        self.feed(markup)

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(name)
        self.depth += name == "details"
        source = dict(attributes).get("src")
        if name == "img" and source:
            self.pictures[self.depth > 0].append(base64.b64decode(source.partition(",")[2]))

    def handle_endtag(self, name: str) -> None:
        self.depth -= name == "details"

    def handle_data(self, data: str) -> None:
        self.text[self.depth > 0] += data + "\n"


def test_every_picture_and_word_is_there_and_the_truth_is_closed() -> None:
    wrong = SampleImage(make_sample(9).imagination.data, "yaw+30")
    sample = make_sample(2, counterfactuals=(wrong,), question_type="sub_category_that_tells")
    read = Reader(render_gallery([sample], "one"))
    assert read.pictures[False] == [image.data for image in sample.images]
    assert read.pictures[True] == [sample.imagination.data, wrong.data]
    for secret in (sample.rationale, sample.caption, "C. 3", "counterfactual views", '"chair"', "scene-0"):
        assert secret in read.text[True]
    for shown in (sample.question, "A. 1", "D. 4", sample.id):
        assert shown in read.text[False]
    assert sample.rationale not in read.text[False] and sample.caption not in read.text[False]


def test_hostile_words_stay_words() -> None:
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
    clean = Reader(render_gallery([make_sample(0)], "one")).tags
    fields = ("id", "question", "question_type", "rationale", "caption")
    sample = make_sample(0, facts={evil: evil, **make_sample(0).facts}, **dict.fromkeys(fields, evil))
    assert Reader(render_gallery([sample], "one")).tags == clean


@pytest.mark.parametrize(("limit", "expected"), [(3, ["00000", "00010", "00019"]), (100, None)])
def test_a_limit_spreads_over_the_whole_set(tmp_path: Path, limit: int, expected: list[str] | None) -> None:
    write_shard(tmp_path / "a.parquet", [make_sample(number) for number in range(20)])
    cli.run(GalleryConfig, main, [f"data={tmp_path / 'a.parquet'}", f"limit={limit}"])
    found = re.findall(r"mvc, train, sample-(\d+)", (tmp_path / "gallery.html").read_text())
    assert len(found) == min(limit, 20)
    assert expected is None or found == expected


def test_the_plan_draws_cameras_where_they_stood_with_north_up() -> None:
    east = Camera(CameraPose((2.0, 3.0, 1.5), 0.0), 16, 16, vertical_fov_deg=90.0)
    above = Camera(CameraPose((2.0, 3.0, 20.0), math.pi / 2, -math.pi / 2), 16, 16, ortho_height_m=4.0)
    data = make_sample().imagination.data
    sample = make_sample(
        images=(SampleImage(data, "ego_1", east), SampleImage(data, "map", above)),
        imagination=SampleImage(data, "bev"),
        facts={"waypoints": [[2.0, 3.0], [3.0, 3.5]], "path": [[2.0, 3.0], [3.0, 3.5]]},
    )
    plan = draw_plan(sample)
    assert re.search(r'<circle cx="2.000" cy="-3.000"', plan)
    apex, first, second = re.search(r'<polygon points="([^"]+)"', plan)[1].split()  # type: ignore[index]
    assert apex == "2.000,-3.000"
    (x, y), (_, other) = (tuple(map(float, point.split(","))) for point in (first, second))
    assert x > 2 and y + 3 == pytest.approx(x - 2, abs=2e-3) and other + 3 == pytest.approx(-(x - 2), abs=2e-3)
    assert "0.000,-1.000 4.000,-1.000 4.000,-5.000 0.000,-5.000" in plan
    assert "2.000,-3.000 3.000,-3.500" in plan and "waypoints 2" in plan
    assert draw_plan(make_sample(images=(SampleImage(data, "map"),), imagination=SampleImage(data, "bev"))) == ""
