"""A session computes what training computed: cached = packed, batched = one by one, snapshots do not disturb each other."""

from __future__ import annotations

import copy
import gc
import io
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ipt.common.errors import UserError
from ipt.flow.guidance import Guidance
from ipt.flow.path import euler, schedule
from ipt.imagination.base import Imagination, Mediator
from ipt.imagination.mixture import make_mode
from ipt.imagination.modes.ipt import Ipt
from ipt.imagination.modes.latent import Latent, LatentSettings
from ipt.imagination.recipe import Sampling
from ipt.inference.answering import left_to_write
from ipt.inference.context import SessionContext
from ipt.inference.engine import Engine
from ipt.inference.session import Session
from ipt.inference.settings import ModeSettings
from ipt.samples.prompts import LATENT_END, LATENT_START, answer_text
from ipt.samples.sample import SpatialSample
from ipt.sequence.batch import NoisedImages, lay_out
from ipt.sequence.pictures import Picture, normalised, to_image, unpatchify
from ipt.sequence.segments import Codes, Kind, Segment, Slots, TokenIds
from ipt.sequence.spans import Loss, Mode, Role
from tests.imagination.examples import ANSWERING, code_codec
from tests.inference import toy
from tests.inference.toy import GEOMETRY

SPECIAL = toy.tokenizer().special
GUIDANCE = Guidance(3.0, 2.0, 0.2, 1.0, "text_channel")
TIMES = schedule(5)
SEED = 5


def session(temperature: float = 0.0, guidance: Guidance | None = GUIDANCE, max_tokens: int = 40) -> Session:
    sampling = Sampling(max_tokens, temperature)
    return Session(toy.model(), toy.codec(), toy.tokenizer(), sampling, guidance, TIMES, code_codec())


def mode(name: str) -> Imagination:
    return make_mode(name, toy.checkpoint().renderer(), toy.recipe().imagination)


def prompted(made: Imagination, samples: Sequence[SpatialSample], at: Session | None = None) -> SessionContext:
    names, tasks = [(sample.id,) for sample in samples], [sample.task for sample in samples]
    return SessionContext.start(at or session(), names, tasks).append([made.prompt(sample) for sample in samples])


@torch.no_grad()
def packed_logits(segments: Sequence[Segment]) -> Tensor:
    """[n, vocabulary] of the last text, in one packed pass without a cache."""
    kept = [s for s in segments[:-1] if s.kind is not Kind.VAE_NOISED]
    batch = toy.encoded(lay_out([[*kept, replace(segments[-1], loss=Loss.CE)]], SPECIAL, GEOMETRY))
    logits = toy.model()(batch).logits_CV
    assert logits is not None
    return logits[1 - segments[-1].num_tokens(GEOMETRY) :]


@pytest.mark.parametrize("name", ANSWERING)
def test_options_score_as_training_computes_them(name: str) -> None:
    """With the true mediator in place: the letters of the options compare as in one packed pass without a cache."""
    made, truth = mode(name), toy.sample(1)
    waiting = prompted(made, [truth])
    blocked: frozenset[Role] = frozenset()
    before = ""
    if made.mediates:
        imagined = made.given(waiting, [truth], [truth])
        waiting, blocked = imagined.context, imagined.blocked  # type: ignore[assignment]
        before = imagined.leads[0] or imagined.texts[0][0]
    written = [toy.tokenizer().decode(row.text.ids) if row.text else "" for row in waiting.rows]
    texts = [before + answer_text(toy.sample(1, letter)) for letter in "AB"]
    left = [left_to_write(written[0], text) if not written[0] else text[len(written[0]) :] for text in texts]
    (scores,) = waiting.score_options([left], Role.ANSWER, blocked)
    one, two = ([*made.segments(toy.sample(1, letter), 0)] for letter in "AB")
    ids_one, ids_two = one[-1].payload.ids, two[-1].payload.ids
    assert isinstance(ids_one, Tensor) and isinstance(ids_two, Tensor)
    (letter,) = (ids_one != ids_two).nonzero().flatten().tolist()
    chances = torch.log_softmax(packed_logits(one), -1)[letter]
    expected = float(chances[ids_one[letter]] - chances[ids_two[letter]])
    assert scores[0] - scores[1] == pytest.approx(expected, abs=1e-4)
    assert abs(scores[0] - scores[1]) > 1


