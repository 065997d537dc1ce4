"""What is trained on is what was played: ratios of 1 before the first update, for texts, options and pictures alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ipt.inference.answering import normalised
from ipt.reinforcement.rollouts import Rollout
from ipt.reinforcement.units import closed_unit, packed, packs
from ipt.sequence.replay import Closed, Drawn, Sampled
from ipt.training.losses import Objective, mean_losses, noised, token_counts
from ipt.training.settings import LossConfig
from tests.inference import toy
from tests.reinforcement import toys

EXACT = 1e-5


@pytest.mark.parametrize(
    "stage, mode",
    [
        ("closed", "ipt"),
        ("closed", "label_only"),
        ("closed", "latent"),
        ("closed", "discrete"),
        ("sampled", "text_cot"),
        ("sampled", "caption"),
        ("drawn", "ipt"),
    ],
)
def test_the_ratio_is_1_at_replay(stage: str, mode: str) -> None:
    player = toys.player(stage, toy.checkpoint(mode), mode=mode)
    rollout = toys.played(player, toys.asked(0, 1, 7))
    (pack,) = toys.packed(player, rollout)
    found = toys.losses(pack)["mismatch"].detach()
    if isinstance(pack.replay, Sampled):
        assert pack.replay.is_sampled_C.sum() > 20 and not pack.replay.is_sampled_C.all()
        found = found[pack.replay.is_sampled_C]
    assert len(found) and float(found.max()) < EXACT


@pytest.mark.parametrize(("mode", "controlled"), [("ipt", 3), ("latent", 3), ("discrete", 3), ("label_only", 0)])
def test_the_control_reads_the_mediators_of_others_whatever_they_are(mode: str, controlled: int) -> None:
    player = toys.player("closed", toy.checkpoint(mode), mode=mode)
    rollout = toys.played(player, toys.asked(0, 1, 7))
    assert len(rollout.numbers["permuted"]) == controlled
    assert all(0 <= chance <= 1 for chance in rollout.numbers["permuted"])


@pytest.mark.parametrize("mode", ["ipt", "label_only"])
def test_texts_are_sampled_and_replayed_where_options_could_be_weighed(mode: str) -> None:
    """Of ``ipt`` the announcement, too, and the end that the model sets to it; nothing of the prompt or of the picture."""
    player = toys.player("sampled", toy.checkpoint(mode), mode=mode, closed=False, draw=toys.DRAW)
    rollout = toys.played(player, toys.asked())
    (pack,) = toys.packed(player, rollout)
    replay = pack.replay
    assert isinstance(replay, Sampled)
    assert float(toys.losses(pack)["mismatch"].detach()[replay.is_sampled_C].max()) < EXACT
    written = sum(len(line["ids"]) for line in rollout.lines)
    assert int(replay.is_sampled_C.sum()) == written
    labels = pack.labels_C[replay.is_sampled_C].tolist()
    eos = player.session.special.eos
    assert labels == [eos if token == -1 else token for line in rollout.lines for token in line["ids"]]


def test_a_ratio_shows_weights_that_have_moved() -> None:
    for stage in toys.STAGES:
        player = toys.player(stage)
        (pack,) = toys.packed(player, toys.played(player, toys.asked()))
        weight = toy.model().decoder.layers[0].generation.mlp.down_proj.weight  # type: ignore[attr-defined]
        other = toy.model().decoder.layers[0].understanding.mlp.down_proj.weight  # type: ignore[attr-defined]
        kept = weight.clone(), other.clone()
        try:
            with torch.no_grad():
                weight.mul_(1.5)
                other.mul_(1.5)
            assert float(toys.losses(pack)["mismatch"].max()) > 1e-3, stage
        finally:
            with torch.no_grad():
                weight.copy_(kept[0])
                other.copy_(kept[1])


def test_options_of_several_tokens_are_weighed_as_in_the_session() -> None:
    """Options that differ in more than their last token have a sequence each; the session reads them as well."""
    player = toys.player("closed", toy.checkpoint("label_only"), mode="label_only")
    context = player.prompted([("a", 0)], [toy.sample(0)])
    options = [["<answer>A", "<answer>Bold", "so", "<answer>Bo"]]
    ids = context.option_ids(options)
    scores = context.score_options(options)
    unit = closed_unit(
        toys.asked(0)[0].origin,
        context.rows[0],
        ids[0],
        np.log(normalised(scores[0])).tolist(),
        [1, 2, 3, 4],
        frozenset(),
    )
    assert len({tuple(each[:-1]) for each in ids[0]}) > 1 and len(unit.sequences) > 1
    pack = packed([unit], Closed, player.session.special, player.session.geometry)
    found = toys.losses(pack)
    assert float(found["mismatch"].max()) < EXACT
    assert float(found["choice"]) == pytest.approx(-float(np.dot(normalised(scores[0]), [1, 2, 3, 4])), rel=1e-5)


def sequences(rollout: Rollout) -> int:
    return sum(len(unit.sequences) for unit in rollout.units)


def test_steps_of_a_picture_share_a_context_as_far_as_a_pack_has_room() -> None:
    player = toys.player("drawn", imaginations=4)
    questions = toys.asked(0, 1)
    whole = player.play(questions, 0, 4096, player.read, False)
    assert sequences(whole) == 2
    narrow = max(unit.tokens(player.session.geometry) for unit in whole.units) - 1
    split = player.play(questions, 0, narrow, player.read, False)
    assert sequences(split) > 2
    special, geometry = player.session.special, player.session.geometry
    one, several = (packs(each.units, Drawn, special, geometry, narrow + 1) for each in (whole, split))
    first, second = (torch.cat([toys.losses(pack)["picture"].detach() for pack in each]) for each in (one, several))
    torch.testing.assert_close(first, second)
    assert all(pack.spans.num_tokens <= narrow + 1 for pack in several)


def test_what_is_played_depends_on_the_seed_and_not_on_the_batch() -> None:
    for stage in toys.STAGES:
        changes: dict[str, Any] = {"batch_size": 2}
        lines = toys.played(toys.player(stage), toys.asked()).lines
        apart = toys.played(toys.player(stage, **changes), toys.asked()).lines
        other = toys.played(toys.player(stage), toys.asked(), seed=1).lines
        assert [rounded(line) for line in lines] == [rounded(line) for line in apart], stage
        assert [rounded(line) for line in lines] != [rounded(line) for line in other], stage


def rounded(value: Any) -> Any:
    """Without the last digits."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return round(value, 3) + 0.0 if isinstance(value, float) else value


@pytest.mark.parametrize("stage", toys.STAGES)
def test_a_pack_of_no_choices_computes_and_trains_nothing(stage: str) -> None:
    """For processes whose lanes need fewer packs than those of others: all parameters get gradients, which are 0."""
    player = toys.player(stage)
    empty = packed([], player.kind, player.session.special, player.session.geometry)
    objective = Objective(toy.model(), LossConfig())
    counts = token_counts(empty, LossConfig())
    assert not counts.any()
    named = dict(objective.named_parameters())
    objective.zero_grad(set_to_none=True)
    try:
        objective.requires_grad_(True)
        shares = mean_losses(objective(empty, *noised(empty, 0, 1.0)), empty, counts.tolist(), LossConfig())
        sum(shares).backward()  # type: ignore[union-attr]
        assert all(share == 0 for share in shares)
        assert [name for name, weight in named.items() if weight.grad is None or weight.grad.any()] == []
    finally:
        objective.requires_grad_(False)
        objective.zero_grad(set_to_none=True)
