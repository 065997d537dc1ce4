"""The engine: what it answers does not depend on batches, errors stay with their samples, every mode looks at what it says."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from ipt.flow.guidance import Guidance
from ipt.imagination.mixture import ImaginationConfig
from ipt.imagination.modes.ipt import Ipt, IptSettings
from ipt.imagination.recipe import PUBLISHED, Recipe, Sampling, read_recipe
from ipt.inference.answering import Answered, chosen
from ipt.inference.checkpoint import load_checkpoint
from ipt.inference.context import SessionContext
from ipt.inference.engine import Engine, make_guidance
from ipt.inference.plans import STOP, make_plan
from ipt.inference.prediction import MODES, Prediction, about, without_seconds
from ipt.inference.settings import DrawSettings, ModeSettings, TextSettings
from ipt.model.checkpoint import save_pretrained
from ipt.model.config import CodesConfig
from ipt.model.decoding import TokenSteps
from ipt.model.unified import UnifiedModel
from ipt.samples.prompts import ANSWER, DESCRIBE_END, IMAGE_END, describe
from ipt.samples.sample import SampleImage, SpatialSample
from ipt.sequence.batch import PackedBatch
from ipt.sequence.settings import GuidanceDropout
from ipt.sequence.spans import Role
from tests.imagination.examples import noise_picture
from tests.inference import toy

DRAW = DrawSettings(timesteps=4)
TEXT = TextSettings(max_tokens=40)


def settings(name: str = "imagination", **changes: Any) -> ModeSettings:
    return ModeSettings(name, **{"draw": DRAW, "text": TEXT, **changes})


def engine(name: str = "imagination", *modes: str, batch_size: int = 4, **changes: Any) -> Engine:
    return Engine(toy.checkpoint(*modes), settings(name, **changes), seed=3, batch_size=batch_size)


def by_id(answers: Sequence[Answered]) -> dict[str, Prediction]:
    found = {answered.prediction.sample_id: answered.prediction for answered in answers}
    assert len(found) == len(answers)
    return found


def assert_same(ours: dict[str, Prediction], theirs: dict[str, Prediction]) -> None:
    """Equal up to time and the last digits of probabilities."""
    assert ours.keys() == theirs.keys()
    for name, prediction in ours.items():
        other = theirs[name]
        assert prediction.probabilities == pytest.approx(other.probabilities, abs=1e-4)
        assert without_seconds(replace(prediction, probabilities=())) == without_seconds(
            replace(other, probabilities=())
        )


@pytest.mark.parametrize("name", MODES)
@pytest.mark.parametrize("modes", [("ipt", "label_only"), ("text_cot",), ("caption",)], ids=lambda modes: modes[0])
def test_batched_is_one_by_one_and_right_in_every_mode(name: str, modes: tuple[str, ...]) -> None:
    """The toy knows its samples by heart, in every way of being asked."""
    always = {"threshold": 2.0} if name == "selective" else {}
    together = by_id(list(engine(name, *modes, **always).answer(toy.SAMPLES)))
    one_by_one = engine(name, *modes, batch_size=1, **always)
    assert_same(together, by_id(list(one_by_one.answer(toy.SAMPLES))))
    assert {p.mode for p in together.values()} == {name}
    if name != "wrong_imagination":
        assert all(p.correct and p.error is None for p in together.values())
    for prediction in together.values():
        draws = name in ("imagination", "free", "selective") and "ipt" in modes
        assert (len(prediction.images), prediction.opened_image) == (int(draws), draws)
        assert prediction.image_tokens == 4 * draws
        assert bool(prediction.thoughts) == (name != "answer_only")
        assert max(prediction.probabilities) == prediction.probabilities[prediction.answer or 0]


@pytest.mark.parametrize("kept", [1, 3, 4, 7, 12, 13])
def test_a_continued_run_computes_the_batches_of_an_uninterrupted_one(
    kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``kept`` answers had been written when the first run was killed, in the midst of a batch or between two."""
    samples = [replace(toy.SAMPLES[i % 4], id=f"{i}") for i in range(14)]
    made: list[tuple[str, ...]] = []
    original = Engine._answers
    monkeypatch.setattr(
        Engine, "_answers", lambda *a: made.append(tuple(each.sample.id for each in a[2])) or original(*a)
    )
    monkeypatch.setattr("ipt.inference.engine.WINDOW", 2)
    whole = list(engine(batch_size=3).answer(samples))
    batches = made.copy()
    made.clear()
    first, rest = (
        whole[:kept],
        list(engine(batch_size=3).answer(samples, [a.prediction.sample_id for a in whole[:kept]])),
    )
    assert made == batches[kept // 3 :] and len(batches) == 5
    for answered, expected in zip([*first, *rest], whole, strict=True):
        assert without_seconds(answered.prediction) == without_seconds(expected.prediction)
        assert [image.data for image in answered.images] == [image.data for image in expected.images]


@pytest.mark.parametrize("threshold", [0.0, 0.5, 2.0])
def test_selective_imagines_only_where_the_answer_without_is_unsure(threshold: float) -> None:
    """At an impossible threshold it is answer_only or imagination, between them each question is one of the two."""
    modes = ("ipt", "label_only")
    plain, drawn = (by_id(list(engine(name, *modes).answer(toy.SAMPLES))) for name in ("answer_only", "imagination"))
    threshold = sorted(max(p.probabilities) for p in plain.values())[2] if threshold == 0.5 else threshold
    found = by_id(list(engine("selective", *modes, threshold=threshold).answer(toy.SAMPLES)))
    unsure = {name for name, prediction in plain.items() if max(prediction.probabilities) < threshold}
    assert len(unsure) == {0.0: 0, 2.0: 4}.get(threshold, 2)
    assert_same(
        found, {name: replace(drawn[name] if name in unsure else plain[name], mode="selective") for name in plain}
    )
    assert {name for name, prediction in found.items() if prediction.images} == unsure


class Injected(Ipt):
    """The mode ``ipt``, where the true announcement and image stand in for the model's own."""

    truth_of: dict[str, SpatialSample]

    def imagine(self, context: Any, n: int, seed: int) -> Any:
        assert isinstance(context, SessionContext)
        rows = context.repeat(n)
        said = rows.append([self._at_inference([self.announcement("look")])] * len(rows))
        images = [self.truth_of[str(row.name[0])].imagination for row in rows.rows]
        return self._look(said, ["<think>look</think><image_start>"] * len(rows), images)


def test_an_injected_truth_is_gt_imagination_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = by_id(list(engine("gt_imagination").answer(toy.SAMPLES)))
    imagining = engine("imagination")
    plan = make_plan(imagining.mode, imagining.checkpoint.recipe, imagining.renderer)
    injected = Injected(plan.mode.renderer, plan.mode.settings)  # type: ignore[attr-defined]
    injected.truth_of = {sample.id: sample for sample in toy.SAMPLES}
    monkeypatch.setattr("ipt.inference.engine.make_plan", lambda *_: replace(plan, mode=injected))  # type: ignore[type-var]
    found = by_id(list(imagining.answer(toy.SAMPLES)))
    for name, prediction in found.items():
        assert prediction.probabilities == truth[name].probabilities
        assert (prediction.text, prediction.answer) == (truth[name].text, truth[name].answer)
    assert all(p.images for p in found.values()) and not any(p.images for p in truth.values())


def test_the_answer_looks_at_the_imagination_that_the_mode_says() -> None:
    """True, wrong and self-made images give different probabilities; the wrong one is of another scene."""
    true, wrong, own = (
        by_id(list(engine(name).answer(toy.SAMPLES))) for name in ("gt_imagination", "wrong_imagination", "imagination")
    )
    for name in true:
        assert len({each[name].probabilities for each in (true, wrong, own)}) == 3
    swapped = [replace(toy.SAMPLES[0], imagination=toy.SAMPLES[1].imagination), *toy.SAMPLES[1:]]
    changed = by_id(list(engine("gt_imagination").answer(swapped)))
    different = {name for name in true if changed[name].probabilities != true[name].probabilities}
    assert different == {"pet/0"}


def test_options_are_read_without_writing() -> None:
    written, read = (by_id(list(engine("imagination", answer=a).answer(toy.SAMPLES))) for a in ("text", "options"))
    for name, prediction in read.items():
        assert prediction.probabilities == pytest.approx(written[name].probabilities, abs=1e-5)
        assert (prediction.answer, prediction.text) == (written[name].answer, "")
        assert prediction.text_tokens < written[name].text_tokens
    (plain,) = engine("answer_only", probabilities=False).answer(toy.SAMPLES[:1])
    assert plain.prediction.probabilities == () and plain.prediction.correct


def test_several_imaginations_vote() -> None:
    (one,) = engine("imagination").answer(toy.SAMPLES[:1])
    (several,) = engine("imagination", n=3).answer(toy.SAMPLES[:1])
    assert several.prediction.votes == (0, 0, 0) and several.prediction.correct
    assert several.prediction.images == tuple(f"images/pet%2F0-{k}.png" for k in range(3))
    assert len({image.data for image in several.images}) == 3
    assert one.images[0].data == several.images[0].data, "the first of several is the only one of one"
    assert several.prediction.text_tokens == 3 * one.prediction.text_tokens


def outcome(answer: int | None, *probabilities: float) -> Prediction:
    return replace(about(toy.sample(0), "imagination"), answer=answer, probabilities=probabilities)


@pytest.mark.parametrize(
    ("outcomes", "vote", "mean"),
    [
        ([outcome(0, 0.6, 0.4), outcome(0, 0.6, 0.4), outcome(1, 0.0, 1.0)], 0, 1),
        ([outcome(0, 0.6, 0.4), outcome(1, 0.1, 0.9)], 1, 1),
        ([outcome(1, 0.5, 0.5), outcome(0, 0.5, 0.5)], 0, 0),
        ([outcome(None, 0.6, 0.4), outcome(None, 0.6, 0.4), outcome(1, 0.0, 1.0)], 1, 1),
        ([outcome(None, 0.2, 0.8), outcome(None, 0.2, 0.8)], None, 1),
        ([outcome(None, 0.2, 0.8)], None, None),
    ],
)
def test_votes_and_mean_probabilities(outcomes: list[Prediction], vote: int | None, mean: int | None) -> None:
    assert (chosen(outcomes, "vote"), chosen(outcomes, "mean")) == (vote, mean)


def broken(number: int, what: str) -> SpatialSample:
    sample = toy.sample(number)
    if what == "corrupt image":
        return replace(sample, images=(SampleImage(noise_picture(1)[:-40], "observation"),))
    if what == "no image":
        return replace(sample, images=(SampleImage(b"not an image", "observation"),))
    if what == "bomb":
        buffer = io.BytesIO()
        Image.new("1", (6000, 6000)).save(buffer, "PNG")
        return replace(sample, images=(SampleImage(buffer.getvalue(), "observation"),))
    return replace(sample, question="x" * 2_000_000)


BROKEN = {
    "corrupt image": "BadImage: .*truncated",
    "no image": "BadImage: .*not a PNG, JPEG or WebP image",
    "bomb": "BadImage: .*6000x6000 pixels",
    "2 MB of text": "RejectedSample: .*at most 16384 are allowed",
}


def test_a_bad_sample_is_an_error_of_its_own() -> None:
    """It has its id and its reason; the samples of its batch are answered as they are without it."""
    bad = [broken(10 + number, what) for number, what in enumerate(BROKEN)]
    found = by_id(list(engine("answer_only", batch_size=8).answer([*bad[:2], *toy.SAMPLES, *bad[2:]])))
    assert_same({s.id: found[s.id] for s in toy.SAMPLES}, by_id(list(engine("answer_only").answer(toy.SAMPLES))))
    for sample, (what, message) in zip(bad, BROKEN.items(), strict=True):
        prediction = found[sample.id]
        assert prediction.answer is None and prediction.error is not None, what
        assert re.match(message, prediction.error), prediction.error


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception, most: int) -> list[int]:
    """Forward passes of more than ``most`` rows raise; the rows of each pass, as they come."""
    rows: list[int] = []
    original = toy.model().forward

    def forward(batch: PackedBatch, *rest: Any, **more: Any) -> Any:
        rows.append(batch.spans.num_samples)
        if rows[-1] > most:
            raise error
        return original(batch, *rest, **more)

    monkeypatch.setattr(toy.model(), "forward", forward)
    return rows