def test_latents_fed_one_by_one_are_those_of_rounds_over_the_whole_sequence() -> None:
    """Of rows that write texts of other lengths first; nothing is written at a slot, and the answer is what the pack says."""
    made, free = mode("latent"), LatentSettings(stage="relax")
    imagined = made.imagine(prompted(made, toy.SAMPLES), 2, SEED)
    assert imagined.texts == ((LATENT_START,),) * 8 and imagined.leads == (LATENT_END,) * 8
    assert imagined.images == ((),) * 8
    context = imagined.context
    assert isinstance(context, SessionContext)
    options = [[f"{LATENT_END}<answer>{letter}</answer>" for letter in "AB"]] * 8
    scores = context.score_options(options)
    final, texts = context.generate_text(Role.ANSWER, SEED)
    relaxed = Latent(made.renderer, free)
    encode = toy.tokenizer().encode
    first, second = (encode(option) for option in options[0])
    letter = next(place for place, (one, other) in enumerate(zip(first, second, strict=True)) if one != other)
    relaxed = Latent(made.renderer, free)
    for row, (sample, text) in enumerate(zip([s for s in toy.SAMPLES for _ in range(2)], texts, strict=True)):
        segments = relaxed.segments(sample, 0)
        with torch.no_grad():
            batch = toy.encoded(lay_out([segments], SPECIAL, GEOMETRY))
            output = toy.model()(batch, rounds=free.free_rounds)
        kept = context.rows[row].segments[-1].payload
        assert isinstance(kept, Slots) and isinstance(kept.content, Tensor)
        torch.testing.assert_close(kept.content, output.vectors_ZD, atol=1e-4, rtol=1e-4)
        assert output.logits_CV is not None
        logits = output.logits_CV[-segments[-1].num_tokens(GEOMETRY) + 1 :]
        written = encode(text)
        assert text.startswith(LATENT_END) and written[0] == int(logits[0].argmax())
        chances = torch.log_softmax(logits[letter], -1)
        difference = float(chances[first[letter]] - chances[second[letter]])
        assert scores[row][0] - scores[row][1] == pytest.approx(difference, abs=1e-3)
        assert final.rows[row].text_tokens == len(encode(LATENT_START)) + len(written)


def test_rows_of_other_latents_are_no_one_branch_of_guidance() -> None:
    held = [Segment(Kind.LATENT, Slots(1, torch.full((1, 32), value)), Role.IMAGINATION) for value in (0.0, 5.0)]
    contexts = session()._branch([[each] for each in (*held, held[0])], lambda segment: False)
    assert contexts.rows[0] == contexts.rows[2] != contexts.rows[1]


def test_slots_end_where_the_model_says_so() -> None:
    rows, _ = prompted(mode("latent"), toy.SAMPLES).generate_text(Role.IMAGINATION, SEED)

    def counts(context: SessionContext) -> list[int]:
        return [s.payload.count for row in context.rows for s in row.segments if isinstance(s.payload, Slots)]

    text = rows.rows[0].text
    assert text is not None
    cached, (state, _) = rows.session.feed(rows.cached, [0], [text.waiting], text.role, text.blocked)
    _, _, logits = rows.session.feed_slots(cached[[0]], state, Role.IMAGINATION)
    said = int(logits.argmax())
    assert counts(rows.generate_latents(range(4), 6, Role.IMAGINATION, end=299 if said != 299 else 298))[0] == 6
    stopped = rows.generate_latents([0, 2], 6, Role.IMAGINATION, end=said)
    assert counts(stopped)[0] == 1 and len(counts(stopped)) == 2 and stopped.rows[1] == rows.rows[1]
    with pytest.raises(ValueError, match=r"the rows \[0\] do not end in a text"):
        stopped.generate_latents([0], 1, Role.IMAGINATION)


