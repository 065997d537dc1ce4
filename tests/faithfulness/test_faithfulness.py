"""The causal suite: planted effects are recovered, intervals cover, identities hold, the hook is neutral, and kills change
nothing."""

from __future__ import annotations

import itertools
import json
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ipt.common.endpoint import EndpointDown
from ipt.common.errors import UserError
from ipt.common.images import encode_image
from ipt.common.seeding import generator
from ipt.faithfulness.dependence import changes
from ipt.faithfulness.effects import Bootstrap, Results, effect, half_dose
from ipt.faithfulness.interventions import INTERVENTIONS, Case, changed, default_arms, parse_arm
from ipt.faithfulness.report import FIGURES, PAGE, card_of
from ipt.faithfulness.runs import read_arms
from ipt.faithfulness.settings import PRESETS, FaithfulnessConfig, Rewriter
from ipt.faithfulness.subject import ModelSubject
from ipt.faithfulness.views import derived_question
from ipt.imagination.base import Mediator
from ipt.inference.engine import Engine
from ipt.inference.settings import DrawSettings, ModeSettings, TextSettings
from ipt.samples.sample import SampleImage
from tests.deadly import forked
from tests.evaluation.simulated import prediction
from tests.faithfulness import toys
from tests.inference import toy
from tests.stub_endpoint import Stub, serving

Figures = Mapping[str, Any]
QUESTIONS = 96
SHARES = ((0.5, 0.5), (0.6, 0.4))
PICTURES = ("noise", "empty", "mirror", "drop:0.25", "drop:0.75", "size:2", "size:16", "swap:other_scene:other_answer",
            "other_seed", "gt.round_trip", "gt.mirror", "render:mirrored")  # fmt: skip
FOUR = ("left red", "left blue", "right red", "right blue")


def investigated(folder: Path, kind: str, answer: toys.Answer, arms: tuple[str, ...], **changes: Any) -> Figures:
    """The figures of a toy beside a baseline that guesses."""
    options = changes.pop("options", toys.SIDES)
    config = FaithfulnessConfig(("toy",), output_dir=str(folder), imaginations=2, replicates=500, arms=arms, gallery=1,
                                batch_size=QUESTIONS)  # fmt: skip
    samples = [toys.sample(number, options) for number in range(QUESTIONS)]
    baseline = toys.experiment(folder / "baseline", toys.Toy("", toys.ignores), samples, config)
    baseline.at_once()
    card_of(config, [("toy", toys.experiment(folder, toys.Toy(kind, answer), samples, config))], baseline)
    assert "<img" in (folder / PAGE).read_text() or kind == "text"
    return json.loads((folder / FIGURES).read_text())["checkpoints"][0]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Figures:
    return investigated(tmp_path_factory.mktemp("a"), "picture", toys.reads_picture, PICTURES)


def within(truth: float, estimate: Figures) -> bool:
    return bool(estimate["low"] - 1e-9 <= truth <= estimate["high"] + 1e-9)


def test_a_model_that_reads_only_the_picture(reader: Figures) -> None:
    found, lost = toys.effects(reader), 0.5 - toys.SKILL
    for arm, truth in {
        "noise": lost,
        "empty": lost,
        "size:16": lost,
        "mirror": 1 - 2 * toys.SKILL,
        "gt": 1 - toys.SKILL,
    }.items():
        assert within(truth, found[arm]["accuracy"]), arm
        assert found[arm]["verdict"] == ("higher" if truth > 0 else "lower")
    assert found["identity" if "identity" in found else "self"]["exact"] and found["size:2"]["exact"]
    assert all(found[arm]["accuracy"]["value"] == -1 for arm in ("gt.mirror", "render:mirrored"))
    assert within(toys.SKILL - 0.5, reader["mediation"]["TNIE"]) and reader["mediation"]["NDE"]["value"] == 0
    assert reader["mediation"]["PM"]["value"] == 1 and within(toys.SKILL, reader["mediation"]["sufficiency of the own"])
    assert all(within(0.5, reader["steering"][arm]) for arm in ("mirror", "gt.mirror"))
    assert within(0.5, reader["trust"]["necessity: noise"])
    (size,) = (each for each in reader["doses"] if each["name"] == "size")
    assert 1 < size["d50"]["value"] < 15 and size["rank"] < 0
    assert reader["guards"] == [] and "The content of the picture is read" in reader["conclusions"][0]


