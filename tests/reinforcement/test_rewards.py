"""What choices are worth, and settings that do not go together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ipt.common.errors import UserError
from ipt.common.images import encode_image
from ipt.reinforcement.rewards import Outcome, correct, similarity, well_formed, worths
from ipt.reinforcement.rollouts import permuted
from ipt.samples.sample import SampleImage
from tests.inference import toy
from tests.reinforcement import toys


@pytest.mark.parametrize(
    ("text", "right", "formed"),
    [
        ("<answer>A</answer>", 1, 1),
        ("<think>x</think><answer>A</answer", 1, 1),
        ("<answer>B</answer>", 0, 1),
        ("A", 1, 0),
        ("<answer>C</answer>", 0, 0),
        ("<answer>A</answer> or B", 1, 0),
        ("<answer>A", 1, 0),
        ("", 0, 0),
    ],
)
def test_answers_are_worth_being_right_and_well_formed(text: str, right: int, formed: int) -> None:
    outcome = Outcome(toy.sample(0), text)
    assert (correct(outcome), well_formed(outcome)) == (right, formed)


def test_a_picture_of_one_colour_has_nothing_to_gain() -> None:
    sample = toy.sample(0)
    true = sample.imagination.pixels()
    noise = np.random.default_rng(0).integers(0, 256, true.shape, dtype=np.uint8)

    def of(pixels: np.ndarray) -> float:
        return similarity(Outcome(sample, image=SampleImage(encode_image(pixels), "imagination")))

    assert of(true) == pytest.approx(1) and of(255 - true) == pytest.approx(0, abs=1e-6)
    for colour in (0, 128, 255):
        assert of(np.full_like(true, colour)) == 0.5
    assert 0.3 < of(noise) < 0.7 < of((0.7 * true + 0.3 * noise).astype(np.uint8))
    assert of(true[::2, ::2]) > 0.55, "at the size of what was drawn"


def test_rewards_that_are_no_numbers_and_rewards_of_the_other_stage_are_errors() -> None:
    with pytest.raises(UserError, match="'reader' is for pictures"):
        worths(Outcome(toy.sample(0), "<answer>A</answer>"), ["reader"])
    with pytest.raises(UserError, match=r"unknown reward 'corect' \(did you mean 'correct'\?\)"):
        toys.player("closed", rewards={"corect": 1.0})
    with pytest.raises(UserError, match="similarity is for grpo"):
        toys.player("closed", rewards={"similarity": 1.0})


def test_a_broken_file_of_rewards_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import nothing_of_that_name\n")
    for name, told in (("broken.py", "ModuleNotFoundError"), ("missing.py", "is no file")):
        with pytest.raises(UserError, match=told):
            toys.player("closed", files=[str(tmp_path / name)])


def test_the_permuted_control_reads_the_mediator_of_another_scene() -> None:
    questions = toys.asked(0, 1, 2)
    seen: list[tuple[str, object]] = []

    def read(samples: Any, mediators: Any) -> list[tuple[float, ...]]:
        seen.extend(zip([sample.id for sample in samples], mediators, strict=True))
        return [(0.25, 0.75) for _ in samples]

    assert permuted(read, questions, ["m0", None, "m2"]) == [0.25, 0.75, 0.25]  # type: ignore[list-item]
    assert seen == [("pet/0", "m2"), ("pet/1", "m2"), ("pet/2", "m0")]
    same = [each._replace(sample=replace(each.sample, provenance=questions[0].sample.provenance)) for each in questions]
    assert permuted(read, same, ["a", "b", "c"]) == []  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("stage", "changes", "told"),
    [
        ("closed", {"grpo": {"questions": 5}}, "cannot be shared by loader.packs_per_step=2"),
        ("closed", {"grpo": {"updates": 2}}, "trainer.steps=3 must be a multiple of grpo.updates=2"),
        ("closed", {"grpo": {"answers": 4}}, "grpo.answers has no effect while options are weighed"),
        ("closed", {"grpo": {"clip": 0.1}}, "grpo.clip has no effect while options are weighed"),
        ("sampled", {"grpo": {"closed": False}}, "grpo.closed has no effect in mode text_cot"),
        ("sampled", {"grpo": {"answers": 3}}, "must be a multiple of grpo.imaginations=2"),
        (
            "sampled",
            {"grpo": {"mode": "caption"}},
            "grpo.mode=caption: the model can be trained in ipt, label_only, text_cot",
        ),
        ("closed", {"grpo": {"noise": 0.3}}, "grpo.noise have no effect without grpo.stage=imagination"),
        ("drawn", {"grpo": {"kl": 0.3}}, "grpo.kl have no effect without grpo.stage=readout"),
        ("drawn", {"grpo": {"mode": "text_cot"}}, "grpo.mode=text_cot: the model can be trained in ipt"),
        ("drawn", {"grpo": {"draw": {"text_scale": 4.0}}}, "pictures are trained without guidance"),
        ("drawn", {"grpo": {"imaginations": 1}}, "compares the pictures of a question"),
        ("drawn", {"grpo": {"reader": "nowhere"}}, "grpo.reader=nowhere is no folder"),
        ("closed", {"imagination": {"modes": {"caption": 1.0}}}, "asked as it was trained"),
        ("closed", {"resolution": {"imagination": 4}}, r"resolution.imagination=4 \(trained: 2\)"),
        ("closed", {"data": {"profile": "brief"}}, r"data.profile=brief \(trained: toy\)"),
        ("closed", {"loss": {"ce_weight": 2.0}}, "loss.ce_weight has no effect on rollouts"),
        ("closed", {"loader": {"max_samples": 3}}, "loader.max_samples has no effect on rollouts"),
        ("closed", {"model": {"init": None, "preset": "tiny", "codec": "patch_pca"}}, "set model.init to its run"),
        ("closed", {"tuning": {"kind": "lora", "lora": {"dropout": 0.1}}}, "tuning.lora.dropout=0 is needed"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else None,
)
def test_settings_that_do_not_go_together_are_told(
    stage: str, changes: dict[str, Any], told: str, run: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=told):
        toys.config(run, stage, **changes)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What settings are checked against: a recipe and a dataset; no model is read."""
    folder = tmp_path_factory.mktemp("run")
    toy.recipe(*toys.MODES).save(folder / "run" / "model")
    toy.save_data(folder / "data", toy.SAMPLES)
    return folder