def test_latents_that_are_given_go_in_as_pictures_do() -> None:
    """The truth's, another scene's, and vectors: those of the truth answer as the truth does."""
    made, samples = mode("latent"), toy.SAMPLES
    assert isinstance(made, Latent)
    waiting = prompted(made, samples)
    truth = made.given(waiting, samples, samples).context
    other = made.given(waiting, samples, [*samples[1:], samples[0]]).context
    batch = toy.encoded(lay_out([made.segments(sample, 0) for sample in samples], SPECIAL, GEOMETRY))
    vectors = toy.model()(batch).vectors_ZD.split(4)
    given = made.placed(waiting, [Mediator(LATENT_START, numbers=each.numpy()) for each in vectors]).context
    options = [[f"{LATENT_END}<answer>{letter}</answer>" for letter in "AB"]] * 4
    scores = [np.array(each.score_options(options)) for each in (truth, given, other)]  # type: ignore[attr-defined]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-4)
    assert np.abs(scores[0] - scores[2]).max() > 1e-3


def test_codes_are_the_likeliest_that_the_uncached_model_would_write_and_their_picture_is_shown() -> None:
    """Of rows that write other texts, one of which announces nothing; a code is never written where a word could be."""
    made, first = mode("discrete"), toy.WORDS
    model = copy.deepcopy(toy.model())
    assert model.codes is not None
    model.codes.head.weight.mul_(30)  # likelier than any word, at every place
    loud = Session(model, toy.codec(), toy.tokenizer(), Sampling(8), codes=code_codec())
    with pytest.raises(UserError, match="trained without codes of pictures"):
        prompted(made, toy.SAMPLES, Session(model, toy.codec(), toy.tokenizer(), Sampling(8))).generate_codes(
            [0], (8, 8), Role.IMAGINATION, SEED
        )
    rows, _ = prompted(made, toy.SAMPLES, loud).generate_text(Role.IMAGINATION, SEED)
    assert all(token < first for row in rows.rows for token in row.text.ids)  # type: ignore[union-attr]
    written, images = rows.generate_codes([0, 2], (8, 8), Role.IMAGINATION, SEED)
    assert written.rows[1] == rows.closed.rows[1] and len(images) == 2
    for place, image in zip((0, 2), images, strict=True):
        segments = [replace(s, loss=Loss.NONE, end_label=None) for s in written.rows[place].segments]
        codes = segments[-1].payload
        assert isinstance(codes, Codes) and codes.values.shape == (2, 2)
        with torch.no_grad():
            logits = model(
                lay_out([[*segments[:-1], replace(segments[-1], loss=Loss.CE)]], SPECIAL, GEOMETRY)
            ).logits_CV
        assert logits is not None and logits.shape == (5, first + 8)
        assert codes.values.flatten().tolist() == logits[:4, first:].argmax(-1).tolist()
        shown = to_image(code_codec().decode([codes.values])[0])
        np.testing.assert_array_equal(image.pixels(), np.asarray(shown))
    drawn = Session(model, toy.codec(), toy.tokenizer(), Sampling(8, 1.0), codes=code_codec())
    alone, (of_alone,) = prompted(made, [toy.SAMPLES[2]], drawn).generate_codes([0], (8, 8), Role.IMAGINATION, SEED)
    _, of_both = prompted(made, toy.SAMPLES, drawn).generate_codes([1, 2], (8, 8), Role.IMAGINATION, SEED)
    assert of_both[1] == of_alone != of_both[0]  # its own stream, whatever the batch
    segments = alone.rows[0].segments
    causal = sum(s.num_tokens(GEOMETRY) for s in segments if s.kind.mode is Mode.CAUSAL)
    assert alone.cached.positions[0] == causal + sum(s.kind.mode is Mode.FULL for s in segments)