def test_a_fault_of_the_program_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of shapes is not a bad sample: it must not become wrong answers."""
    failing(monkeypatch, RuntimeError("mat1 and mat2 shapes cannot be multiplied"), 0)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        list(engine().answer(toy.SAMPLES))


def test_a_batch_that_is_too_large_is_halved_where_the_process_works_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    full = by_id(list(engine("answer_only").answer(toy.SAMPLES)))
    rows = failing(monkeypatch, torch.OutOfMemoryError("full"), 1)
    assert_same(by_id(list(engine("answer_only").answer(toy.SAMPLES))), full)
    assert rows[0] == 4 and 2 in rows
    rows.clear()
    with pytest.raises(torch.OutOfMemoryError):
        list(Engine(toy.checkpoint(), settings("answer_only"), 3, 4, sharded=True).answer(toy.SAMPLES))
    assert rows == [4], "no forward pass that other processes do not run"


def test_an_answer_that_takes_too_long_is_an_error() -> None:
    answers = by_id(list(engine("imagination", max_seconds=1e-9).answer(toy.SAMPLES)))
    assert [p.error for p in answers.values()] == ["TimeLimit: no answer within 1e-09 seconds"] * 4


def test_texts_have_a_cap() -> None:
    answers = by_id(list(engine("imagination", "text_cot", text=TextSettings(max_tokens=3)).answer(toy.SAMPLES)))
    for prediction in answers.values():
        assert prediction.text_tokens == 3 and prediction.answer is None and prediction.error is None


@pytest.mark.parametrize("most", [1, 2])
def test_a_free_answer_draws_as_often_as_it_likes_up_to_a_cap(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (plain,) = engine("free", max_images=most).answer(toy.SAMPLES[:1])
    assert len(plain.images) == 1 and plain.prediction.correct
    monkeypatch.setattr("ipt.inference.plans.STOP", "<never>")
    original = SessionContext.generate_text

    def insisting(self: SessionContext, role: Role, seed: int, until: str = "", **rest: Any) -> Any:
        """After its image, the model announces another one."""
        if until == "<never>":
            context, _ = original(self, role, seed, "", **rest)
            return context, ["<think>again</think><image_start>"] * len(self)
        return original(self, role, seed, until, **rest)

    monkeypatch.setattr(SessionContext, "generate_text", insisting)
    (insistent,) = engine("free", max_images=most).answer(toy.SAMPLES[:1])
    assert len(insistent.images) == most
    assert len(insistent.prediction.images) == len(set(insistent.prediction.images)) == most


@pytest.mark.parametrize(("name", "images"), [("imagination", 1), ("gt_imagination", 0), ("free", 2)])
def test_a_described_imagination_is_said_at_the_head_of_the_answer(
    name: str, images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Own and given; a free answer may announce another image after it, as after one that is not described."""
    words, original = IMAGE_END + describe("c0"), SessionContext.generate_text

    def telling(self: SessionContext, role: Role, seed: int, until: str = "", **rest: Any) -> Any:
        if until == DESCRIBE_END:
            assert all(self.is_open)
            return self.write_text([words] * len(self), ANSWER, role, **rest), [words] * len(self)
        if name == "free" and until == STOP:
            context, said = original(self, role, seed, "", **rest)
            return context, [text + "<think>again</think><image_start>" for text in said]
        return original(self, role, seed, until, **rest)

    monkeypatch.setattr(SessionContext, "generate_text", telling)
    told = Recipe(ImaginationConfig({"ipt": 1.0}, ipt=IptSettings(described=True)), toy.SEQUENCE, toy.PROFILE)
    checkpoint = replace(toy.checkpoint(), recipe=told)
    (one,) = Engine(checkpoint, settings(name, **({"max_images": 2} if name == "free" else {})), 3, 4).answer(
        toy.SAMPLES[:1]
    )
    assert one.prediction.error is None and len(one.images) == images
    assert one.prediction.thoughts[1::2] == (words,) * max(images, 1)
    assert one.prediction.text.startswith(words)


