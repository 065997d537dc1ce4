"""Plans annotated by a model: geometry and votes by hand, eight questions a path, nothing asked twice, the budget kept."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datagen.real.plans import PlansConfig, main, snapped
from datagen.yields import NoYield
from ipt.common.endpoint import BudgetSpent
from ipt.common.errors import UserError
from ipt.common.images import encode_image
from ipt.samples.sample import SpatialSample
from ipt.samples.store import SampleReader
from tests.stub_endpoint import Stub, serving

pytest.importorskip("openai")

BORDER, WIDTH, HEIGHT = 20, 200, 140
PATHS = [
    {"start": [100, 500], "middle": [500, 900], "end": [800, 500]},
    {"start": [100, 100], "middle": [110, 100], "end": [120, 100]},  # too short
    {"start": [-400, 200], "middle": [500, 200], "end": [1400, 200]},  # cut to the picture, and over the dark corner
    {"start": [100, 100], "middle": [200, 100]},  # no end
    {"start": [300, 900], "middle": [300, 500], "end": [300, 100]},
]
NAMED = {
    "middle": [500, 450],
    "left": ["a Sofa", "lamp", "table"],
    "right": ["the bed", "chair", "wardrobe", "table lamp"],
}


class Annotator:
    """Proposes `PATHS`, names `NAMED` (the first reply is no JSON) and sees everything but chairs."""

    def __init__(self) -> None:
        self.named = 0

    def __call__(self, text: str, pictures: int) -> str:
        assert pictures == 1
        if "Propose" in text:
            return f"Here you are:\n```json\n{json.dumps({'paths': PATHS})}\n```"
        if "Correct the middle" in text:
            self.named += 1
            return "Sorry?" if self.named == 1 else json.dumps(NAMED)
        return "No." if "a chair" in text else "yes"


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One plan within dark borders; a quarter of it, at the upper right, is nearly black."""
    pixels = np.zeros((HEIGHT + 2 * BORDER, WIDTH + 2 * BORDER, 3), np.uint8)
    inside = pixels[BORDER : BORDER + HEIGHT, BORDER : BORDER + WIDTH]
    inside[:] = 200
    inside[: HEIGHT // 2 - 10, WIDTH * 7 // 10 :] = 30
    inside[0, -1] = inside[:, -1] = 200
    folder = tmp_path_factory.mktemp("plans")
    (folder / "flat.png").write_bytes(encode_image(pixels))
    return folder


def config(plans: Path, output: Path, url: str = "http://127.0.0.1:1/v1", **changes: Any) -> PlansConfig:
    values = {"workers": 1, "retries": 0, "paths": 5, "cache": str(output.parent / "cache"), **changes}
    return PlansConfig(data=str(plans), output_dir=str(output), model="m", base_url=url, **values)


def test_two_paths_of_five_become_sixteen_questions(plans: Path, tmp_path: Path) -> None:
    stub = Stub(Annotator())
    with serving(stub) as url:
        main(config(plans, tmp_path / "made", url))
        asked = len(stub.requests)
        # one first pass, three second passes, walkable and nine things twice each (the chair is on no side)
        assert asked == 1 + 3 + 2 * 2 * (1 + 2 * 4 + 1)
        main(config(plans, tmp_path / "again", url))
        assert len(stub.requests) == asked, "nothing is asked twice"
    samples = list(SampleReader(tmp_path / "made"))
    assert [sample.id for sample in samples] == SampleReader(tmp_path / "again").ids() and len(samples) == 16
    manifest = json.loads((tmp_path / "made" / "manifest.json").read_text())
    rejected = {name: entry["rejected"] for name, entry in manifest["yields"].items() if entry["rejected"]}
    assert rejected == {
        "reply.is_json": 1,
        "path.length": 1,
        "path.on_plan": 1,
        "path.three_points": 1,
        "thing.one_side": 4,
        "thing.visible": 2,
    }
    assert manifest["usage"]["requests"] == asked
    check_questions(samples)


def check_questions(samples: list[SpatialSample]) -> None:
    """Sides swap with the direction, distractors come from the opposite side first, letters are dealt evenly."""
    sides = {"left": {"sofa", "table"}, "right": {"bed", "wardrobe"}}
    assert Counter(sample.question_type for sample in samples) == dict.fromkeys(
        ("forward_left", "forward_right", "reverse_left", "reverse_right"), 4
    )
    assert set(Counter(sample.answer for sample in samples).values()) == {4}
    for sample in samples:
        facts = sample.facts
        mine = facts["side"] if facts["direction"] == "forward" else {"left": "right", "right": "left"}[facts["side"]]
        assert facts["answer"] in sides[mine] and set(facts["opposite"]) == set().union(*sides.values()) - sides[mine]
        assert set(facts["opposite"]) < set(facts["options"]) and len(sample.choices) == 4
        assert facts["options"][3] not in set().union(*sides.values()) and not sample.has_imagination
        assert sample.answer_text == facts["answer_text"] and facts["side"] in sample.question
        pixels = sample.images[0].pixels().astype(int)
        assert pixels.shape == (HEIGHT, WIDTH, 3), "dark borders are cut off"
        (x, y), middle, _ = facts["points_px"]
        red = (pixels[..., 0] > 150) & (pixels[..., 1:].max(axis=2) < 110)
        at = (np.array([x, y]) * 0.75 + np.array(middle) * 0.25).round().astype(int)
        assert red[at[1] - 2 : at[1] + 3, at[0] - 2 : at[0] + 3].any(), "the line is where the model put it"
        blue = (pixels[..., 2] > 140) & (pixels[..., 0] < 110)
        assert (blue.sum() > 20) == (facts["variant"] == "td_path_arrow")
    first = next(sample for sample in samples if "-0-" in sample.id)
    assert first.facts["points_px"][1] == [99.5, 69.5], "the midpoint is corrected, and moved onto the line"


def test_every_setting_is_heard(plans: Path, tmp_path: Path) -> None:
    stub = Stub(Annotator())

    def made(name: str, **changes: Any) -> int:
        main(config(plans, tmp_path / name, url, **changes))
        return len(SampleReader(tmp_path / name))

    with serving(stub) as url:
        assert made("usual") == 16
        assert made("one", paths=1) == 8
        assert made("short", min_length=0.01) == 24
        assert made("dark", max_dark=1.0) == 24
        assert made("level", dark_level=20) == 24
        before = len(stub.requests)
        assert made("rounds", rounds=1, cache=str(tmp_path / "once")) == 16
        assert len(stub.requests) - before == 1 + 2 + 2 * (1 + 2 * 4 + 1), "one reply a query"
        with pytest.raises(NoYield, match="enough_things"):
            made("many", min_objects=3)
        stub.answer = Annotator()
        assert made("attempts", attempts=1, cache=str(tmp_path / "attempts")) == 8, "the first path got no JSON"
        assert made("seed", seed=1) == 16
    usual, other = (list(SampleReader(tmp_path / name)) for name in ("usual", "seed"))
    assert [sample.choices for sample in usual] != [sample.choices for sample in other]
    for wrong in (
        {"paths": 0},
        {"min_objects": 0},
        {"rounds": 0},
        {"attempts": 0},
        {"min_length": 1.5},
        {"dark_level": 300},
    ):
        with pytest.raises(UserError, match=next(iter(wrong))):
            config(plans, tmp_path / "wrong", **wrong)


def test_cost_is_told_before_and_the_budget_stops_it(plans: Path, tmp_path: Path, capsys: Any) -> None:
    stub = Stub(Annotator())
    prices = {"price_in": 10.0, "price_out": 10.0}
    with serving(stub) as url:
        main(config(plans, tmp_path / "made", url, dry_run=True, **prices))
        assert "at most" in capsys.readouterr().out and not stub.requests
        with pytest.raises(BudgetSpent):
            main(config(plans, tmp_path / "made", url, budget=0.02, **prices))
        assert 0 < len(stub.requests) < 20 and not (tmp_path / "made").exists()
        main(config(plans, tmp_path / "made", url, budget=5.0, **prices))
        assert len(stub.requests) == 44, "what was answered before is not asked again"


def test_wrong_folders_and_pictures_are_named(plans: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must hold pictures"):
        main(config(tmp_path, tmp_path / "out"))
    (tmp_path / "black.png").write_bytes(encode_image(np.zeros((20, 20, 3), np.uint8)))
    with pytest.raises(UserError, match=r"black\.png is dark throughout"):
        main(config(tmp_path, tmp_path / "out"))
    (tmp_path / "black.png").write_bytes((plans / "flat.png").read_bytes()[:-100])
    with pytest.raises(UserError, match=r"black\.png"):
        main(config(tmp_path, tmp_path / "out"))


def test_the_midpoint_stays_in_the_middle_three_fifths() -> None:
    start, end = np.array([0.0, 0.0]), np.array([10.0, 0.0])
    for x, expected in ((5, 5), (-3, 2), (9.5, 8)):
        assert snapped(np.array([x, 4.0]), start, end).tolist() == pytest.approx([expected, 0])
