"""Rollouts: what the model makes of questions by itself, in a session of the weights that are trained, and what that is worth.

Stage ``readout``: imaginations as the model makes them, and after each of them the options weighed (`Closed`) or texts sampled
(`Sampled`). Stage ``imagination``: pictures drawn by chance (`Drawn`), which a frozen reader looks at. Everything that is drawn
comes from streams that carry the rollout's seed, the sample and its position, so no two rollouts draw alike, and which process
makes one changes nothing.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from ipt.imagination.base import Imagination, Imagined, Mediator
from ipt.imagination.mixture import make_mode
from ipt.imagination.modes import modes
from ipt.inference.answering import Answered, best, combined, normalised, numbers_of, option_texts, written
from ipt.inference.checkpoint import Checkpoint
from ipt.inference.context import SessionContext
from ipt.inference.engine import make_session
from ipt.inference.prediction import about
from ipt.inference.session import Session
from ipt.reinforcement.advantages import advantages, share, shuffled
from ipt.reinforcement.rewards import Outcome, worths
from ipt.reinforcement.settings import GrpoSettings, samples_texts, trained_mode
from ipt.reinforcement.units import Unit, closed_unit, drawn_units, sampled_unit, written_tokens
from ipt.reinforcement.walk import Walk, first_step
from ipt.samples.answers import parse_answer
from ipt.samples.prompts import ANSWER, ANSWER_END
from ipt.samples.sample import SampleImage, SpatialSample
from ipt.sequence.batch import Origin
from ipt.sequence.replay import Closed, Drawn, Replay, Sampled
from ipt.sequence.spans import Role

#: The probabilities of a question's options to whoever looks at its mediator.
Read = Callable[[Sequence[SpatialSample], Sequence[Mediator]], list[tuple[float, ...]]]


class Asked(NamedTuple):
    """A question of a rollout; ``where`` it is stored."""

    sample: SpatialSample
    origin: Origin
    where: str = ""

    @property
    def name(self) -> tuple[str, int]:
        """Of its random streams."""
        return self.sample.id, self.origin.position


@dataclass
class Rollout:
    """``units`` to train on; ``answers``, one per question, and ``lines``, one per choice, to keep; ``numbers`` whose means are
    figures of the record; ``choices``: the options that were chosen, None where none was."""

    units: list[Unit] = field(default_factory=list)
    answers: list[Answered] = field(default_factory=list)
    lines: list[dict[str, Any]] = field(default_factory=list)
    numbers: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    choices: list[int | None] = field(default_factory=list)

    def add(self, other: Rollout) -> None:
        """Go on with another one."""
        for name in ("units", "answers", "lines", "choices"):
            getattr(self, name).extend(getattr(other, name))
        for name, values in other.numbers.items():
            self.numbers[name].extend(values)


def replay_of(settings: GrpoSettings, mode: type[Imagination]) -> type[Replay]:
    """What the packs of these rollouts carry."""
    if settings.stage == "imagination":
        return Drawn
    return Sampled if samples_texts(settings, mode) else Closed


class Player:
    """A model that is asked: its ``mode`` and the session in which it writes and draws as ``settings`` say."""

    def __init__(self, checkpoint: Checkpoint, settings: GrpoSettings) -> None:
        recipe, text, draw = checkpoint.recipe, settings.text, settings.draw
        renderer = checkpoint.renderer(draw.side)
        name = trained_mode(settings, recipe.imagination)
        self.settings, self.mode = settings, make_mode(name, renderer, recipe.imagination.at_inference)
        self.kind = replay_of(settings, modes[name])
        if self.kind is Sampled and text.temperature is None:
            default = None if recipe.sampling is None else recipe.sampling.temperature
            text = replace(text, temperature=default or 1.0)
        if self.kind is Drawn:
            draw = replace(draw, text_scale=1.0, image_scale=1.0)
        self.session: Session = make_session(checkpoint, text, draw)

    def prompted(self, names: Sequence[tuple[str, int]], samples: Sequence[SpatialSample]) -> SessionContext:
        """Rows that hold the prompts."""
        start = SessionContext.start(self.session, names, [sample.task for sample in samples])
        return start.append([self.mode.prompt(sample) for sample in samples])

    def read(self, samples: Sequence[SpatialSample], mediators: Sequence[Mediator]) -> list[tuple[float, ...]]:
        """The probabilities of each question's options where ``mediators[i]`` stands before its answer."""
        found: list[tuple[float, ...]] = []
        for start in range(0, len(samples), self.settings.batch_size):
            part = samples[start : start + self.settings.batch_size]
            prompted = self.prompted([(sample.id, 0) for sample in part], part)
            placed = self.mode.placed(prompted, mediators[start : start + self.settings.batch_size])
            assert isinstance(placed.context, SessionContext)
            options = option_texts(placed.context, placed, part)
            found += [normalised(each) for each in placed.context.score_options(options, Role.ANSWER, placed.blocked)]
        return found

    def play(self, asked: Sequence[Asked], seed: int, budget: int, reader: Read | None, control: bool) -> Rollout:
        """The rollout of these questions, in batches that depend on nothing but them. ``budget``: tokens of a pack. ``control``:
        also how the answers fare with the mediators of other questions."""
        rollout, rows = (
            Rollout(),
            self.settings.imaginations * (self.settings.answers_each if self.kind is Sampled else 1),
        )
        size = max(self.settings.batch_size // rows, 1)
        for start in range(0, len(asked), size):
            part = asked[start : start + size]
            if self.kind is Drawn:
                assert reader is not None
                for same in _of_one_size(part, self.mode):
                    rollout.add(drawn(self, same, seed, budget, reader, control))
            else:
                rollout.add(readout(self, part, seed, control))
        return rollout


def _of_one_size(asked: Sequence[Asked], mode: Imagination) -> Iterator[list[Asked]]:
    sized = [(mode.renderer.imagination_size(each.sample.task), each) for each in asked]
    for size in dict.fromkeys(size for size, _ in sized):
        yield [each for other, each in sized if other == size]


def readout(player: Player, asked: Sequence[Asked], seed: int, control: bool) -> Rollout:
    """Imaginations as the model makes them, and what it would answer to each."""
    settings, mode = player.settings, player.mode
    prompted = player.prompted([each.name for each in asked], [each.sample for each in asked])
    imagined = mode.imagine(prompted, settings.imaginations, seed)
    if player.kind is Sampled:
        imagined = repeated(imagined, settings.answers_each)
    rows = [each for each in asked for _ in range(len(imagined.context) // len(asked))]
    rollout = (sampled if player.kind is Sampled else closed)(player, rows, imagined, seed)
    each = len(rows) // len(asked)
    for place, question in enumerate(asked):
        own = range(place * each, (place + 1) * each)
        predictions = [_predicted(player, question, imagined, row, rollout.lines[row], seed) for row in own]
        rollout.answers.append(combined(predictions, "vote", True))
        pictures = [image for row in own[:: max(settings.answers_each, 1)] for image in imagined.images[row]]
        rollout.numbers["diversity"] += diversity(pictures)
    if control and mode.kind:
        firsts = range(0, len(rows), each)
        assert isinstance(imagined.context, SessionContext)
        held = [numbers_of(imagined.context.rows[row].segments) for row in firsts]
        made = [
            mode.mediator_of(imagined.texts[row], imagined.images[row], numbers)
            for row, numbers in zip(firsts, held, strict=True)
        ]
        rollout.numbers["permuted"] += permuted(player.read, asked, made)
    return rollout


def _predicted(
    player: Player, question: Asked, imagined: Imagined, row: int, line: dict[str, Any], seed: int
) -> Answered:
    name = "imagination" if player.mode.mediates else "answer_only"
    prediction = replace(
        about(question.sample, name, seed),
        answer=line["answer"],
        probabilities=tuple(line.get("probabilities", ())),
        text=line.get("text", ""),
        thoughts=imagined.texts[row],
        text_tokens=line["tokens"],
    )
    return Answered(prediction, imagined.images[row])


def repeated(imagined: Imagined, times: int) -> Imagined:
    """Every row ``times`` times, to go on independently."""
    assert isinstance(imagined.context, SessionContext)
    texts, images, leads = (
        tuple(value for value in values for _ in range(times))
        for values in (imagined.texts, imagined.images, imagined.leads)
    )
    return Imagined(imagined.context.repeat(times), texts, images, leads, imagined.blocked)  # type: ignore[arg-type]


def closed(player: Player, rows: Sequence[Asked], imagined: Imagined, seed: int) -> Rollout:
    """Every option weighed: what the row would write for it, how likely that is, and what it is worth."""
    assert isinstance(imagined.context, SessionContext)
    samples, rollout = [asked.sample for asked in rows], Rollout()
    options = option_texts(imagined.context, imagined, samples)
    context = imagined.context.settled
    scores = context.score_options(options, Role.ANSWER, imagined.blocked)
    names = player.settings.weights
    for asked, row, ids, each in zip(rows, context.rows, context.option_ids(options), scores, strict=True):
        chances = np.array(normalised(each))
        told = np.array(each) - np.logaddexp.reduce(each)
        parts = [
            worths(Outcome(asked.sample, f"{ANSWER}{letter}{ANSWER_END}"), names) for letter in asked.sample.letters
        ]
        rewards = np.array([sum(names[name] * value for name, value in part.items()) for part in parts])
        if player.settings.shuffled:
            rewards = shuffled(rewards, seed, *row.name)
        rollout.units.append(closed_unit(asked.origin, row, ids, told.tolist(), rewards.tolist(), imagined.blocked))
        expected = {name: float(sum(p * part[name] for p, part in zip(chances, parts, strict=True))) for name in names}
        answer, entropy = best(chances.tolist()), float(-(chances * told).sum())
        rollout.choices.append(answer)
        _count(rollout, expected, float(chances @ rewards))
        rollout.numbers["entropy"].append(entropy)
        rollout.lines.append(
            _line(asked, row.name)
            | {
                "answer": answer,
                "tokens": row.text_tokens,
                "probabilities": chances.tolist(),
                "rewards": rewards.tolist(),
            }
            | {"options": ids, "log_probabilities": told.tolist()}
        )
    return rollout


def sampled(player: Player, rows: Sequence[Asked], imagined: Imagined, seed: int) -> Rollout:
    """Texts sampled to their ends, and the advantages of each within its question."""
    assert isinstance(imagined.context, SessionContext)
    settings, session, rollout = player.settings, player.session, Rollout()
    final, texts = written(imagined.context, imagined, seed)
    names = settings.weights
    parts = [worths(Outcome(asked.sample, text), names) for asked, text in zip(rows, texts, strict=True)]
    rewards = np.array([sum(names[name] * value for name, value in part.items()) for part in parts])
    each = settings.imaginations * settings.answers_each
    rewards_QG = _grouped(rewards, each, player, [asked.name for asked in rows[::each]], seed)
    gained = advantages(rewards_QG, settings.scale).flatten()
    rollout.numbers["deviation"] += rewards_QG.std(1).tolist()
    longest = session.sampling.max_tokens
    for i, (asked, row, text) in enumerate(zip(rows, final.rows, texts, strict=True)):
        tokens = written_tokens(row)
        counts = share(settings.loss, len(tokens), longest)
        temperature = session.sampling.temperature
        rollout.units.append(sampled_unit(asked.origin, row, float(gained[i]), counts, temperature))
        answer = parse_answer(text, asked.sample.choices)
        rollout.choices.append(answer)
        _count(rollout, parts[i], float(rewards_QG.flat[i]))
        rollout.numbers["entropy"] += [-chance for _, chance in tokens]
        rollout.lines.append(
            _line(asked, row.name)
            | {"answer": answer, "tokens": row.text_tokens, "text": text, "rewards": parts[i]}
            | {"reward": float(rewards_QG.flat[i]), "advantage": float(gained[i])}
            | {"ids": [token for token, _ in tokens], "log_probabilities": [chance for _, chance in tokens]}
        )
    return rollout


def drawn(player: Player, asked: Sequence[Asked], seed: int, budget: int, reader: Read, control: bool) -> Rollout:
    """Pictures with a window of steps left to chance, as the frozen reader and the true view judge them."""
    settings, mode, session, rollout = player.settings, player.mode, player.session, Rollout()
    samples, each, steps = [q.sample for q in asked], settings.imaginations, len(session.times) - 1
    truths = [mode.true_mediator(sample) for sample in samples]
    ready = mode.announce(player.prompted([q.name for q in asked], samples), [truth.text for truth in truths])
    begins = [
        first_step(steps, settings.window, settings.first, settings.last, seed, *question.name) for question in asked
    ]
    context, size = ready.repeat(each), mode.renderer.imagination_size(samples[0].task)
    names = [row.name for row in context.rows]
    begin_B = [begin for begin in begins for _ in range(each)]
    walk = Walk(session.times, settings.noise, settings.window, begin_B, seed, names)
    images = context.generate_image(range(len(context)), size, seed, walk)
    rows = [question for question in asked for _ in range(each)]
    mediators = [Mediator(truth.text, image) for truth, image in zip(_each(truths, each), images, strict=True)]
    read = reader([question.sample for question in rows], mediators)
    weights = settings.weights
    parts = [
        worths(Outcome(q.sample, image=image, reader=chances[q.sample.answer_index]), weights)
        for q, image, chances in zip(rows, images, read, strict=True)
    ]
    rewards = np.array([sum(weights[name] * value for name, value in part.items()) for part in parts])
    rewards_QG = _grouped(rewards, each, player, [question.name for question in asked], seed)
    gained_QG = advantages(rewards_QG, settings.scale)
    rollout.numbers["deviation"] += rewards_QG.std(1).tolist()
    stride = session.geometry.latent_stride
    grid = size[1] // stride, size[0] // stride
    for place, question in enumerate(asked):
        own = range(place * each, (place + 1) * each)
        walked = [(step, float(gained_QG.flat[i])) for i in own for step in walk.walked_B[i]]
        row = ready.rows[place]
        rollout.units += drawn_units(question.origin, row, walked, grid, session.model.config, budget)
        rollout.numbers["diversity"] += diversity([images[i] for i in own])
        answers = []
        for i in own:
            answer = best(read[i])
            rollout.choices.append(answer)
            _count(rollout, parts[i], float(rewards_QG.flat[i]))
            rollout.lines.append(
                _line(question, names[i])
                | {"answer": answer, "probabilities": list(read[i]), "rewards": parts[i]}
                | {"reward": float(rewards_QG.flat[i]), "advantage": float(gained_QG.flat[i])}
                | {"steps": [step.number for step in walk.walked_B[i]]}
                | {"log_probabilities": [step.told for step in walk.walked_B[i]]}
            )
            prediction = replace(
                about(question.sample, "imagination", seed),
                answer=answer,
                probabilities=read[i],
                thoughts=(mediators[i].text,),
            )
            answers.append(Answered(prediction, (images[i],)))
        rollout.answers.append(combined(answers, "vote", True))
    if control:
        rollout.numbers["permuted"] += permuted(reader, asked, mediators[::each])
    return rollout


def _each(values: Sequence[Any], times: int) -> Iterator[Any]:
    return itertools.chain.from_iterable([value] * times for value in values)


def _grouped(rewards: np.ndarray, each: int, player: Player, names: Sequence[tuple[str, int]], seed: int) -> np.ndarray:
    """[Q, G] rewards by question; shuffled within it where that is asked for."""
    grouped = rewards.reshape(-1, each)
    if player.settings.shuffled:
        grouped = np.stack([shuffled(own, seed, *name) for own, name in zip(grouped, names, strict=True)])
    return grouped


def _count(rollout: Rollout, parts: dict[str, float], reward: float) -> None:
    rollout.numbers["reward"].append(reward)
    for name, value in parts.items():
        rollout.numbers[f"reward/{name}"].append(value)


def _line(asked: Asked, name: Sequence[str | int]) -> dict[str, Any]:
    return {"sample_id": asked.sample.id, "position": asked.origin.position, "choice": list(name[2:])}


def permuted(read: Read, asked: Sequence[Asked], mediators: Sequence[Mediator | None]) -> list[float]:
    """The probability of the right option where the mediator is that of the next question of another scene: near to that with its
    own, nothing is read from mediators."""
    pairs = []
    for place, question in enumerate(asked):
        following = (*range(place + 1, len(asked)), *range(place))
        other = next((i for i in following if mediators[i] is not None and _scene(asked[i]) != _scene(question)), None)
        if other is not None:
            pairs.append((question.sample, mediators[other]))
    if not pairs:
        return []
    samples = [sample for sample, _ in pairs]
    found = read(samples, [mediator for _, mediator in pairs if mediator is not None])
    return [chances[sample.answer_index] for sample, chances in zip(samples, found, strict=True)]


def _scene(asked: Asked) -> tuple[str, str]:
    return asked.sample.provenance.backend, asked.sample.provenance.scene_id


def diversity(pictures: Sequence[SampleImage]) -> list[float]:
    """The mean distance between two pictures of a question: root mean
    square of their pixels, of 1. Nothing for fewer than two."""
    if len(pictures) < 2:
        return []
    pixels = [picture.pixels().astype(np.float64) / 255 for picture in pictures]
    pairs = itertools.combinations(pixels, 2)
    return [float(np.mean([np.sqrt(np.square(first - second).mean()) for first, second in pairs]))]
