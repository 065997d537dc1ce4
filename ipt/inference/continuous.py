"""Answers that are words alone, continuously: a row that has said its answer makes room for the next question at once.

So no row waits for the slowest of a batch. What is computed for a question is what a batch would compute: its prompt, the words
before its answer, the probabilities of its options where these are asked for, its answer.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from ipt.imagination.base import Imagination, Imagined
from ipt.inference.answering import Answered, assembled, combined, scored
from ipt.inference.context import Row, SessionContext
from ipt.inference.plans import STOP
from ipt.inference.prediction import Prediction
from ipt.inference.session import Deadline, OpenText, Session
from ipt.inference.settings import ModeSettings
from ipt.inference.writing import Line, write
from ipt.samples.sample import SpatialSample
from ipt.sequence.segments import Segment
from ipt.sequence.spans import Role


@dataclass(eq=False)
class Track:
    """One row of a question: the ``line`` that it writes, and ``ready``: the row when its answer was to come, which its options
    are scored in. ``over``: the model ended its text before the answer, and so has said all it had to say."""

    row: Row
    line: Line
    before: int = 0
    ready: SessionContext | None = None
    thought: str = ""
    over: bool = False


@dataclass(eq=False)
class Question:
    """A question with its rendered prompt, when it has to be answered, its rows, and the seconds that were spent on it."""

    sample: SpatialSample
    prompt: Sequence[Segment]
    deadline: Deadline = field(default_factory=Deadline)
    tracks: list[Track] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def going(self) -> bool:
        return any(track.line.going for track in self.tracks)


Outcome = tuple[Question, Answered]


class TextAnswers:
    """Answers of a ``mode`` whose mediators are words, ``width`` rows at a time, ``n`` for each question. ``about``: what a
    prediction repeats of a sample. ``failures``: what becomes the answer of the one question that raised it."""

    def __init__(
        self,
        session: Session,
        mode: Imagination,
        n: int,
        settings: ModeSettings,
        seed: int,
        width: int,
        about: Callable[[SpatialSample], Prediction],
        failures: tuple[type[Exception], ...],
    ) -> None:
        self.session, self.mode, self.n, self.settings, self.seed = session, mode, n, settings, seed
        self.width, self.about, self.failures = width, about, failures

    def run(self, questions: Sequence[Question]) -> Iterator[list[Outcome]]:
        """Every question with its answer, some at a time, in the order in which they end; what fails is an answer, too, but for
        memory that ran out while rows of several questions were written."""
        waiting, open_, ended = deque(questions), list[Question](), list[Question]()
        while waiting or open_:
            started = time.perf_counter()
            room = (self.width - sum(len(question.tracks) for question in open_)) // self.n
            if waiting and (room > 0 or not open_):
                taken = [waiting.popleft() for _ in range(min(max(room, 1), len(waiting)))]
                failed = list(self._admit(taken))
                if failed:
                    yield failed
                open_ += [question for question in taken if question.tracks]
            if late := list(self._late(open_)):
                yield late
                open_ = [question for question in open_ if all(question is not other for other, _ in late)]
            if lines := [track.line for question in open_ for track in question.tracks if track.line.going]:
                write(self.session, lines, Role.ANSWER, frozenset())
            for question in open_:
                for track in question.tracks:
                    self._advance(track)
                question.seconds += (time.perf_counter() - started) / len(open_)
            ended += [question for question in open_ if not question.going]
            open_ = [question for question in open_ if question.going]
            if ended and (len(ended) * self.n * 4 >= self.width or not (waiting or open_)):
                yield self._finish(ended)
                ended = []
        if ended:
            yield self._finish(ended)

    def _admit(self, taken: Sequence[Question]) -> Iterator[Outcome]:
        """Give each its rows; those that cannot be asked, with the reason."""
        try:
            names, tasks = [(each.sample.id,) for each in taken], [each.sample.task for each in taken]
            asked = SessionContext.start(self.session, names, tasks).append([each.prompt for each in taken])
        except self.failures as error:
            if len(taken) == 1:
                yield taken[0], Answered(self.about(taken[0].sample).failed(error))
                return
            half = len(taken) // 2
            yield from self._admit(taken[:half])
            yield from self._admit(taken[half:])
            return
        rows = asked.repeat(self.n)
        for number, question in enumerate(taken):
            question.deadline = Deadline(self.settings.max_seconds)
            for i in range(number * self.n, (number + 1) * self.n):
                question.tracks.append(self._track(rows[[i]]))

    def _track(self, row: SessionContext) -> Track:
        track = Track(row.rows[0], self._line(row, self.mode.end or STOP))
        if not self.mode.end:
            track.ready = row
        return track

    def _line(self, context: SessionContext, until: str) -> Line:
        (row,) = context.rows
        text = row.text or OpenText(Role.ANSWER, frozenset(), (self.session.special.bos,))
        return Line.begin(self.session, row.name, text, context.cached, until, self.seed)

    def _advance(self, track: Track) -> None:
        """Where the words before the answer have been said, the answer is next."""
        if track.line.going or track.ready is not None:
            return
        track.thought, track.row = track.line.said(self.session), track.row.wrote(track.line.text, track.before)
        track.ready = SessionContext(self.session, (track.row,), track.line.cached)
        track.over = track.line.text.ended and bool(track.thought)
        if not track.over:
            (track.row,) = track.ready.settled.rows
            track.line = self._line(track.ready.settled, STOP)
            track.before = len(track.line.text.ids)

    def _late(self, questions: Sequence[Question]) -> Iterator[Outcome]:
        for question in questions:
            try:
                question.deadline.check()
            except self.failures as error:
                yield question, Answered(self.about(question.sample).failed(error))

    def _finish(self, questions: Sequence[Question]) -> list[Outcome]:
        started, tracks = time.perf_counter(), [track for question in questions for track in question.tracks]
        samples = [question.sample for question in questions for _ in question.tracks]
        ready = [track.ready for track in tracks if track.ready is not None]
        rows = tuple(row for context in ready for row in context.rows)
        cached = sum((context.cached for context in ready[1:]), ready[0].cached)
        imagined = Imagined.of(SessionContext(self.session, rows, cached), [track.thought for track in tracks])
        chances = scored(imagined, samples, self.settings)
        written, texts = [], []
        for track in tracks:
            written.append(track.row if track.over else track.row.wrote(track.line.text, track.before))
            texts.append(track.thought if track.over else track.line.said(self.session))
        about = [self.about(sample) for sample in samples]
        answers = assembled(imagined, written, texts, chances, about, samples, self.settings)
        seconds = (time.perf_counter() - started) / len(questions)
        outcomes = []
        for number, question in enumerate(questions):
            question.seconds += seconds
            own = answers[number * self.n : (number + 1) * self.n]
            outcomes.append((question, combined(own, self.settings.combine, True)))
        return outcomes
