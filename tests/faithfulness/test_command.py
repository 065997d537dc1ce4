"""The command of the causal suite: cards, printed findings, and mistakes that end with one line."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra

from ipt.common.errors import UserError
from ipt.common.statistics import Estimate
from ipt.faithfulness import __main__ as command
from ipt.faithfulness.effects import Effect
from ipt.faithfulness.report import FIGURES, PAGE, capimagine
from ipt.faithfulness.runs import experiments
from ipt.faithfulness.settings import FaithfulnessConfig
from ipt.imagination.modes.discrete import DiscreteSettings
from tests.faithfulness import toys
from tests.inference import toy


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["faithfulness"])
    GlobalHydra.instance().clear()


@pytest.mark.usefixtures("typed")
def test_the_command_writes_a_card_of_two_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [toy.save_run(tmp_path / name, *modes) for name, modes in (("drawing", ()), ("telling", ("caption",)))]
    data = toy.save_data(tmp_path / "data", [replace(toy.sample(n), caption=f"left {n}") for n in range(4)])
    arguments = [f"checkpoint=[{runs[0]},{runs[1]}]", f"data={data}", f"output_dir={tmp_path / 'out'}", "preset=quick",
                 "mode.draw.timesteps=2", "mode.text.max_tokens=24", "imaginations=2", "replicates=100"]  # fmt: skip
    command.main([*arguments, "dry_run=true"])
    printed = capsys.readouterr().out
    assert "4 questions in 4 scenes, picture as mediator" in printed and "points" in printed
    assert not (tmp_path / "out").exists()
    command.main([*arguments, f"baseline={runs[0]}"][:-1])
    assert "drawing:" in capsys.readouterr().out
    found = json.loads((tmp_path / "out" / FIGURES).read_text())["checkpoints"]
    assert [each["kind"] for each in found] == ["picture", "text"]
    assert (tmp_path / "out" / PAGE).read_text().count("<img") > 10


@pytest.mark.usefixtures("typed")
def test_capimagine_prints_its_three_findings_on_latents_and_codes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [toy.save_run(tmp_path / name, name, "label_only") for name in ("latent", "discrete")]
    samples = [replace(toy.sample(n), facts=toys.FACTS) for n in range(4)]
    data = toy.save_data(tmp_path / "data", samples)
    command.main([f"checkpoint=[{runs[0]},{runs[1]}]", f"data={data}", f"output_dir={tmp_path / 'out'}", "preset=capimagine",
                  "mode.text.max_tokens=24", "imaginations=1", "replicates=100"])  # fmt: skip
    printed, found = capsys.readouterr().out, json.loads((tmp_path / "out" / FIGURES).read_text())["checkpoints"]
    latent, code = found
    assert (latent["kind"], code["kind"]) == ("latent", "code") and latent["guards"] == []
    cosines = " / ".join(f"{each:.3f}" for each in latent["dependence"]["cosine"])
    assert len(latent["dependence"]["cosine"]) == 4 and f"(by slot {cosines}) between questions" in printed
    moved = toys.effects(latent)["constant"]["accuracy"]["value"]
    assert f"constant {100 * moved:+.1f} [" in printed and "swap:other_scene:other_answer" in toys.effects(code)
    share = 100 * latent["derived"]["from its own"]["value"]
    assert f"of 4 derived questions, with the inputs hidden, {share:.1f} %" in printed
    assert {arm for arm in toys.effects(latent) if "noise" in arm or "mirror" in arm} == {"noise", "gt.mirror"}
    assert (tmp_path / "out" / PAGE).read_text().count("X to Z:") == 2
    for name in ("latent", "discrete"):  # what an arm put there is shown
        seen = [
            sorted((tmp_path / "out" / name / arm / "s0" / "images").glob("*.png")) for arm in ("identity", "constant")
        ]
        assert len(seen[0]) == len(seen[1]) == 4 and seen[0][0].read_bytes() != seen[1][0].read_bytes()


@pytest.mark.parametrize(("noise", "said"), [(0.0, "the latent is decoration"), (-0.2, "the latent is read")])
def test_capimagine_does_not_take_a_missing_mediator_for_one_that_is_read(noise: float, said: str) -> None:
    """A model that cannot answer without slots, but from any: that they are there matters, what they hold does not."""

    def effect(arm: str, change: float) -> Effect:
        found = Estimate(change, change - 0.01, change + 0.01, 500, 80)
        lower = change < 0
        return Effect(
            arm, "identity", "destroy", found, found, 0.8 + change, 0, 0, 0.0, 0.0 if lower else 1.0, not lower, 0.1, 0.5,
            exact=False, invalid=0, errors=0, seeds=1,
        )  # fmt: skip

    effects = [effect("empty", -0.3), effect("noise", noise), effect("constant", 0.0)]
    similar, read, *_ = capimagine({"effects": effects, "derived": {}}, "latent", None, None)
    assert similar.startswith("X to Z: latents are too few") and read.startswith(f"Z to Y: {said}")


def test_a_model_that_imagines_depth_is_shown_no_pictures_of_other_scenes(tmp_path: Path) -> None:
    """There are depth maps of true pictures alone, so that an arm render: would quietly show the truth."""
    data = toy.save_data(tmp_path / "data", [toys.sample(n) for n in range(4)])
    depth = {"target": "depth", "depth_maps": tmp_path}
    for name, settings in (("colours", {}), ("deep", depth)):
        run = toy.save_run(tmp_path / name, "discrete")
        recipe = toy.recipe("discrete")
        replace(recipe, imagination=replace(recipe.imagination, discrete=DiscreteSettings(**settings))).save(
            run / "model"
        )

    def arms(name: str, **changes: Any) -> list[str]:
        config = FaithfulnessConfig(checkpoint=(str(tmp_path / name),), data=str(data), **changes)
        ((_, experiment),) = experiments(config)
        return [str(arm) for arm in experiment.arms()]

    assert set(arms("colours")) - set(arms("deep")) == {"render:mirrored"}
    with pytest.raises(UserError, match="arms render: show other pictures of a scene, but this model imagines depth"):
        arms("deep", arms=("render:mirrored",))


@pytest.mark.usefixtures("typed")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data=."], "there is no model: set checkpoint=FOLDER"),
        (["checkpoint=x", "data=/nowhere"], "dataset /nowhere does not exist"),
        (["checkpoint=x", "data=.", "preset=all"], "unknown preset 'all'"),
        (["checkpoint=x", "data=.", "seeds=9"], "seeds must be 1 to imaginations=4"),
        (["checkpoint=x", "data=.", "mode.n=3"], "set imaginations"),
    ],
)
def test_mistakes_end_with_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        command.main(arguments)
    assert end.value.code == 2 and message in capsys.readouterr().err
