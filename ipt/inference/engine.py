"""The engine: questions in, predictions out, in batches of similar length.

    engine = Engine(load_checkpoint(folder), ModeSettings("imagination"))
    predictions = [answered.prediction for answered in engine.answer(samples)]

Answers that are words alone come one after the other (`ipt.inference.continuous`), a window of questions at a time; all others
batch by batch.

An answer depends on the model, the settings, the seed and the sample, and on what it was computed beside by its last digits
alone. Batches and windows are the same wherever an earlier run was interrupted, so a continued run gives equal bytes. A sample
that fails is an answer with an error: a batch that fails is halved until the sample is alone.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch

from ipt.common.errors import UserError
from ipt.common.seeding import derived_seed
from ipt.flow.guidance import Guidance
from ipt.flow.path import schedule
from ipt.imagination.base import Imagination
from ipt.imagination.recipe import Recipe, Sampling
from ipt.inference.answering import Answered, combined, read_answers
from ipt.inference.checkpoint import Checkpoint
from ipt.inference.context import SessionContext
from ipt.inference.continuous import Question, TextAnswers
from ipt.inference.plans import Imagine, Plan, make_plan
from ipt.inference.prediction import Prediction, about, unread
from ipt.inference.selective import confidence
from ipt.inference.session import Deadline, Session, TimeLimit
from ipt.inference.settings import DrawSettings, ModeSettings, TextSettings
from ipt.samples.sample import SpatialSample
from ipt.samples.views import Listed, Permuted, Samples
from ipt.sequence.segments import Segment, num_tokens

#: Batches whose samples are sorted by length together.
WINDOW = 4
#: What one sample, or a batch that is too large, can raise; anything else is a fault of the program and ends the run.
FAILURES: tuple[type[Exception], ...] = (UserError, TimeLimit, MemoryError, torch.OutOfMemoryError)
#: Of these, what every process raises that answers the same samples.
SHARED_FAILURES: tuple[type[Exception], ...] = (UserError,)
PAPER_TEXT_SCALE, PAPER_IMAGE_SCALE = 4.0, 2.0


class Asked(NamedTuple):
    """A sample, its rendered prompt, and the tokens of that."""

    sample: SpatialSample
    prompt: list[Segment]
    tokens: int


class Engine:
    """A model in one mode. ``batch_size``: questions at a time, ``continuous`` where that can be. ``plan``: what comes between
    questions and answers instead of what the mode says. ``sharded``: the weights are divided among processes, which answer the
    same samples by the same forward passes. One of them that ran out of memory, and halved its batch, would gather weights that
    the others do not send, so this ends the run.

    Raises ``ValueError`` where the model was not trained for the mode.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        mode: ModeSettings,
        seed: int = 0,
        batch_size: int = 64,
        sharded: bool = False,
        plan: Plan | None = None,
        continuous: bool = True,
    ) -> None:
        if batch_size < 1:
            raise UserError(f"batch_size must be at least 1, got {batch_size}")
        self.checkpoint, self.mode, self.seed, self.batch_size = checkpoint, mode, seed, batch_size
        self.plan, self.failures, self.continuous = plan, (SHARED_FAILURES if sharded else FAILURES), continuous
        self.renderer = checkpoint.renderer(mode.draw.side)
        self.session = make_session(checkpoint, mode.text, mode.draw)
        checked = plan or make_plan(mode, checkpoint.recipe, self.renderer, lambda sample: sample)
        self.asks: Imagination = checked.mode
        self.at_once: Plan | None = None
        if mode.name == "selective":
            self.at_once = make_plan(replace(mode, name="answer_only", n=1, fit=()), checkpoint.recipe, self.renderer)

    def prompt_tokens(self, sample: SpatialSample) -> int:
        """Tokens of the prompt that asks for an answer from an imagination, or at once. ``UserError`` for a broken sample."""
        return num_tokens(self.asks.prompt(sample), self.session.geometry)

    def answer(self, samples: Samples | Sequence[SpatialSample], skip: Collection[str] = ()) -> Iterator[Answered]:
        """Answer every sample but those whose ids are in ``skip``, in batches of similar length, not in order."""
        return itertools.chain.from_iterable(self.batches(samples, skip))

    def batches(
        self, samples: Samples | Sequence[SpatialSample], skip: Collection[str] = ()
    ) -> Iterator[list[Answered]]:
        """`answer`, some at a time: what of a batch, or of what is ready, is not in ``skip``."""
        data: Samples = Listed(samples) if isinstance(samples, Sequence) else samples
        other = Permuted(data, self.seed).sample if self.mode.name == "wrong_imagination" else None
        plan = self.plan or make_plan(self.mode, self.checkpoint.recipe, self.renderer, other)
        done = set(skip)
        names = data.column("id") if done else ()
        size = WINDOW * self.batch_size
        for first in range(0, len(data), size):
            rows = range(first, min(first + size, len(data)))
            if done and all(names[row] in done for row in rows):
                continue
            window = [self._ask(plan, data, row) for row in rows]
            good = sorted((each for each in window if isinstance(each, Asked)), key=lambda asked: asked.tokens)
            for each in window:
                if isinstance(each, Answered) and each.prediction.sample_id not in done:
                    yield [each]
            for answers in self._one_by_one(plan, good) if self._is_words(plan) else self._by_batch(plan, good, done):
                if fresh := [answered for answered in answers if answered.prediction.sample_id not in done]:
                    yield fresh

    def _is_words(self, plan: Plan) -> bool:
        """Whether rows can come and go by themselves: nothing but words is made for an answer."""
        written = self.mode.answer == "text" and self.at_once is None
        return self.continuous and written and isinstance(plan, Imagine) and plan.mode.end is not None

    def _by_batch(self, plan: Plan, asked: Sequence[Asked], done: Collection[str] = ()) -> Iterator[list[Answered]]:
        for start in range(0, len(asked), self.batch_size):
            batch = asked[start : start + self.batch_size]
            if any(each.sample.id not in done for each in batch):
                yield self._answer_batch(plan, batch)

    def _one_by_one(self, plan: Plan, asked: Sequence[Asked]) -> Iterator[list[Answered]]:
        """Where memory runs out, the questions that are left are answered in batches, which are halved."""
        assert isinstance(plan, Imagine)
        seed, left = derived_seed(self.seed, "inference"), {id(each.sample): each for each in asked}
        answers = TextAnswers(
            *(self.session, plan.mode, plan.n, self.mode, seed, self.batch_size * plan.n, self._about, self.failures)
        )
        self.session.deadline = Deadline()
        try:
            for outcomes in answers.run([Question(each.sample, each.prompt) for each in asked]):
                for question, _ in outcomes:
                    del left[id(question.sample)]
                yield [self._measured(answered, plan.mode, question.seconds) for question, answered in outcomes]
        except self.failures:
            yield from self._by_batch(plan, list(left.values()))

    def _ask(self, plan: Plan, data: Samples, row: int) -> Asked | Answered:
        try:
            sample = data[row]
        except self.failures as error:
            return Answered(self._unread(data, row, error))
        try:
            prompt = (self.at_once or plan).mode.prompt(sample)
        except self.failures as error:
            return Answered(self._about(sample).failed(error))
        return Asked(sample, prompt, num_tokens(prompt, self.session.geometry))

    def _answer_batch(self, plan: Plan, batch: Sequence[Asked]) -> list[Answered]:
        try:
            return self._answers(plan, batch) if self.at_once is None else self._selective(self.at_once, plan, batch)
        except self.failures as error:
            if len(batch) == 1:
                return [Answered(self._about(batch[0].sample).failed(error))]
        half = len(batch) // 2
        return [*self._answer_batch(plan, batch[:half]), *self._answer_batch(plan, batch[half:])]

    def _selective(self, at_once: Plan, plan: Plan, batch: Sequence[Asked]) -> list[Answered]:
        """Answers at once, and with an imagination where these are unsure."""
        answers = self._answers(at_once, batch)
        unsure = [i for i, answered in enumerate(answers) if confidence(answered.prediction) < self.mode.threshold]
        again = [batch[i]._replace(prompt=plan.mode.prompt(batch[i].sample)) for i in unsure]
        for i, answered in zip(unsure, self._answers(plan, again) if again else (), strict=True):
            seconds = answers[i].prediction.seconds + answered.prediction.seconds
            answers[i] = answered._replace(prediction=replace(answered.prediction, seconds=seconds))
        return answers

    def _answers(self, plan: Plan, batch: Sequence[Asked]) -> list[Answered]:
        started, samples = time.perf_counter(), [asked.sample for asked in batch]
        self.session.deadline = Deadline(self.mode.max_seconds)
        seed = derived_seed(self.seed, "inference")
        names, tasks = [(sample.id,) for sample in samples], [sample.task for sample in samples]
        prompted = SessionContext.start(self.session, names, tasks).append([asked.prompt for asked in batch])
        imagined = plan(prompted, samples, seed)
        n = len(imagined.context) // len(samples)
        repeated = [sample for sample in samples for _ in range(n)]
        rows = read_answers(imagined, [self._about(sample) for sample in repeated], repeated, self.mode, seed)
        answers = [combined(rows[i : i + n], self.mode.combine, plan.draws) for i in range(0, len(rows), n)]
        seconds = (time.perf_counter() - started) / len(samples)
        return [self._measured(answered, plan.mode, seconds) for answered in answers]

    def _measured(self, answered: Answered, mode: Imagination, seconds: float) -> Answered:
        """With what the answer took."""
        width, height = self.renderer.imagination_size(answered.prediction.task)
        geometry = self.session.geometry
        stride = geometry.latent_stride if mode.settings.codebook is None else geometry.code_stride
        image_tokens = len(answered.images) * width * height // stride**2
        return answered._replace(prediction=replace(answered.prediction, image_tokens=image_tokens, seconds=seconds))

    def _about(self, sample: SpatialSample) -> Prediction:
        return about(sample, self.mode.name, self.seed)

    def _unread(self, data: Samples, row: int, error: Exception) -> Prediction:
        try:
            name = str(data.column("id")[row])
        except self.failures:
            name = f"row {row}"
        return unread(name, self.mode.name, error, self.seed)