@pytest.mark.parametrize(
    ("modes", "changes", "message"),
    [
        (("label_only",), {}, "needs a model that was trained to imagine; this one was trained on label_only"),
        (("ipt",), {"mediator": "caption"}, "mode.mediator=caption: the model was trained on ipt"),
    ],
)
def test_a_mode_that_was_not_trained_is_refused(modes: tuple[str, ...], changes: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        engine("imagination", *modes, **changes)
    assert engine("answer_only", *modes)


@pytest.mark.parametrize(
    ("dropout", "given", "expected"),
    [
        ((0.1, 0.1), {}, (4.0, 2.0)),
        ((0.1, 0.0), {}, (4.0, 1.0)),
        ((0.0, 0.1), {}, None),
        ((0.0, 0.0), {"text_scale": 3.0, "image_scale": 1.5}, (3.0, 1.5)),
        ((0.1, 0.1), {"text_scale": 1.0}, None),
    ],
)
def test_guidance_is_on_where_it_was_trained(
    dropout: tuple[float, float], given: dict[str, float], expected: tuple[float, float] | None
) -> None:
    recipe = toy.recipe()
    trained = replace(recipe, sequence=replace(recipe.sequence, dropout=GuidanceDropout(*dropout)))
    guidance = make_guidance(DrawSettings(**given), trained)
    assert (None if guidance is None else (guidance.text_scale, guidance.image_scale)) == expected


def test_the_recipe_says_how_a_model_is_sampled_unless_it_is_asked_otherwise(tmp_path: Path) -> None:
    sampling = Sampling(7, 0.5, 6, 3.0, 1.5, "published")
    replace(toy.recipe(), sampling=sampling).save(tmp_path)
    checkpoint = replace(toy.checkpoint(), recipe=read_recipe(tmp_path))
    session = Engine(checkpoint, ModeSettings("imagination")).session
    assert session.sampling == sampling and len(session.times) == 6
    assert session.guidance == Guidance(3.0, 1.5, 0.0, 1.0, "text_channel")
    asked = {
        "text": TextSettings(temperature=0.0),
        "draw": DrawSettings(timesteps=3, image_scale=1.0, contexts="roles"),
    }
    session = Engine(checkpoint, ModeSettings("imagination", **asked)).session  # type: ignore[arg-type]
    assert session.sampling == Sampling(7, 0.0, 3, 3.0, 1.0, "roles") and len(session.times) == 3
    assert Engine(toy.checkpoint(), ModeSettings("imagination")).session.sampling == Sampling()
    with pytest.raises(ValueError, match=r"unknown contexts of guidance 'role'.*published, roles"):
        DrawSettings(contexts="role")


def test_weights_in_the_layout_of_the_releases_are_sampled_as_published(tmp_path: Path) -> None:
    toy.tokenizer().save(tmp_path)
    without_codes = UnifiedModel(replace(toy.model().config, codes=CodesConfig()))
    save_pretrained(without_codes, tmp_path, layout="bagel", codec=toy.codec())
    toy.recipe().save(tmp_path)
    assert load_checkpoint(tmp_path).recipe.sampling == PUBLISHED
    replace(toy.recipe(), sampling=Sampling()).save(tmp_path)
    assert load_checkpoint(tmp_path).recipe.sampling == Sampling()
    assert load_checkpoint(toy.save_run(tmp_path / "run")).recipe.sampling is None


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of each step of decoding, as they come."""
    rows: list[int] = []
    original = TokenSteps.__call__
    monkeypatch.setattr(TokenSteps, "__call__", lambda self, *a: rows.append(len(a[0])) or original(self, *a))
    return rows


@pytest.mark.parametrize("name, modes, n", [("answer_only", (), 1), ("imagination", ("text_cot",), 2)])
def test_a_row_that_has_answered_makes_room_for_the_next_question(
    name: str, modes: tuple[str, ...], n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Texts drawn so wildly that their lengths differ: the same answers as batch by batch, in fewer steps of decoding."""
    samples = [replace(toy.SAMPLES[i % 4], id=f"{i}") for i in range(16)]
    rows, mode = counted(monkeypatch), settings(name, n=n, text=TextSettings(max_tokens=40, temperature=1.5))
    answers, steps = [], []
    for continuous in (True, False):
        made = Engine(toy.checkpoint(*modes), mode, 3, 4, continuous=continuous)
        answers.append(by_id(list(made.answer(samples))))
        steps.append(rows.copy())
        rows.clear()
    assert_same(*answers)
    lengths = [prediction.text_tokens for prediction in answers[0].values()]
    assert min(lengths) * 2 < max(lengths), "answers of different lengths"
    assert max(steps[0]) == max(steps[1]) == 4 * n and len(steps[0]) < 0.85 * len(steps[1])


def test_a_continued_run_answers_continuously_as_the_uninterrupted_one(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = [replace(toy.SAMPLES[i % 4], id=f"{i}") for i in range(12)]
    monkeypatch.setattr("ipt.inference.engine.WINDOW", 2)
    text = TextSettings(max_tokens=40, temperature=1.5)
    whole = list(engine("answer_only", batch_size=3, text=text).answer(samples))
    for kept in (2, 6, 7):
        done = [answered.prediction.sample_id for answered in whole[:kept]]
        rest = list(engine("answer_only", batch_size=3, text=text).answer(samples, done))
        assert list(map(without_seconds, (answered.prediction for answered in [*whole[:kept], *rest]))) == [
            without_seconds(answered.prediction) for answered in whole
        ]


def test_replayed_steps_answer_and_draw_as_computed_ones() -> None:
    for name, modes in (("imagination", ("ipt", "label_only")), ("answer_only", ("label_only",))):
        plain = by_id(list(engine(name, *modes).answer(toy.SAMPLES)))
        checkpoint = replace(toy.checkpoint(*modes), graphs=True)
        made = Engine(checkpoint, settings(name), seed=3, batch_size=4)
        assert_same(by_id(list(made.answer(toy.SAMPLES))), plain)
        assert made.session.steps._captured