def test_a_picture_that_is_written_in_codes_is_shown_like_a_drawn_one() -> None:
    """The toy knows its codes by heart."""
    engine = Engine(toy.checkpoint("discrete"), ModeSettings("imagination"), SEED, 4)
    answered = list(engine.answer(toy.SAMPLES))
    assert [each.prediction.image_tokens for each in answered] == [4] * 4
    engine.session.geometry = replace(GEOMETRY, code_stride=2)
    assert engine._measured(answered[0], mode("discrete"), 0.0).prediction.image_tokens == 16
    assert engine._measured(answered[0], mode("ipt"), 0.0).prediction.image_tokens == 4
    for each in answered:
        sample = next(sample for sample in toy.SAMPLES if sample.id == each.prediction.sample_id)
        (codes,) = (s.payload for s in mode("discrete").segments(sample, 0) if s.kind is Kind.CODES)
        assert isinstance(codes, Picture)
        known = to_image(code_codec().decode(code_codec().encode([normalised(codes.pixels())]))[0])
        np.testing.assert_array_equal(each.images[0].pixels(), np.asarray(known))
        assert each.prediction.answer == each.prediction.expected and len(each.prediction.images) == 1


def test_written_text_is_what_the_uncached_model_would_write() -> None:
    made, sample = mode("ipt"), toy.sample(2)
    context, texts = prompted(made, [sample]).generate_text(Role.IMAGINATION, SEED)
    ids = toy.tokenizer().encode(texts[0])
    segment = Segment(Kind.TEXT, TokenIds(torch.tensor(ids)), Role.IMAGINATION)
    logits = packed_logits([*made.prompt(sample), segment])
    assert logits.argmax(-1).tolist() == [*ids, SPECIAL.eos]
    assert context.rows[0].text_tokens == len(ids)
    assert [s.role for s in context.closed.rows[0].segments] == [
        *(s.role for s in made.prompt(sample)),
        Role.IMAGINATION,
    ]


def test_a_text_that_was_stopped_goes_on_as_if_it_had_not_been() -> None:
    start = prompted(mode("text_cot"), toy.SAMPLES)
    whole, texts = start.generate_text(Role.ANSWER, SEED)
    head, heads = start.generate_text(Role.ANSWER, SEED, until="</think>")
    assert heads == [text[: text.index("</think>") + 8] for text in texts] and all(head.is_open)
    rest, again = head.generate_text(Role.ANSWER, SEED)
    assert again == texts and not any(rest.is_open)
    left = [row.text_tokens for row in rest.rows]
    assert left == [row.text_tokens for row in whole.rows] > [row.text_tokens for row in head.rows]