def test_a_model_that_ignores_the_picture(tmp_path: Path) -> None:
    found = investigated(tmp_path, "picture", toys.ignores, ("noise", "empty", "mirror"))
    assert all(each["exact"] and each["moved"] == 0 for each in found["effects"])
    assert all("did not fire" in words for words in found["guards"]) and len(found["guards"]) == 2
    assert all(each["value"] == 0 for each in found["steering"].values())
    assert found["mediation"]["TNIE"]["value"] == 0 and found["mediation"]["PM"]["value"] == 0
    assert found["telescope"]["total"]["value"] == found["telescope"]["content"]["value"] == 0
    assert "decoration" in found["conclusions"][0]


def test_a_model_that_reads_half_of_the_bits_from_the_picture(tmp_path: Path) -> None:
    found = investigated(tmp_path, "picture", toys.reads_half, ("noise", "mirror"), options=FOUR)
    truths = {"TE": toys.SKILL - 0.25, "NDE": 0.25, "TNIE": toys.SKILL - 0.5, "PNIE": toys.SKILL / 2 - 0.25}
    truths["INT"] = truths["TNIE"] - truths["PNIE"]
    for name, truth in truths.items():
        assert within(truth, found["mediation"][name]), name
    assert within(truths["TNIE"] / truths["TE"], found["mediation"]["PM"])
    assert within(0.5 - toys.SKILL, toys.effects(found)["noise"]["accuracy"])


def test_a_model_that_obeys_the_last_word_of_a_text(tmp_path: Path) -> None:
    arms = ("shuffle", "empty", "mirror", "repeat", "swap:other_scene:other_answer")
    found = investigated(tmp_path, "text", toys.obeys, arms)
    last = 1 / 5  # the word that counts stays the last of five
    truths = {"shuffle": last * toys.SKILL + (1 - last) / 2, "empty": 0.5, "repeat": 0.5, "mirror": 1 - toys.SKILL}
    for arm, truth in truths.items():
        assert within(truth - toys.SKILL, toys.effects(found)[arm]["accuracy"]), arm
    assert within(1 - (1 - last) / 2, found["steering"]["mirror"])


def test_a_model_that_reads_its_latents(tmp_path: Path) -> None:
    """The first of four slots tells: an order without it first, or a constant, tells nothing."""
    arms = ("constant", "zeros", "empty", "noise", "permute", "repeat", "jitter:0.5", "jitter:16", "drop:0.25", "drop:1",
            "gt.mirror", "render:mirrored", "swap:other_scene:other_answer", "swap:other_scene:same_answer")  # fmt: skip
    found = investigated(tmp_path, "latent", toys.reads_latents, arms)
    lost, moved = 0.5 - toys.SKILL, toys.effects(found)
    told = {
        "zeros": lost,
        "empty": lost,
        "permute": 0.75 * lost,
        "drop:0.25": 0.25 * lost,
        "drop:1": lost,
        "constant": lost,
    }
    for arm, truth in told.items():
        assert within(truth, moved[arm]["accuracy"]), arm
    assert moved["repeat"]["exact"] and moved["jitter:0.5"]["moved"] < 0.1 < moved["jitter:16"]["moved"]
    assert all(moved[arm]["accuracy"]["value"] == -1 for arm in ("gt.mirror", "render:mirrored"))
    assert moved["gt"]["accuracy"]["value"] == pytest.approx(1 - found["accuracy"]["identity"]["value"])
    assert moved["noise"]["accuracy"]["value"] < -0.1
    assert found["steering"]["swap:other_scene:other_answer"]["low"] > 0
    assert {each["name"] for each in found["doses"]} == {"jitter", "drop"}
    depends = found["dependence"]
    assert depends["cosine"][0] < 0.5 and len(depends["cosine"]) == 4 and abs(depends["within"]) < 0.2
    assert depends["similarity"] < 0.1 and depends["diversity"] == pytest.approx(1, abs=0.1)


