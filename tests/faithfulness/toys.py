"""Subjects whose answers are known functions of inputs and mediator, and a world that they can see: a bright block on a side.

The inputs show where the block is and a colour. What a toy imagines has the block on the right side with probability `SKILL`,
and on a random one where the inputs are blank.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ipt.common.images import RGB, encode_image
from ipt.common.seeding import generator
from ipt.faithfulness.runs import Experiment
from ipt.faithfulness.settings import FaithfulnessConfig
from ipt.imagination.base import Mediator
from ipt.inference.answering import Answered
from ipt.inference.prediction import Prediction, RunManifest, about, image_name
from ipt.samples.prompts import think
from ipt.samples.sample import Provenance, SampleImage, SpatialSample
from ipt.samples.views import Listed

SKILL, GUESS, SIDE, PER_SCENE = 0.8, 0.65, 16, 4
SIDES, COLOURS = ("Left", "Right"), ((200, 40, 40), (40, 40, 200))


def picture(side: int, colour: int = 0) -> RGB:
    pixels = np.full((SIDE, SIDE, 3), 70, np.uint8)
    pixels[5:11, 2 + 8 * side : 6 + 8 * side] = 230
    pixels[:3] = COLOURS[colour]
    return pixels


def sample(number: int, options: Sequence[str] = SIDES, paired: bool = False) -> SpatialSample:
    """Its side and, for four options, its colour are the answer; four samples share a scene. ``paired``: with inputs that differ
    in the side, and in the colour."""
    rng = generator(5, "toy", number)
    side, colour = int(rng.integers(2)), int(rng.integers(2))
    answer = side if len(options) == 2 else 2 * side + colour
    true = SampleImage(encode_image(picture(side)), "view")
    return SpatialSample(
        id=f"toy/{number}", task="pet", split="test", question="Where is it?", question_type="side", choices=tuple(options),
        answer="ABCD"[answer], images=(SampleImage(encode_image(picture(side, colour)), "observation"),), imagination=true,
        rationale=f"it is {SIDES[side].lower()}", caption="c",
        provenance=Provenance("toy", "1", f"scene-{number // PER_SCENE}", 0), facts={"side": side},
        counterfactuals=tuple(SampleImage(encode_image(pixels), role) for role, pixels in (
            ("mirrored", picture(1 - side)),
            *((("remove/observation", picture(1 - side, colour)), ("other/observation", picture(side, 1 - colour))) * paired),
        )),
    )  # fmt: skip


Answer = Callable[[SpatialSample, Mediator, np.random.Generator], int]


def seen_side(pixels: RGB) -> int | None:
    """The brighter half of a picture; None where both are alike."""
    left, right = pixels[4:, :8].astype(float).mean(), pixels[4:, 8:].astype(float).mean()
    return None if abs(left - right) < 1 else int(right > left)


def is_blank(sample: SpatialSample) -> bool:
    return bool(np.ptp(sample.images[0].pixels()) == 0)


def guess(sample: SpatialSample) -> int:
    """An answer from the inputs alone: right with probability `GUESS`, which is the same whenever it is asked again."""
    rng = generator(1, "guess", sample.id)
    wrong = (sample.answer_index + 1) % len(sample.choices)
    return sample.answer_index if rng.random() < GUESS and not is_blank(sample) else wrong


def reads_picture(sample: SpatialSample, mediator: Mediator, rng: np.random.Generator) -> int:
    """(a) The side that the picture shows, and nothing else."""
    side = None if mediator.image is None else seen_side(mediator.image.pixels())
    return int(rng.integers(2)) if side is None else side


def ignores(sample: SpatialSample, mediator: Mediator, rng: np.random.Generator) -> int:
    """(b) The inputs."""
    return guess(sample)


def reads_half(sample: SpatialSample, mediator: Mediator, rng: np.random.Generator) -> int:
    """(c) The side from the picture, the colour from the inputs."""
    row = sample.images[0].pixels()[0, 0]
    colour = int(rng.integers(2)) if is_blank(sample) else int(row[2] > row[0])
    return 2 * reads_picture(sample, mediator, rng) + colour


def obeys(sample: SpatialSample, mediator: Mediator, rng: np.random.Generator) -> int:
    """(d) The last word of the text."""
    words = mediator.text.removesuffix("</think>").removeprefix("<think>").lower().split()
    options = [choice.lower() for choice in sample.choices]
    return options.index(words[-1]) if words and words[-1] in options else int(rng.integers(2))


def latents(side: int, noise: np.random.Generator) -> NDArray[np.float32]:
    """Four slots of three numbers: the first slot says by its sign which side it is, the others say nothing."""
    made = noise.normal(0, 0.1, (4, 3))
    made[0] += 2.0 * side - 1
    return made.astype(np.float32)


def reads_latents(sample: SpatialSample, mediator: Mediator, rng: np.random.Generator) -> int:
    """(a) The side that the first slot says, where it says one."""
    value = 0.0 if mediator.numbers is None else float(mediator.numbers[0].mean())
    return int(rng.integers(2)) if value == 0 else int(value > 0)


CODES = 8


def coded(side: int) -> NDArray[np.int64]:
    """4 x 4 codes: 7 on the side, else 1."""
    made = np.ones((4, 4), np.int64)
    made[1:3, 3 * side] = 7
    return made


def reads_codes(sample: SpatialSample, mediator: Mediator, rng: np.random.Generator) -> int:
    """(a) The side that has more of code 7."""
    sevens = np.zeros(2) if mediator.numbers is None else (mediator.numbers == 7).reshape(4, 2, 2).sum((0, 2))
    return int(rng.integers(2)) if sevens[0] == sevens[1] else int(sevens[1] > sevens[0])


class Toy:
    """A `ipt.faithfulness.subject.Subject` that answers by a rule. ``asked`` counts its answers."""

    def __init__(self, kind: str, answer: Answer) -> None:
        self.kind, self.answer, self.asked = kind, answer, 0

    def _prediction(self, sample: SpatialSample, mode: str, option: int, seed: int) -> Prediction:
        self.asked += 1
        other = 0.1 / (len(sample.choices) - 1)
        shares = tuple(0.9 if place == option else other for place in range(len(sample.choices)))
        return replace(about(sample, mode, seed), answer=option, probabilities=shares, text="x")

    def imagine(self, sample: SpatialSample, seed: int) -> Mediator:
        rng = generator(seed, "imagine", sample.id)
        side = seen_side(sample.images[0].pixels())
        shown = int(rng.integers(2)) if side is None or is_blank(sample) else side if rng.random() < SKILL else 1 - side
        return self.mediator(shown, rng)

    def mediator(self, side: int, rng: np.random.Generator) -> Mediator:
        if self.kind == "text":
            return Mediator(think(f"the block is {SIDES[side].lower()}"))
        if self.kind == "latent":
            return Mediator("<latent_start>", numbers=latents(side, rng))
        if self.kind == "code":
            return Mediator("<image_start>", numbers=coded(side))
        return Mediator("<think>look</think><image_start>", SampleImage(encode_image(picture(side)), "imagination"))

    def at_once(self, samples: Sequence[SpatialSample], seed: int) -> list[Answered]:
        return [Answered(self._prediction(s, "answer_only", guess(s), seed)) for s in samples]

    def imagined(self, samples: Sequence[SpatialSample], seed: int) -> list[Answered]:
        answers = []
        for each in samples:
            made = self.imagine(each, seed)
            (answer,) = self.placed([each], {each.id: made}, seed)
            images = () if made.image is None else (made.image,)
            names = (image_name(each.id),) * len(images)
            numbers = () if made.numbers is None else (made.numbers,)
            prediction = replace(answer.prediction, thoughts=(made.text,), images=names)
            answers.append(Answered(prediction, images, numbers))
        return answers

    def placed(self, samples: Sequence[SpatialSample], mediators: Mapping[str, Mediator], seed: int) -> list[Answered]:
        answers = []
        for each in samples:
            rng = generator(seed, "answer", each.id)
            answers.append(
                Answered(self._prediction(each, "imagination", self.answer(each, mediators[each.id], rng), seed))
            )
        return answers

    def mediator_of(
        self, texts: Sequence[str], images: Sequence[SampleImage], numbers: Sequence[NDArray[Any]]
    ) -> Mediator | None:
        return Mediator(texts[0], next(iter(images), None), next(iter(numbers), None)) if texts else None

    def true_mediator(self, sample: SpatialSample) -> Mediator:
        shown = sample.facts["side"] if self.kind == "text" else seen_side(sample.imagination.pixels())
        return self.mediator(int(shown or 0), generator(2, "truth", sample.id))

    def picture(self, mediator: Mediator) -> SampleImage | None:
        if self.kind == "code" and mediator.numbers is not None:
            pixels = np.repeat(mediator.numbers[..., None].astype(np.uint8) * 30, 3, axis=-1)
            return SampleImage(encode_image(pixels), "imagination")
        return mediator.image

    codes = CODES

    def round_trip(self, image: SampleImage) -> SampleImage:
        return image

    def hidden(self, samples: Sequence[SpatialSample], mediators: Mapping[str, Mediator]) -> Mapping[str, Any] | None:
        """Of two layers: the inputs hold nothing of the side, the imagination what it shows, the answer the truth."""
        if self.kind != "picture":
            return None
        rng = generator(0, "hidden", samples[0].id)
        shown = [seen_side(mediators[s.id].image.pixels()) for s in samples]  # type: ignore[union-attr]
        signal = {"observation": [0] * len(samples), "imagination": shown, "answer": [s.facts["side"] for s in samples]}
        states = {
            role: rng.normal(0, 0.1, (len(samples), 2, 3)) + np.array(values)[:, None, None]
            for role, values in signal.items()
        }
        return {**states, "layers": np.array([1, 4])}


def experiment(folder: Path, toy: Toy, samples: Sequence[SpatialSample], config: FaithfulnessConfig) -> Experiment:
    base = RunManifest("toy", "", "world", "", "", {}, 0)
    return Experiment(folder / "toy", toy.kind, Listed(samples), lambda: toy, config, base)


FACTS = {"kind": "from_left", "template": "plain_pet_position-00", "arrow": False, "turn": "right", "object": {"name": "cone"},
         "position_after": [0.2, 0.8], "distance_before_m": 3.5, "distance_after_m": 1.6}  # fmt: skip


def effects(figures: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {each["arm"]: each for each in figures["effects"]}