def test_a_text_that_reaches_its_cap_is_closed_there() -> None:
    """The end marker follows, so that what comes after it stands where training would have it."""
    longest = prompted(mode("text_cot"), toy.SAMPLES).generate_text(Role.ANSWER, SEED)[0].rows[0].text_tokens
    capped, _ = prompted(mode("text_cot"), toy.SAMPLES, session(max_tokens=longest - 2)).generate_text(
        Role.ANSWER, SEED
    )
    assert [len(row.text.ids) for row in capped.rows if row.text] == [longest - 2] * 4 and not any(capped.is_open)
    assert [row.segments[-1].payload.ids.tolist() for row in capped.closed.rows] == [  # type: ignore[union-attr]
        list(row.text.ids) for row in capped.rows if row.text
    ]


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_a_row_does_not_depend_on_its_batch(temperature: float) -> None:
    """Texts (sampled ones, too), images and scores of rows together, in another order, and alone."""
    made = mode("ipt")

    def outcome(samples: Sequence[SpatialSample]) -> dict[str, tuple[str, np.ndarray, list[float]]]:
        start = prompted(made, samples, session(temperature))
        rows, texts = start.repeat(2).generate_text(Role.IMAGINATION, SEED)
        images = rows.generate_image(range(len(rows)), (8, 8), SEED)
        scores = rows.score_options([["<answer>A", "<answer>B"]] * len(rows))
        names = [f"{sample.id} {k}" for sample in samples for k in range(2)]
        pixels = [np.asarray(Image.open(io.BytesIO(image.data)), dtype=int) for image in images]
        return dict(zip(names, zip(texts, pixels, scores, strict=True), strict=True))

    together, other_order = outcome(toy.SAMPLES), outcome(toy.SAMPLES[2:0:-1])
    alone = {name: value for sample in toy.SAMPLES[:3] for name, value in outcome([sample]).items()}
    for others in (other_order, alone):
        for name, (text, pixels, scores) in others.items():
            assert text == together[name][0]
            assert abs(pixels - together[name][1]).max() <= 1
            assert scores == pytest.approx(together[name][2], abs=1e-3)
    first, second = together["pet/0 0"], together["pet/0 1"]
    assert (abs(first[1] - second[1]).max() > 1) and (first[0] == second[0]) == (temperature == 0)


def test_branches_of_a_snapshot_do_not_disturb_each_other() -> None:
    made, sample = mode("ipt"), toy.sample(0)
    options = [["<answer>A", "<answer>B"]]

    def grown(start: SessionContext, number: int) -> SessionContext:
        return start.append([made.renderer.imagined("pet", toy.sample(number).imagination, ("vae", "vit"))])  # type: ignore[attr-defined]

    start = prompted(made, [sample])
    before = start.score_options(options)
    branches = [grown(start, number) for number in (1, 2)]
    fresh = [grown(prompted(made, [sample]), number) for number in (1, 2)]
    ours, theirs = ([context.score_options(options) for context in contexts] for contexts in (branches, fresh))
    assert ours == theirs and ours[0] != ours[1]
    assert start.score_options(options) == before


def test_snapshots_share_rows_and_give_them_back() -> None:
    """A row is copied only where two contexts go on from it; what no context holds is free."""
    at = session(guidance=None)
    start = prompted(mode("ipt"), toy.SAMPLES[:2], at)
    cache = at.cache
    assert len(cache.used) == 2
    several = start.repeat(3)
    assert several.cached.rows == (0, 0, 0, 1, 1, 1)
    several.score_options([["<answer>A", "<answer>B"]] * 6)
    assert len(cache.used) == 2
    written, _ = several.generate_text(Role.IMAGINATION, SEED, until="look")
    assert len(cache.used) == 6 and sorted(written.cached.rows) == list(range(6))
    del several, written
    gc.collect()
    again, _ = start.generate_text(Role.IMAGINATION, SEED, until="look")
    assert len(cache.used) == 6 and len(again) == 2
    del start, again
    gc.collect()
    assert sorted(lease.row for lease in at.cache.empty(6).leases) == list(range(6))