def test_a_model_that_reads_its_codes(tmp_path: Path) -> None:
    arms = ("constant", "empty", "noise", "shuffle", "mirror", "drop:0.25", "drop:0.9", "swap:other_scene:same_answer")
    found = investigated(tmp_path, "code", toys.reads_codes, arms)
    lost, moved = 0.5 - toys.SKILL, toys.effects(found)
    for arm, truth in {
        "constant": lost,
        "empty": lost,
        "noise": lost,
        "shuffle": lost,
        "mirror": 1 - 2 * toys.SKILL,
    }.items():
        assert within(truth, moved[arm]["accuracy"]), arm
    assert moved["drop:0.25"]["accuracy"]["value"] > moved["drop:0.9"]["accuracy"]["value"]
    assert found["steering"]["mirror"]["value"] > 0.4 and found["guards"] == []
    assert "The content of the code is read" in found["conclusions"][0] and found["dependence"]["diversity"] > 0.9


def test_numbers_are_changed_as_arms_say() -> None:
    """Latents of a thousand numbers, and codes: what each arm leaves of them."""
    rng, others = generator(0, "numbers"), Fixed()

    def of(kind: str, numbers: NDArray[Any], text: str) -> NDArray[Any] | None:
        made = Mediator("<m>", numbers=numbers)
        case = Case(toys.sample(0), made, 0, False, others, generator(0, text))
        got = changed(parse_arm(text, kind), kind, case)
        assert got is None or (got.text, got.image) == ("<m>", None)
        assert got is None or got.numbers is None or got.numbers.dtype == numbers.dtype
        return None if got is None else got.numbers

    slots = (rng.normal(3, 2, (4, 1000)) + 10 * np.arange(4)[:, None]).astype(np.float32)
    noise, jitter, drop = (of("latent", slots, text) for text in ("noise", "jitter:2", "drop:0.5"))
    assert noise is not None and jitter is not None and drop is not None
    for added, times in ((noise - others.vector, 1), (jitter - slots, 2)):  # the deviation is 7 in other scenes
        assert added.std(1) == pytest.approx([7 * times] * 4, rel=0.1) and abs(added.mean()) < times
        assert abs(np.corrcoef(added[0], slots[0])[0, 1]) < 0.1
    assert sorted((drop == others.vector).all(1)) == [False, False, True, True]
    np.testing.assert_array_equal(of("latent", slots, "constant"), np.tile(others.vector, (4, 1)))
    np.testing.assert_array_equal(of("latent", slots, "repeat"), np.tile(slots[0], (4, 1)))
    np.testing.assert_array_equal(of("latent", slots, "identity"), slots)
    assert of("latent", slots, "empty") is None and not np.any(of("latent", slots, "zeros"))
    order = np.round((np.array([row.mean() for row in of("latent", slots, "permute")]) - 3) / 10).astype(int)  # type: ignore[union-attr]
    assert sorted(order) == [0, 1, 2, 3] and list(order) != [0, 1, 2, 3]
    assert of("latent", slots[:1], "permute") is None is of("latent", slots[:1], "repeat")
    grid = rng.integers(0, 4, (6, 6))
    np.testing.assert_array_equal(of("code", grid, "mirror"), grid[:, ::-1])
    np.testing.assert_array_equal(of("code", grid, "constant"), np.full((6, 6), 5))
    shuffled, noisy, dropped = (of("code", grid, text) for text in ("shuffle", "noise", "drop:0.5"))
    assert shuffled is not None and noisy is not None and dropped is not None
    assert (shuffled != grid).any() and sorted(shuffled.ravel()) == sorted(grid.ravel())
    assert set(noisy.ravel()) == set(range(8)) and (dropped == 5).sum() == 18 and (dropped == grid).sum() == 18


