"""One thread that works, and everybody else who waits: what was asked meanwhile is answered together.

The thread takes all jobs that wait, up to a batch, and answers those of equal plans in one go by the engine of ``infer.py``. An
answer does not depend on which others it was answered with, but for its last digits.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import lru_cache

from ipt.common.errors import UserError
from ipt.inference.answering import Answered
from ipt.inference.checkpoint import Checkpoint
from ipt.inference.drawing import draw_pictures
from ipt.inference.engine import Engine
from ipt.inference.prediction import Prediction
from ipt.inference.settings import ModeSettings
from ipt.samples.sample import SampleImage
from ipt.serve.requests import Job, Refused


@dataclass(frozen=True)
class Done:
    """A job's outcome: what the model drew, and its answer where one was asked for; ``prompt_tokens``: of the question."""

    images: tuple[SampleImage, ...]
    prediction: Prediction | None
    prompt_tokens: int


Waiting = tuple[Job, "Future[Done]"]


class Batcher:
    """Answers jobs in the order in which they came, at most ``batch_size`` at a time. ``settings``: of every mode but its name
    and text. More than ``max_waiting`` jobs are refused."""

    def __init__(self, checkpoint: Checkpoint, settings: ModeSettings, batch_size: int, max_waiting: int) -> None:
        self.checkpoint, self.settings, self.batch_size = checkpoint, settings, batch_size
        self.batches = 0
        self._jobs: queue.Queue[Waiting | None] = queue.Queue(max_waiting)
        self._engine = lru_cache(16)(self._made)
        self._thread = threading.Thread(target=self._work, name="answers", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> Future[Done]:
        """The outcome to come. `Refused` where too many wait already. A future that is cancelled is not worked on."""
        future: Future[Done] = Future()
        try:
            self._jobs.put_nowait((job, future))
        except queue.Full:
            raise Refused("too many requests wait already; try again later", None, 503, "server_error") from None
        return future

    def close(self) -> None:
        """Finish what waits, and end."""
        self._jobs.put(None)
        self._thread.join()

    def engine(self, job: Job) -> Engine:
        """What answers a job. `Refused` where the model was not trained for its mode."""
        try:
            return self._engine(*job.plan)
        except UserError as error:
            raise Refused(str(error), "mode") from error

    def _made(self, *plan: object) -> Engine:
        mode, text, seed = plan
        settings = replace(self.settings, name=mode, text=text)  # type: ignore[arg-type]
        return Engine(self.checkpoint, settings, seed, self.batch_size)  # type: ignore[arg-type]

    def _work(self) -> None:
        open_ = True
        while open_:
            taken = [self._jobs.get()]
            while len(taken) < self.batch_size and not self._jobs.empty():
                taken.append(self._jobs.get())
            waiting = [each for each in taken if each is not None and each[1].set_running_or_notify_cancel()]
            open_ = None not in taken
            for plan in dict.fromkeys(job.plan for job, _ in waiting):
                self._answer([(job, future) for job, future in waiting if job.plan == plan])

    def _answer(self, same: Sequence[Waiting]) -> None:
        """Answer jobs of one plan; equal questions once."""
        self.batches += 1
        try:
            jobs = {job.sample.id: job for job, _ in same}
            found = (
                self._drawn(list(jobs.values())) if same[0][0].mode == "draw" else self._answered(list(jobs.values()))
            )
            for job, future in same:
                future.set_result(found[job.sample.id])
        except BaseException as error:  # raised where somebody waits for it
            for _, future in same:
                if not future.done():
                    future.set_exception(error)

    def _answered(self, jobs: Sequence[Job]) -> dict[str, Done]:
        engine = self.engine(jobs[0])
        tokens = {job.sample.id: engine.prompt_tokens(job.sample) for job in jobs}

        def done(made: Answered) -> Done:
            return Done(made.images, made.prediction, tokens[made.prediction.sample_id])

        return {made.prediction.sample_id: done(made) for made in engine.answer([job.sample for job in jobs])}

    def _drawn(self, jobs: Sequence[Job]) -> dict[str, Done]:
        samples = [job.sample for job in jobs]
        made = draw_pictures(self.checkpoint, samples, self.settings.draw, jobs[0].seed, self.batch_size)
        return {sample.id: Done((image,), None, 0) for sample, image in made}
