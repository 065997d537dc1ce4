"""Contexts in a KV cache against the packed forward pass."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import ipt.model.cache as cache_module
from ipt.flow.guidance import Guidance
from ipt.flow.path import euler, schedule
from ipt.model.cache import CachedAttention, Context, KVCache, extend
from ipt.model.decoding import TokenSteps
from ipt.model.sampling import LatentVelocity, sample_latents
from ipt.sequence.batch import PackedBatch, lay_out, single_tokens
from ipt.sequence.segments import Segment
from ipt.sequence.spans import Loss, Role
from tests.model.test_attention import varlen_reference
from tests.model.toy import CONFIG, TOKENS, Maker, model

CLOSE = {"atol": 2e-5, "rtol": 1e-4}


@pytest.fixture(autouse=True, params=[1, 128], ids=["row-by-row", "padded"])
def _no_grad(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(cache_module, "LONG", request.param)
    with torch.no_grad():
        yield


def new_cache() -> KVCache:
    return KVCache(CONFIG.decoder, torch.empty(0))


def prefill(cache: KVCache, context: Context, rows: list[list[Segment]]) -> Context:
    return extend(model(), lay_out(rows, TOKENS, CONFIG.geometry, context.positions), cache, context)[1]


def samples(make: Maker) -> list[list[Segment]]:
    """Ragged samples, all clean, that end in a text."""
    return [
        [make.vit(), make.text(6), make.vae(2, 3), make.vit(1, 2), make.text(4, loss=Loss.CE)],
        [make.text(1), make.text(2, loss=Loss.CE)],
        [make.vae(4, 4), make.vit(5, 5), make.text(9, loss=Loss.CE)],
    ]


def in_steps(batch: list[list[Segment]], together: bool) -> list[Tensor]:
    """Logits of the last text of each sample: prefilled segments, then token by token, rows batched or one by one."""
    groups = [batch] if together else [[sample] for sample in batch]
    results = []
    for rows in groups:
        cache = new_cache()
        context = cache.empty(len(rows))
        longest = max(len(row) for row in rows)
        for step in range(longest - 1):
            active = [i for i, row in enumerate(rows) if step < len(row) - 1]
            part = prefill(cache, context[active], [[rows[i][step]] for i in active])
            context = context.updated(active, part)
        logits: list[list[Tensor]] = [[] for _ in rows]
        texts = [torch.cat([torch.tensor([TOKENS.bos]), row[-1].payload.ids]) for row in rows]
        for step in range(max(len(text) for text in texts)):
            active = [i for i, text in enumerate(texts) if step < len(text)]
            ids = torch.stack([texts[i][step] for i in active])
            chosen = context[active]
            output, part = extend(model(), single_tokens(ids, chosen.positions, CONFIG.geometry), cache, chosen)
            context = context.updated(active, part)
            for place, i in enumerate(active):
                logits[i].append(output.logits_CV[place])
        results += [torch.stack(row) for row in logits]
    return results


def test_cached_decoding_equals_the_full_forward_batched_and_alone() -> None:
    make = Maker(0)
    batch = samples(make)
    full = model()(*make.batch(batch)).logits_CV
    for together in (True, False):
        torch.testing.assert_close(torch.cat(in_steps(batch, together)), full, **CLOSE)


def test_several_segments_in_one_call_equal_one_by_one() -> None:
    make = Maker(1)
    batch = samples(make)
    at_once, step_by_step = new_cache(), new_cache()
    context = prefill(at_once, at_once.empty(3), batch)
    singles = step_by_step.empty(3)
    for row, sample in enumerate(batch):
        single = singles[[row]]
        for segment in sample:
            single = prefill(step_by_step, single, [[segment]])
        assert (single.lengths, single.positions) == ((context.lengths[row],), (context.positions[row],))
    for row, length in enumerate(context.lengths):
        for a, b in ((at_once.keys_ARMKH, step_by_step.keys_ARMKH), (at_once.values_ARMKH, step_by_step.values_ARMKH)):
            torch.testing.assert_close(a[:, row, :length], b[:, row, :length], **CLOSE)


def test_reading_equals_appending_where_experts_mix() -> None:
    """Images and texts in one call, in rows of different lengths: the new keys stand by expert, the mask must do so, too."""
    make = Maker(11)
    before = [[make.vit(), make.text(2)], [make.text(5)]]
    hidden = frozenset({Role.OBSERVATION})
    new = [
        [make.vae(2, 3, role=Role.OBSERVATION), make.text(4, loss=Loss.CE), make.vae(1, 2), make.text(3, loss=Loss.CE)],
        [make.text(2, loss=Loss.CE), make.vae(2, 2), make.text(6, loss=Loss.CE, blocked=hidden)],
    ]
    logits = []
    for append in (True, False):
        cache = new_cache()
        context = prefill(cache, cache.empty(2), before)
        batch = lay_out(new, TOKENS, CONFIG.geometry, context.positions)
        logits.append(extend(model(), batch, cache, context, append)[0].logits_CV)
    torch.testing.assert_close(*logits, **CLOSE)
    whole = model()(make.batch([[*a, *b] for a, b in zip(before, new, strict=True)])).logits_CV
    torch.testing.assert_close(logits[0], whole, **CLOSE)


def test_an_image_step_equals_the_packed_velocity_and_leaves_the_cache_alone() -> None:
    make = Maker(2)
    before, image = [make.vit(), make.text(3)], make.noised(2, 3)
    packed = make.batch([[*before, image]])
    expected = model()(*packed).velocities_FD
    cache = new_cache()
    context = prefill(cache, cache.empty(1), [before])
    stored = cache.keys_ARMKH.clone()
    step = LatentVelocity(model(), cache, context, (2, 3), TOKENS, Role.IMAGINATION)
    ours = step(packed.noised.x_t_FD[None], float(packed.noised.timesteps_J[0]))
    torch.testing.assert_close(ours[0], expected, **CLOSE)
    assert torch.equal(cache.keys_ARMKH, stored) and cache.used == [context.lengths[0]]


def contexts(make: Maker, cache: KVCache) -> tuple[Context, Context, Context]:
    """Two requests: full, before the text (a snapshot that shares rows), and text only (rows of their own)."""
    images = [[make.vit(), make.vae(1, 2)], [make.vit(1, 1), make.vae(2, 2)]]
    texts = [[make.text(4)], [make.text(7)]]
    snapshot = prefill(cache, cache.empty(2), images)
    return prefill(cache, snapshot, texts), snapshot, prefill(cache, cache.empty(2), texts)


def test_batched_guidance_equals_three_forwards() -> None:
    make, cache = Maker(3), new_cache()
    branches = contexts(make, cache)
    noise, times = make.random(2, 6, 12), schedule(5)
    guidance = Guidance(3.0, 2.0, start=0.5, renorm="channel")
    ours = sample_latents(model(), cache, branches[0], noise, (2, 3), times, TOKENS, guidance, *branches[1:])
    fields = [LatentVelocity(model(), cache, c, (2, 3), TOKENS, Role.IMAGINATION) for c in branches]

    def velocity(x: Tensor, t: float) -> Tensor:
        return guidance.combine(*(field(x, t) for field in fields)) if t > 0.5 else fields[0](x, t)

    torch.testing.assert_close(ours, euler(velocity, noise, times), **CLOSE)
    for start in (0.5, 0.0):
        both = [
            sample_latents(
                *(model(), cache, branches[0], noise, (2, 3), times, TOKENS, replace(guidance, start=start)),
                *branches[1:],
                together=together,
            )
            for together in (True, False)
        ]
        torch.testing.assert_close(*both, **CLOSE)
        assert torch.equal(both[0], ours) == (start == 0.5)
    plain = sample_latents(model(), cache, branches[0], noise, (2, 3), times, TOKENS)
    assert not torch.allclose(ours, plain, atol=1e-3)


def test_rows_drawn_together_equal_each_alone() -> None:
    make, cache = Maker(4), new_cache()
    branches = contexts(make, cache)
    noise, times, guidance = make.random(2, 6, 12), schedule(4), Guidance(renorm="global")
    together = sample_latents(model(), cache, branches[0], noise, (2, 3), times, TOKENS, guidance, *branches[1:])
    for row in range(2):
        rows = [branch[[row]] for branch in branches]
        alone = sample_latents(model(), cache, rows[0], noise[[row]], (2, 3), times, TOKENS, guidance, rows[1], rows[2])
        torch.testing.assert_close(together[[row]], alone, **CLOSE)


def test_branches_do_not_disturb_each_other() -> None:
    """Two answers to one stem, one after the other and together: only where both go on from a row, it is copied."""
    make, cache = Maker(5), new_cache()
    stem = prefill(cache, cache.empty(1), [[make.vit(), make.text(3)]])
    answers = [make.text(4, loss=Loss.CE), make.text(6, loss=Loss.CE)]
    alone = [extend(model(), lay_out([[a]], TOKENS, CONFIG.geometry, stem.positions), cache, stem) for a in answers]
    assert [context.rows for _, context in alone] == [(0,), (1,)]
    assert prefill(cache, alone[0][1], [[make.text(1)]]).rows == (0,)
    both = lay_out([[a] for a in answers], TOKENS, CONFIG.geometry, stem.positions * 2)
    together = extend(model(), both, cache, stem + stem)[0].logits_CV
    torch.testing.assert_close(together, torch.cat([output.logits_CV for output, _ in alone]), **CLOSE)


def test_rows_are_free_again_when_no_context_holds_them() -> None:
    make, cache = Maker(12), new_cache()
    kept = prefill(cache, cache.empty(1), [[make.text(3)]])
    given_up = prefill(cache, cache.empty(2), [[make.text(300)], [make.text(2)]])
    assert (kept.rows, given_up.rows) == ((0,), (1, 2))
    batch = lay_out([[make.text(2)]], TOKENS, CONFIG.geometry, kept.positions)
    before = extend(model(), batch, cache, kept, append=False)[0]
    del given_up
    gc.collect()
    again = cache.empty(3)
    assert again.rows == (1, 2, 3) and again.lengths == (0, 0, 0) and cache.used == [5, 0, 0, 0]
    prefill(cache, again, [[make.text(4)]] * 3)
    assert torch.equal(extend(model(), batch, cache, kept, append=False)[0].grouped_TD, before.grouped_TD)


def test_blocked_roles_hold_in_the_cache() -> None:
    make = Maker(6)
    image = make.vae(2, 2, role=Role.OBSERVATION)
    answer = make.text(4, role=Role.ANSWER, loss=Loss.CE, blocked=frozenset({Role.OBSERVATION}))
    middle = make.text(5, role=Role.QUESTION, blocked=frozenset({Role.OBSERVATION}))
    full = model()(*make.batch([[image, middle, answer]])).logits_CV
    cache = new_cache()
    context = prefill(cache, cache.empty(1), [[image, middle]])
    output, _ = extend(model(), lay_out([[answer]], TOKENS, CONFIG.geometry, context.positions), cache, context)
    torch.testing.assert_close(output.logits_CV, full, **CLOSE)
    cache.keys_ARMKH[:, :, : context.lengths[0] - 7] = 100.0
    again, _ = extend(model(), lay_out([[answer]], TOKENS, CONFIG.geometry, context.positions), cache, context)
    assert torch.equal(again.logits_CV, output.logits_CV)


def test_misuse_of_a_cache_is_an_error() -> None:
    make, cache = Maker(7), new_cache()
    stem = prefill(cache, cache.empty(1), [[make.text(3)]])
    with pytest.raises(ValueError, match="2 samples cannot start at 1 positions"):
        prefill(cache, stem, [[make.text(1)], [make.text(1)]])
    with pytest.raises(ValueError, match="2 samples cannot extend a context of 1 rows"):
        extend(model(), make.batch([[make.text(1)], [make.text(1)]]), cache, stem)
    with pytest.raises(ValueError, match="noised images are not cached"):
        extend(model(), make.batch([[make.noised(1, 1)]], [5]), cache, stem)
    with pytest.raises(ValueError, match="needs a context of 1 rows for each of its branches"):
        sample_latents(model(), cache, stem, make.random(1, 2, 12), (1, 2), schedule(3), TOKENS, Guidance(), stem)
    with pytest.raises(ValueError, match=r"noise must be .* \(1, 2, 12\), got \(1, 3, 12\)"):
        sample_latents(model(), cache, stem, make.random(1, 3, 12), (1, 2), schedule(3), TOKENS)


@pytest.mark.parametrize("append", [True, False])
def test_flash_attends_to_the_cache_like_sdpa(append: bool) -> None:
    make = Maker(8)
    kinds = [make.text(3), make.text(6)] if append else [make.noised(1, 2), make.noised(2, 2)]
    results = []
    for kernel in (None, varlen_reference):
        make, cache = Maker(9), new_cache()
        context = prefill(cache, cache.empty(2), [[make.vit(), make.text(2)], [make.text(9)]])
        batch = make.batch([[kind] for kind in kinds], list(context.positions))
        attention = CachedAttention(cache, context, batch.spans, torch.empty(0), append, kernel)
        results.append(model()(*batch, attention).grouped_TD)
    torch.testing.assert_close(results[0], results[1], **CLOSE)


def test_decoding_does_not_reallocate() -> None:
    make, cache = Maker(10), new_cache()
    context = prefill(cache, cache.empty(2), [[make.text(3)], [make.vit()]])
    storage = cache.keys_ARMKH.data_ptr(), cache.values_ARMKH.data_ptr()
    for _ in range(5):
        batch: PackedBatch = single_tokens(torch.tensor([1, 2]), context.positions, CONFIG.geometry)
        attention = CachedAttention(cache, context, batch.spans, torch.empty(0), append=True)
        model()(batch, attention=attention)
        keys = cache.keys_ARMKH[0][attention.rows, : attention.seen]
        assert keys.data_ptr() == storage[0], "attention reads a copy of the cache"
        context = attention.context
    assert (cache.keys_ARMKH.data_ptr(), cache.values_ARMKH.data_ptr()) == storage


def test_replayed_steps_decode_and_draw_what_computed_ones_do() -> None:
    """Ragged rows beside others that are in use, a text that does not see a role, rows that end, and a storage that grows."""
    results = []
    for graphs in (False, True):
        make, cache = Maker(13), new_cache()
        idle = prefill(cache, cache.empty(2), [[make.text(40)], [make.text(130)]])
        context = prefill(cache, cache.empty(3), [row[:-1] for row in samples(make)])
        steps, read = TokenSteps(model(), cache, graphs), []
        calls = 0
        for number, which in enumerate([[0, 1, 2], [2, 0, 1], [2, 0], [2, 0], [0]] * 4):
            hidden = frozenset({Role.OBSERVATION}) if number % 2 else frozenset[Role]()
            part, *found = steps(context[which], [4 + number + row for row in which], Role.ANSWER, hidden)
            context, calls = context.updated(which, part), calls + 1
            read += found
        branches = context, idle[[1, 0, 1]]
        drawn = sample_latents(
            *(model(), cache, branches[0], make.random(3, 6, 12), (2, 3), schedule(5), TOKENS),
            *(Guidance(3.0, 1.0, start=0.5), branches[1]),
            graphs=graphs,
        )
        held = zip(context.rows, context.lengths, strict=True)
        results.append([*read, drawn, *(cache.keys_ARMKH[:, row, :length] for row, length in held)])
        assert not graphs or 1 < len(steps._captured) < calls / 3, "steps are captured once for all of their kind"
    for computed, replayed in zip(*results, strict=True):
        torch.testing.assert_close(computed, replayed, **CLOSE)


def test_steps_of_one_token_equal_those_of_the_packed_way() -> None:
    """Hidden states and logits of rows in any order against `extend`, which masks by the span table."""
    make = Maker(14)
    rows, hidden = samples(make), frozenset({Role.OBSERVATION})
    rows[0][0] = make.vit(role=Role.OBSERVATION)
    outcomes = []
    for steps in (True, False):
        cache = new_cache()
        context = prefill(cache, cache.empty(3), rows)[[2, 0, 1]]
        if steps:
            grown, *found = TokenSteps(model(), cache)(context, [5, 6, 7], Role.ANSWER, hidden)
        else:
            batch = single_tokens(torch.tensor([5, 6, 7]), context.positions, CONFIG.geometry, Role.ANSWER, hidden)
            output, grown = extend(model(), batch, cache, context)
            found = [output.grouped_TD, output.logits_CV]
        outcomes.append((found, grown.lengths, grown.positions, cache.bits_RM))
    for ours, theirs in zip(outcomes[0][0], outcomes[1][0], strict=True):
        torch.testing.assert_close(ours, theirs, **CLOSE)
    assert outcomes[0][1:3] == outcomes[1][1:3] and (outcomes[0][3] == outcomes[1][3]).all()