class Fixed:
    """What arms take from other questions: one mean vector and a deviation of 7, and code 5."""

    vector, codes = np.arange(1000, dtype=np.float32), 8

    def means(self, seed: int | None, of: Any) -> Mapping[str, Any]:
        moments = np.stack([self.vector, self.vector**2 + 49])
        return {toys.sample(0).id: np.eye(8)[5] if hasattr(of, "codes") else moments}


def test_texts_are_rewritten_by_a_model_once(tmp_path: Path) -> None:
    """To where they lead to a wrong answer: a model that obeys them follows. What was asked is not asked again."""
    stub = Stub(lambda text, _: f"the block is {text.rpartition(': ')[2]}")
    samples = [toys.sample(number) for number in range(24)]
    with serving(stub) as url:

        def run(folder: Path, **changes: Any) -> Figures:
            settings = Rewriter(
                model="m", base_url=url, cache=str(tmp_path / "replies"), workers=3, request={"temperature": 0}
            )
            config = FaithfulnessConfig(("toy",), output_dir=str(folder), imaginations=1, replicates=100, treatment="none",
                                        **{"rewriter": settings, "preset": "quick", **changes})  # fmt: skip
            card_of(config, [("toy", toys.experiment(folder, toys.Toy("text", toys.obeys), samples, config))], None)
            return json.loads((folder / FIGURES).read_text())["checkpoints"][0]

        found = run(tmp_path / "one")
        assert toys.effects(found)["rewrite"]["accuracy"]["value"] == pytest.approx(
            -found["accuracy"]["identity"]["value"]
        )
        assert found["steering"]["rewrite"]["low"] > 0 and len(stub.requests) == len(
            {str(r["messages"]) for r in stub.requests}
        )
        message = str(stub.requests[0]["messages"])
        assert (
            stub.requests[0]["model"] == "m" and stub.requests[0]["temperature"] == 0 and "It must lead to: " in message
        )
        asked = len(stub.requests)
        run(tmp_path / "two", arms=("rewrite", "shuffle"))
        assert asked == len(stub.requests), "replies are kept"
        with pytest.raises(UserError, match=r"arm rewrite asks a model: set rewriter.model"):
            run(tmp_path / "three", arms=("rewrite",), rewriter=Rewriter())
        stub.status, stub.failures = 401, 10**6
        with pytest.raises(EndpointDown):
            run(tmp_path / "four", rewriter=Rewriter(model="m", base_url=url, retries=0))


def test_terms_sum_to_the_last_digit(reader: Figures) -> None:
    value = {name: each["value"] for part in ("telescope", "mediation") for name, each in reader[part].items()}
    questions = reader["questions"]
    exact = {name: round(each * questions, 6) for name, each in value.items()}
    assert exact["training"] + exact["presence"] + exact["content"] == exact["total"] != 0
    assert exact["generation"] + exact["codec"] == exact["headroom"]
    assert exact["TE"] == exact["NDE"] + exact["TNIE"] and exact["INT"] == exact["TNIE"] - exact["PNIE"]


def test_several_imaginations(reader: Figures) -> None:
    found = reader["uncertainty"]
    assert found["total"] == pytest.approx(found["reader"] + found["disagreement"]) and found["disagreement"] > 0.05
    assert found["accuracy"]["vote"][0] == pytest.approx(reader["accuracy"]["self"]["value"], abs=0.1)
    assert found["scores"]["disagreement"][1] > 0.2, "imaginations that disagree mean errors"
    assert (found["gate"][0][1], found["gate"][-1][1]) == (found["random"][0][1], found["random"][-1][1])
    depends = reader["dependence"]
    assert depends["diversity"] == pytest.approx(1, abs=0.1) and depends["identical"] == QUESTIONS - 2, (
        "there are two pictures"
    )