def make_session(checkpoint: Checkpoint, text: TextSettings, draw: DrawSettings) -> Session:
    """A session that writes and draws as asked, and as the checkpoint's recipe says where that leaves it open."""
    sampling = (checkpoint.recipe.sampling or Sampling()).but(text, draw)
    guidance, times = make_guidance(draw, checkpoint.recipe), schedule(sampling.timesteps, draw.shift)
    return Session(
        checkpoint.model,
        checkpoint.codec,
        checkpoint.tokenizer,
        sampling,
        guidance,
        times,
        checkpoint.codes,
        draw.branches == "together",
        draw.skip,
        checkpoint.graphs,
    )


def make_guidance(draw: DrawSettings, recipe: Recipe) -> Guidance | None:
    """The guidance of a mode for a model that was trained by ``recipe``; None where there is none."""
    dropout, sampling = recipe.sequence.dropout, (recipe.sampling or Sampling()).but(draw)
    text, image = sampling.text_scale, sampling.image_scale
    if text is None:
        text = PAPER_TEXT_SCALE if dropout.text else 1.0
    if image is None:
        image = PAPER_IMAGE_SCALE if dropout.observation else 1.0
    if draw.image_scale is None and text <= 1:
        image = 1.0
    guidance = Guidance(text, image, draw.start, draw.end, draw.renorm, draw.renorm_min)  # type: ignore[arg-type]
    return guidance if guidance.uses_text else None