@pytest.mark.parametrize("guidance", [None, Guidance(3.0, 1.0), GUIDANCE], ids=["plain", "text", "both"])
def test_a_drawn_image_is_that_of_three_uncached_forward_passes(guidance: Guidance | None) -> None:
    """Each branch packed with the noised image behind it and no cache: the segments of training after guidance dropout."""
    made, sample = mode("ipt"), toy.sample(3)
    assert isinstance(made, Ipt)
    context = prompted(made, [sample], session(guidance=guidance)).append([[made.announcement("look")]])
    (image,) = context.generate_image([0], (8, 8), SEED)
    given = [*made.prompt(sample), made.announcement("look"), made.renderer.noised(sample, sample.imagination)]
    lost: list[tuple[Role, ...]] = [(), (Role.SYSTEM, Role.QUESTION), (Role.OBSERVATION,)]
    branches = [
        lay_out([[replace(s, dropped=s.role in roles) for s in given]], SPECIAL, GEOMETRY).encoded(toy.codec().encode)
        for roles in lost
    ]

    def velocity(x_BLD: Tensor, t: float) -> Tensor:
        noised = NoisedImages(x_BLD[0], torch.tensor([t]))
        v, u, i = (toy.model()(b, noised).velocities_FD[None] for b in branches)
        return guidance.combine(v, u, i) if guidance and guidance.active(t) else v

    noise = context._noise((2, 2), SEED)
    with torch.no_grad():
        (tokens,) = euler(velocity, noise, TIMES)
    (pixels,) = toy.codec().decode([unpatchify(tokens, (2, 2), GEOMETRY.latent_patch)])
    expected = ((pixels * 0.5 + 0.5).clamp(0, 1) * 255).permute(1, 2, 0).numpy()
    assert abs(np.asarray(Image.open(io.BytesIO(image.data))) - expected).max() < 1.01
    assert expected.std() > 5


@pytest.mark.parametrize("order", [("system", "images", "question"), ("images", "question"), ("question", "images")])
def test_published_contexts_are_those_of_the_published_inferencer(order: tuple[str, ...]) -> None:
    """BAGEL's ``interleave_inference``: the prompt before its last text, or whole where an image is last; its texts alone,
    their rope ids without gaps. Neither knows what was written since; the first is not computed again."""
    made, at = mode("ipt"), session()
    at.sampling = replace(at.sampling, contexts="published")
    rendered = made.prompt(toy.sample(2))
    by_name = {
        "system": rendered[:1],
        "images": [s for s in rendered if s.kind is not Kind.TEXT],
        "question": rendered[-1:],
    }
    prompt = [segment for name in order for segment in by_name[name]]
    assert isinstance(made, Ipt)
    start = SessionContext.start(at, [("a",)], ["pet"]).append([prompt])
    context = start.append([[made.announcement("look")]])
    seen: list[list[Segment]] = [
        prompt if order[-1] == "images" else prompt[:-1],
        [s for s in prompt if s.kind is Kind.TEXT],
    ]
    batches = [
        lay_out([[*given, made.renderer.noised(toy.sample(2), toy.sample(2).imagination)]], SPECIAL, GEOMETRY)
        for given in seen
    ]
    full = lay_out(
        [[*prompt, made.announcement("look"), made.renderer.noised(toy.sample(2), toy.sample(2).imagination)]],
        SPECIAL,
        GEOMETRY,
    )

    def velocity(x_BLD: Tensor, t: float) -> Tensor:
        noised = NoisedImages(x_BLD[0], torch.tensor([t]))
        v, u, i = (toy.model()(b.encoded(toy.codec().encode), noised).velocities_FD[None] for b in (full, *batches))
        return GUIDANCE.combine(v, u, i) if GUIDANCE.active(t) else v

    noise = context._noise((2, 2), SEED)
    with torch.no_grad():
        expected = euler(velocity, noise, TIMES)
    rows = at.cache.used.copy()
    drawn = at.draw(context.cached, [row.segments for row in context.rows], noise, (2, 2))
    (pixels,) = toy.codec().decode([unpatchify(expected[0], (2, 2), GEOMETRY.latent_patch)])
    torch.testing.assert_close(drawn[0], pixels, atol=1e-4, rtol=1e-4)
    assert len(at.cache.used) == len(rows) + 1  # of the texts alone


def test_texts_of_different_roles_are_not_written_together() -> None:
    start = prompted(mode("text_cot"), toy.SAMPLES[:2])
    one, _ = start[[0]].generate_text(Role.ANSWER, SEED, until="<")
    mixed = replace(start, rows=(one.rows[0], start.rows[1]), cached=start.cached.updated([0], one.cached))
    with pytest.raises(ValueError, match="different roles"):
        mixed.generate_text(Role.IMAGINATION, SEED)