def test_imaginations_follow_the_fact_that_is_asked_about_and_no_other(tmp_path: Path) -> None:
    """The toy imagines the side that its inputs show: the one input of a pair moves it, the one of another colour does not."""
    samples = [toys.sample(number, paired=True) for number in range(24)]
    config = FaithfulnessConfig(
        ("toy",), output_dir=str(tmp_path), imaginations=1, replicates=100, arms=("noise",), pairs=True
    )
    toy_run = toys.experiment(tmp_path, toys.Toy("code", toys.reads_codes), samples, config)
    card_of(config, [("toy", toy_run)], None)
    pairs = json.loads((tmp_path / FIGURES).read_text())["checkpoints"][0]["pairs"]
    assert (
        pairs["moves"]["remove"]["low"] > 1 and pairs["moves"]["other"]["value"] == 0 and pairs["selectivity"] is None
    )
    assert (pairs["answers"]["remove"]["value"], pairs["answers"]["other"]["value"]) == (1, 0)
    assert "Minimal pairs of inputs" in (tmp_path / PAGE).read_text()
    assert [str(arm) for arm in toy_run.arms()] == ["identity", "gt", "noise"]
    without = toys.experiment(
        tmp_path / "off", toys.Toy("code", toys.reads_codes), samples, replace(config, pairs=False)
    )
    assert without.paired_roles() == () and toy_run.paired_roles() == ("remove", "other")
    plain = toys.experiment(
        tmp_path / "none", toys.Toy("code", toys.reads_codes), [toys.sample(0), toys.sample(1)], config
    )
    with pytest.raises(UserError, match=r"differ in one fact.*task.counterfactuals.pairs=true"):
        plain.run()


def test_what_changes_is_told_by_where_the_truth_does() -> None:
    """The imagination changes by 30 where the truth changes, by 10 elsewhere."""
    true, unseen = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 3), np.uint8)
    unseen[:2] = 200
    before, after = np.full((4, 4, 3), 50, np.uint8), np.full((4, 4, 3), 60, np.uint8)
    after[:2] = 80
    image = {name: SampleImage(encode_image(pixels), "view") for name, pixels in
             {"true": true, "unseen": unseen, "before": before, "after": after}.items()}  # fmt: skip
    sample = replace(
        toys.sample(0), imagination=image["true"], counterfactuals=(replace(image["unseen"], role="remove"),)
    )
    assert changes(sample, "remove", image["before"], image["after"]) == (30, 10)
    assert changes(sample, "other", image["before"], image["after"]) is None
    assert changes(sample, "remove", None, image["after"]) is None


def test_probes_find_what_states_hold(reader: Figures) -> None:
    (found,) = reader["probes"]["probes"]
    assert (found["target"], reader["probes"]["layers"]) == ("answer", [1, 4])
    inputs, imagined, before = (found["layers"][role] for role in ("observation", "imagination", "answer"))
    assert max(inputs) < 0.65 and before == [1, 1] and found["control"] < 0.65
    assert imagined == pytest.approx([reader["accuracy"]["identity"]["value"]] * 2, abs=0.06)
    assert found["added"]["low"] > 0 and found["gap"]["value"] == pytest.approx(1 - imagined[-1])


