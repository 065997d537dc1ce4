"""What the page asks of a model: pictures as they are drawn, and answers without, with its own, the true, a wrong or a changed
imagination. All of it by the engine of ``infer.py`` and the interventions of `ipt.faithfulness`."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from ipt.common.errors import UserError
from ipt.common.images import encode_image
from ipt.faithfulness.interventions import Case, changed, parse_arm, stream
from ipt.faithfulness.subject import ModelSubject
from ipt.imagination.base import Mediator
from ipt.imagination.recipe import Sampling
from ipt.inference.answering import Answered
from ipt.inference.checkpoint import Checkpoint
from ipt.inference.drawing import draw_pictures, only_drawn
from ipt.inference.engine import Engine
from ipt.inference.prediction import Prediction
from ipt.inference.settings import DrawSettings, ModeSettings
from ipt.samples.sample import TASKS, SampleImage, SpatialSample
from ipt.sequence.pictures import to_image

#: Ways to answer, in the page's order: the mode of inference and what it is called there.
WAYS: Mapping[str, str] = {
    "answer_only": "without a picture",
    "imagination": "with its own picture",
    "gt_imagination": "with the true picture",
    "wrong_imagination": "with another scene's true picture",
}
EDITED = "with the picture as you changed it"
#: Changes of a picture by a button, by the name of their intervention.
CHANGES: Mapping[str, str] = {"mirror": "Mirror it", "noise": "Turn it into noise", "blur:2": "Blur it"}


@dataclass(frozen=True)
class Drawn:
    """A picture at one moment of its drawing: after ``step`` of ``steps``, finished or not."""

    picture: bytes
    step: int
    steps: int


@dataclass(frozen=True)
class Imagined:
    """A finished imagination: its picture, what was said before it, and (where a question was asked) the answer from it."""

    picture: bytes
    thoughts: tuple[str, ...]
    prediction: Prediction | None


class Player:
    """A checkpoint that is played with; it draws as ``draw`` says. Not for several threads at a time."""

    def __init__(self, checkpoint: Checkpoint, draw: DrawSettings) -> None:
        self.checkpoint, self.draw = checkpoint, draw
        self.mode = ModeSettings("imagination", answer="options", draw=draw)
        self.subject = ModelSubject(checkpoint, self.mode, 1)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks whose picture sizes the model knows."""
        return tuple(task for task in TASKS if task in self.checkpoint.recipe.sequence.resolutions)

    @property
    def was_asked(self) -> bool:
        """Whether the model was trained to answer."""
        return bool(self.checkpoint.recipe.imagination.answering)

    @property
    def answers_from_pictures(self) -> bool:
        """Whether the model was trained to answer from a picture that it draws."""
        recipe = self.checkpoint.recipe.imagination
        return self.was_asked and bool(recipe.drawing) and self.subject.kind == "picture"

    @property
    def side(self) -> int:
        """Pixels of the pictures that it is shown."""
        return max(each.vit_side for each in self.checkpoint.recipe.sequence.resolutions.values())

    def imagine(self, sample: SpatialSample, seed: int) -> Iterator[Drawn | Imagined]:
        """The picture after each step of its drawing, and then the finished one, with the answer if ``sample`` is a question and
        the model was trained to answer from a picture. ``UserError`` where it cannot be drawn."""
        if sample.choices and self.answers_from_pictures:
            engine = Engine(self.checkpoint, self.mode, seed, 1)

            def answered(watch: Watch) -> Imagined:
                engine.session.watch = watch
                (made,) = engine.answer([sample])
                return own(made)

            yield from watched(answered, len(engine.session.times) - 1)
            return

        def drawn(watch: Watch) -> Imagined:
            ((_, image),) = draw_pictures(self.checkpoint, [only_drawn(sample)], self.draw, seed, 1, watch)
            return Imagined(image.data, (), None)

        sampling = (self.checkpoint.recipe.sampling or Sampling()).but(self.draw)
        yield from watched(drawn, sampling.timesteps - 1)

    def answers(self, sample: SpatialSample, other: SpatialSample | None, seed: int) -> dict[str, Prediction]:
        """Answers by ways (`WAYS`) but the model's own: those that it was trained for, and that have what they need."""
        found = {"answer_only": self._answer("answer_only", [sample], seed)}
        if self.answers_from_pictures and sample.has_imagination:
            found["gt_imagination"] = self._answer("gt_imagination", [sample], seed)
            if other is not None and other.provenance.scene_id != sample.provenance.scene_id:
                there = replace(sample, id=other.id, imagination=other.imagination, provenance=other.provenance)
                pair = [sample, there]
                found["wrong_imagination"] = self._answer("wrong_imagination", pair, seed)
        return found

    def _answer(self, mode: str, samples: Sequence[SpatialSample], seed: int) -> Prediction:
        engine = Engine(self.checkpoint, replace(self.mode, name=mode), seed, len(samples))
        made = {each.prediction.sample_id: each.prediction for each in engine.answer(samples)}
        return checked(made[samples[0].id])

    def answer_from(self, sample: SpatialSample, thoughts: Sequence[str], picture: bytes, seed: int) -> Prediction:
        """The answer where ``picture`` stands in the place of what the model drew."""
        if not self.answers_from_pictures:
            raise UserError("this checkpoint was not trained to answer from pictures that it draws")
        image = self.subject.sized(SampleImage(picture, "imagination"), sample.task)
        said = thoughts[0] if thoughts else self.subject.true_mediator(sample).text
        (made,) = self.subject.placed([sample], {sample.id: Mediator(said, image)}, seed)
        return checked(made.prediction)

    def change(self, arm: str, sample: SpatialSample, picture: bytes, seed: int) -> bytes:
        """A picture after an intervention (`ipt.faithfulness.interventions`), ``mirror`` say."""
        parsed, mediator = parse_arm(arm, "picture"), Mediator("", SampleImage(picture, "imagination"))
        nobody: Any = None  # these changes take nothing from other questions
        made = changed(parsed, "picture", Case(sample, mediator, seed, False, nobody, stream(parsed, seed, sample.id)))
        assert made is not None and made.image is not None
        return made.image.data


Watch = Callable[[int, list[Tensor]], None]


def watched(work: Callable[[Watch], Imagined], steps: int) -> Iterator[Drawn | Imagined]:
    """What ``work`` draws, as it draws it in a thread of its own, and what it returns."""
    seen: queue.SimpleQueue[Drawn | Imagined | BaseException] = queue.SimpleQueue()

    def watch(step: int, pictures: list[Tensor]) -> None:
        seen.put(Drawn(encode_image(np.asarray(to_image(pictures[0]))), step + 1, steps))

    def run() -> None:
        try:
            seen.put(work(watch))
        except BaseException as error:  # raised where somebody waits for it
            seen.put(error)

    threading.Thread(target=run, daemon=True).start()
    while True:
        item = seen.get()
        if isinstance(item, BaseException):
            raise item
        yield item
        if isinstance(item, Imagined):
            return


def own(made: Answered) -> Imagined:
    """An answer with the picture that it is from. ``UserError`` where there is none."""
    prediction = checked(made.prediction)
    if not made.images:
        raise UserError("the model answered without drawing anything; try another seed")
    return Imagined(made.images[0].data, prediction.thoughts, prediction)


def checked(prediction: Prediction) -> Prediction:
    """The prediction of a question that was answered."""
    if prediction.error is not None:
        raise UserError(prediction.error)
    return prediction
