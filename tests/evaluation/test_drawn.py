"""Drawn pictures against their truths: figures of pictures whose answer is known, and the command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ipt.common.errors import UserError
from ipt.common.images import image_size
from ipt.evaluation.quality import drawn
from ipt.evaluation.quality.similarity import scored
from ipt.inference.settings import DrawSettings
from tests.inference import toy


def test_figures_of_pictures_whose_answer_is_known() -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 255, (40, 8, 8, 3))
    mean, scenes = np.broadcast_to(truth.mean(0), truth.shape), [f"scene-{number}" for number in range(40)]
    perfect, same = scored(truth + 1, truth, mean, scenes, rng), scored(mean, truth, mean, scenes, rng)
    assert perfect.found == perfect.closer == 1 and perfect.own == pytest.approx(20 * np.log10(255))
    assert same.own == pytest.approx(same.mean)
    permuted = scored(np.roll(truth, 1, 0), truth, None, scenes, rng)
    assert permuted.found < 0.2 and permuted.own == pytest.approx(permuted.other, abs=0.5) and np.isnan(permuted.mean)


def data(folder: Path, count: int) -> Path:
    samples = [
        replace(toy.sample(number), choices=(), answer="", question_type=kind, id=f"{kind}-{number}")
        for kind in ("plan", "view")
        for number in range(count)
    ]
    return toy.save_data(folder, samples)


def test_the_command_writes_pictures_a_sheet_and_scores_of_every_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = toy.save_run(tmp_path / "run", "ipt")
    draw = DrawSettings(timesteps=3, text_scale=1.0)
    config = drawn.DrawnConfig(str(run), str(data(tmp_path / "data", 24)), str(tmp_path / "out"), 22, draw)
    drawn.main(config)
    assert len(list((tmp_path / "out/pictures").iterdir())) == 44
    kinds = json.loads((tmp_path / "out/scores.json").read_text())["kinds"]
    assert set(kinds) == {"plan", "view"} and kinds["plan"]["count"] == 22
    assert image_size(tmp_path / "out/sheet.png") == (3 * 102 - 6, 12 * 102 - 6)
    assert "plan" in capsys.readouterr().out


def test_too_few_scenes_to_compare_with_are_an_error(tmp_path: Path) -> None:
    run = toy.save_run(tmp_path / "run", "ipt")
    draw = DrawSettings(timesteps=3, text_scale=1.0)
    with pytest.raises(UserError, match="compared with 19 pictures of other scenes, there are 11"):
        drawn.measure(drawn.DrawnConfig(str(run), str(data(tmp_path / "data", 12)), str(tmp_path / "out"), None, draw))