@pytest.mark.parametrize("correlated", [0.0, 0.8])
def test_intervals_cover_where_questions_cluster_in_scenes(correlated: float) -> None:
    """95 % +- 3 in 500 simulations; a bootstrap that draws questions again inside of scenes covers too much."""
    rng, covered, nested, truth = generator(0, "coverage"), 0, 0, 0.1
    scenes, each, times = 60, 4, 500
    for number in range(times):
        shared = rng.random(scenes)[:, None] < correlated
        draws = rng.random((scenes, each))
        draws = np.where(shared, draws[:, :1], draws)
        values = np.where(draws < 0.3, 1.0, np.where(draws > 0.8, -1.0, 0.0))  # of mean 0.1
        found = Bootstrap(np.repeat(np.arange(scenes), each).tolist(), 400, number).estimate(values.ravel())
        covered += found.includes(truth)
        if not correlated:
            drawn, inner = rng.integers(0, scenes, (400, scenes, 1)), rng.integers(0, each, (400, scenes, each))
            low, high = np.quantile(values[drawn, inner].mean((1, 2)), [0.025, 0.975])
            nested += low <= truth <= high
    assert 0.92 <= covered / times <= 0.98
    assert correlated or nested / times > max(0.975, covered / times)


@pytest.mark.parametrize(("count", "verdict"), [(48, "undecided"), (400, "no effect")])
def test_few_questions_prove_no_absence(count: int, verdict: str) -> None:
    """No answer differs: with 48 questions, one in twenty still could."""
    runs = [{p.sample_id: p for p in (prediction(n, probabilities=shares) for n in range(count))} for shares in SHARES]
    results = Results({("identity", 0): runs[0], ("noise", 0): runs[1]}, ("identity", "noise"), "picture", 200)
    found = effect(results, "identity", "noise", "destroy")
    assert found is not None and (found.accuracy.low, found.accuracy.high) == (0, 0)
    assert found.verdict == verdict and found.moved == 1


def test_half_dose_of_known_curves() -> None:
    steps = np.array([0.0, 1, 2, 4])
    curves = np.array(
        [[0.9, 0.8, 0.7, 0.5], [0.9, 0.9, 0.5, 0.5], [0.9, 0.9, 0.9, 0.9], [0.9, 0.4, 0.9, 0.9], [0.5] * 4]
    )
    found = half_dose(steps, curves, np.full(5, 0.5))
    assert found[[0, 1, 3]] == pytest.approx([2, 1.5, 0.4]) and np.isnan(found[[2, 4]]).all()


def test_interventions_do_what_their_names_say() -> None:
    assert {entry.family for table in INTERVENTIONS.values() for entry in table.values()} == {
        "control", "destroy", "swap", "direct", "dose", "truth"
    }  # fmt: skip
    assert [str(parse_arm(text, "picture")) for text in ("gt", "gt.blur:2", "swap:a:b")] == [
        "gt",
        "gt.blur:2",
        "swap:a:b",
    ]
    for kind, preset in itertools.product(INTERVENTIONS, PRESETS):
        arms = default_arms(kind, preset, ["yaw+30", "mirrored"])
        assert [str(parse_arm(arm, kind)) for arm in arms] == arms and len(set(arms)) == len(arms) > 5
    with pytest.raises(ValueError, match=r"unknown intervention on a text 'blur'.*shuffle"):
        parse_arm("blur:2", "text")


def test_derived_questions_ask_for_something_else_in_the_same_view() -> None:
    far = derived_question(replace(toys.sample(0), facts=toys.FACTS))
    side = derived_question(replace(toys.sample(0), facts={**toys.FACTS, "kind": "distance"}))
    assert far is not None and side is not None
    assert (far.question, far.answer_text) == ("On the X, turned right: is the cone closer or further?", "Closer")
    assert (side.question, side.answer_text) == ("On the X, turned right: is the cone left or right?", "Left")
    assert derived_question(replace(toys.sample(0), facts={**toys.FACTS, "distance_after_m": 3.4})) is None, (
        "hardly further"
    )
    assert derived_question(toys.sample(0)) is None


MODE = ModeSettings("imagination", draw=DrawSettings(timesteps=2), text=TextSettings(max_tokens=24))


