"""Rollouts as training sequences: the same segments that the session has read and written, with what was chosen in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ipt.inference.context import Row
from ipt.model.config import ModelConfig
from ipt.reinforcement.advantages import Share
from ipt.reinforcement.walk import Walked
from ipt.sequence.batch import Grid, Origin, PackedBatch, lay_out
from ipt.sequence.replay import Closed, Drawn, Replay, Sampled
from ipt.sequence.segments import Kind, Latents, Segment, SpecialTokens, TokenIds, num_tokens
from ipt.sequence.settings import Geometry
from ipt.sequence.spans import Loss, Role


@dataclass(frozen=True)
class Unit:
    """Sequences that must stand in one pack, with what was chosen in them. ``origin``: of each of them."""

    origin: Origin
    sequences: Sequence[Sequence[Segment]]
    replay: Replay

    def tokens(self, geometry: Geometry) -> int:
        """In the sequence."""
        return sum(num_tokens(segments, geometry) for segments in self.sequences)


def closed_unit(
    origin: Origin,
    row: Row,
    options: Sequence[Sequence[int]],
    told: Sequence[float],
    rewards: Sequence[float],
    blocked: frozenset[Role],
) -> Unit:
    """``options``: the ids that the row would write for each; ``told``: their log-probabilities; ``rewards``: what each is worth.

    Options that differ in their last token alone share one sequence; others have a sequence for each beginning.
    """
    begun: tuple[int, ...] = ()
    role = Role.ANSWER
    if row.text is not None:
        begun, role, blocked = row.text.ids, row.text.role, row.text.blocked
    same = next((n for n in range(len(options[0]) + 1) if len({tuple(ids[: n + 1]) for ids in options}) > 1), 0)
    runs: dict[tuple[int, ...], int] = {}
    entries: list[tuple[int, int, int]] = []
    for option, ids in enumerate(options):
        run = tuple(ids[:-1])
        number = runs.setdefault(run, len(runs))
        # texts before it have lengths of their own
        first = sum(len(begun) + len(each) + 1 for each in list(runs)[:number]) + len(begun)
        entries += [(first + place, ids[place], option) for place in range(same, len(ids))]
    text = [_text((*begun, *run), role, blocked, Loss.CE) for run in runs]
    positions, tokens, numbers = (torch.tensor(column, dtype=torch.long) for column in zip(*entries, strict=True))
    replay = Closed(
        positions_E=positions,
        tokens_E=tokens,
        questions_E=torch.zeros_like(numbers),
        options_E=numbers,
        rewards_QA=torch.tensor([rewards], dtype=torch.float32),
        exists_QA=torch.ones(1, len(options), dtype=torch.bool),
        told_QA=torch.tensor([told], dtype=torch.float32),
        places_Q=positions[:1],
        length=sum(len(begun) + len(run) + 1 for run in runs),
    )
    return Unit(origin, [[*_bare(row.segments), each] for each in text], replay)


def written_tokens(row: Row) -> list[tuple[int, float]]:
    """The tokens that the model has sampled in a row, ends of texts as -1, with their log-probabilities."""
    return [pair for _, ids, chances in _texts(row) for pair in zip((*ids, -1), chances, strict=False)]


def sampled_unit(origin: Origin, row: Row, advantage: float, share: Share, temperature: float) -> Unit:
    """Every token that the model has sampled in the row gets ``advantage`` and counts as ``share`` says."""
    chances_of = {number: chances for number, _, chances in _texts(row)}
    segments = list(row.segments)
    if row.text is not None:
        segments.append(_text(row.text.ids, row.text.role, row.text.blocked, Loss.NONE))
    told: list[float] = []
    is_sampled: list[bool] = []
    for number, segment in enumerate(segments):
        sampled = chances_of.get(number, ())
        segments[number] = replace(segment, loss=Loss.CE if sampled else Loss.NONE, end_label=None)
        if sampled:
            assert isinstance(segment.payload, TokenIds)
            rest = len(segment.payload.ids) + 1 - len(sampled)
            told += [*sampled, *[0.0] * rest]
            is_sampled += [*[True] * len(sampled), *[False] * rest]
    mask_C = torch.tensor(is_sampled, dtype=torch.bool)
    replay = Sampled(
        is_sampled_C=mask_C,
        advantages_C=mask_C.float() * advantage,
        weights_C=mask_C.float() * share.weight,
        told_C=torch.tensor(told, dtype=torch.float32),
        count=share.divisor,
        temperature=temperature,
    )
    return Unit(origin, [segments], replay)


def drawn_units(
    origin: Origin,
    row: Row,
    steps: Sequence[tuple[Walked, float]],
    grid: Grid,
    shape: ModelConfig,
    budget: int,
) -> Iterator[Unit]:
    """The steps of all pictures that were drawn after ``row``, each with the advantage of its picture: as many as a pack of
    ``budget`` tokens holds share one context. Noised images are hidden from each other, so each sees what it saw alone."""
    latents = shape.latents
    blank = torch.zeros(latents.channels, grid[0] * latents.patch, grid[1] * latents.patch)
    image = Segment(Kind.VAE_NOISED, Latents(blank), Role.IMAGINATION)
    context = _bare(row.segments)
    room = budget - num_tokens(context, shape.geometry)
    each = max(room // image.num_tokens(shape.geometry), 1)
    for start in range(0, len(steps), each):
        chosen = steps[start : start + each]
        walked = [step for step, _ in chosen]
        sizes = torch.tensor([len(step.state_LD) for step in walked])
        replay = Drawn(
            states_FD=torch.cat([step.state_LD for step in walked]),
            next_FD=torch.cat([step.next_LD for step in walked]),
            times_J=_column(walked, "time"),
            next_times_J=_column(walked, "next_time"),
            caps_J=_column(walked, "cap"),
            noise_J=_column(walked, "noise"),
            told_J=_column(walked, "told"),
            advantages_J=torch.tensor([advantage for _, advantage in chosen], dtype=torch.float32),
            images_F=torch.arange(len(walked)).repeat_interleave(sizes),
        )
        yield Unit(origin, [[*context, *[image] * len(walked)]], replay)


def _column(walked: Sequence[Walked], name: str) -> Tensor:
    return torch.tensor([getattr(step, name) for step in walked], dtype=torch.float32)


def _bare(segments: Sequence[Segment]) -> list[Segment]:
    return [replace(segment, loss=Loss.NONE, end_label=None) for segment in segments]


def _text(ids: Sequence[int], role: Role, blocked: frozenset[Role], loss: Loss) -> Segment:
    return Segment(Kind.TEXT, TokenIds(torch.tensor(ids, dtype=torch.long)), role, loss, blocked=blocked)


def _texts(row: Row) -> Iterator[tuple[int, Sequence[int], Sequence[float]]]:
    """The texts that the model wrote: number of the segment, ids, and log-probabilities of these and perhaps of the end."""
    for number, chances in row.chances:
        payload = row.segments[number].payload
        assert isinstance(payload, TokenIds)
        yield number, payload.ids.tolist(), chances
    if row.text is not None:
        yield len(row.segments), row.text.ids, row.text.chances


def packs(
    units: Sequence[Unit], kind: type[Replay], special: SpecialTokens, geometry: Geometry, budget: int
) -> list[PackedBatch]:
    """The units in their order, as many in a pack as ``budget`` tokens allow; one that is larger has a pack of its own."""
    found: list[list[Unit]] = []
    used = budget + 1
    for unit in units:
        tokens = unit.tokens(geometry)
        if used + tokens > budget:
            found.append([])
            used = 0
        found[-1].append(unit)
        used += tokens
    return [packed(each, kind, special, geometry) for each in found]


def packed(units: Sequence[Unit], kind: type[Replay], special: SpecialTokens, geometry: Geometry) -> PackedBatch:
    """One pack; of no units, one that is empty and trains nothing."""
    sequences = [segments for unit in units for segments in unit.sequences]
    origins = tuple(unit.origin for unit in units for _ in unit.sequences)
    replay = kind.joined([unit.replay for unit in units]) if units else kind.nothing(geometry.latent_size)
    return replace(lay_out(sequences, special, geometry), origins=origins, replay=replay)