@pytest.mark.parametrize("kind", ["ipt", "caption", "latent", "discrete"])
def test_the_hook_is_neutral_in_a_model(kind: str, tmp_path: Path) -> None:
    """The identity is the model's own answer: bit for bit what every other arm's way gives, and production up to rounding."""
    subject = ModelSubject(toy.checkpoint(kind), MODE, 4)
    made = subject.imagined(toy.SAMPLES, 0)
    own = {a.prediction.sample_id: subject.mediator_of(a.prediction.thoughts, *a[1:]) for a in made}
    kinds = {"ipt": "picture", "caption": "text", "latent": "latent", "discrete": "code"}
    assert all(own.values()) and subject.kind == kinds[kind]
    config = FaithfulnessConfig(("toy",), output_dir=str(tmp_path), imaginations=1, batch_size=4, mode=MODE, treatment="none",
                                arms=("swap:other_scene:other_answer",), hidden=False)  # fmt: skip
    base = toys.experiment(tmp_path, toys.Toy("", toys.ignores), toy.SAMPLES, config).base
    run = toys.Experiment(tmp_path / "toy", subject.kind, toys.Listed(toy.SAMPLES), lambda: subject, config, base)
    run.run()
    arms = read_arms(run.root)
    given = {a.prediction.sample_id: a.prediction for a in subject.placed(toy.SAMPLES, own, 0)}  # type: ignore[arg-type]
    for name, same in arms["identity", 0].items():
        assert (same.probabilities, same.answer) == (given[name].probabilities, given[name].answer)
        production = arms["self", 0][name]
        assert same.probabilities == pytest.approx(production.probabilities, abs=1e-4)
        assert (same.answer, same.text) == (production.answer, production.text)
    true = {sample.id: subject.true_mediator(sample) for sample in toy.SAMPLES}
    assert all(each.numbers is not None for each in true.values()) or kind in ("ipt", "caption")
    shown = subject.placed(toy.SAMPLES, true, 0)
    wanted = Engine(subject.checkpoint, replace(MODE, name="gt_imagination"), 0, 4).answer(toy.SAMPLES)
    known = {each.prediction.sample_id: each.prediction.probabilities for each in wanted}
    assert all(a.prediction.probabilities == pytest.approx(known[a.prediction.sample_id], abs=1e-4) for a in shown)
    swapped = arms["swap:other_scene:other_answer", 0]
    others = sum(swapped[name].probabilities != given[name].probabilities for name in swapped)
    assert len(swapped) == 4 and others == (2 if kind == "discrete" else 4), "two of the pictures have equal codes"


def test_killed_twenty_times_the_card_is_the_same(tmp_path: Path) -> None:
    samples = [toys.sample(number) for number in range(24)]

    def work(folder: Path) -> None:
        config = FaithfulnessConfig(("toy",), data="d", output_dir=str(folder), imaginations=2, replicates=100, batch_size=8,
                                    arms=("noise", "swap:same_scene:same_answer"), gallery=2)  # fmt: skip
        card_of(
            config, [("toy", toys.experiment(folder, toys.Toy("picture", toys.reads_picture), samples, config))], None
        )

    moments = generator(0, "kills")
    for _ in range(20):
        assert forked(lambda: work(tmp_path / "killed"), int(moments.integers(1, 12))) == -signal.SIGKILL
    work(tmp_path / "killed")
    work(tmp_path / "whole")
    pages = [(tmp_path / name / FIGURES).read_bytes() for name in ("killed", "whole")]
    assert pages[0] == pages[1]
    asked = toys.Toy("picture", toys.reads_picture)
    config = FaithfulnessConfig(("toy",), data="d", output_dir=str(tmp_path / "whole"), imaginations=2, replicates=100,
                                batch_size=8, arms=("noise", "zeros"), gallery=2)  # fmt: skip
    toys.experiment(tmp_path / "whole", asked, samples, config).run()
    assert asked.asked == 24, "a further arm asks nothing but its own questions"
