"""What a choice of the model is worth: one table of rewards by name, which a file of one's own extends.

    from ipt.reinforcement.rewards import Outcome, reward

    @reward("short")
    def short(outcome: Outcome) -> float:
        return float(len(outcome.text) < 200)

``grpo.files=[my_rewards.py]`` reads the file, ``grpo.rewards={correct: 0.9, short: 0.1}`` uses it. The reward of a choice is the
weighted sum. Without torch, since settings are checked by this table.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ipt.common.errors import UserError
from ipt.common.registry import Registry
from ipt.samples.answers import parse_answer
from ipt.samples.prompts import ANSWER, ANSWER_END
from ipt.samples.sample import SampleImage, SpatialSample

STAGES = ("readout", "imagination")


@dataclass(frozen=True)
class Outcome:
    """What a reward looks at: the ``sample``, and of the model the ``text`` that its answer is read from (of a weighed option
    what would be written), or the ``image`` that it drew, and the probability of the right option to the frozen ``reader``
    that sees it."""

    sample: SpatialSample
    text: str = ""
    image: SampleImage | None = None
    reader: float | None = None


@dataclass(frozen=True)
class Reward:
    """``worth``: what an outcome is worth, best in [0, 1]. ``stages`` that it is for."""

    worth: Callable[[Outcome], float]
    stages: tuple[str, ...]


REWARDS: Registry[Reward] = Registry("reward")


def reward(name: str, *stages: str) -> Callable[[Callable[[Outcome], float]], Callable[[Outcome], float]]:
    """File a function of an `Outcome` as the reward ``name``, for these stages (default: all)."""

    def add(worth: Callable[[Outcome], float]) -> Callable[[Outcome], float]:
        REWARDS.register(name)(Reward(worth, stages or STAGES))
        return worth

    return add


@reward("correct", "readout")
def correct(outcome: Outcome) -> float:
    """1 for the right option."""
    return float(parse_answer(outcome.text, outcome.sample.choices) == outcome.sample.answer_index)


@reward("format", "readout")
def well_formed(outcome: Outcome) -> float:
    """1 for a text with one answer between its tags, which names an option by its letter, and nothing after it. The end tag may
    lack its last character, where the model is stopped."""
    _, opened, rest = outcome.text.partition(ANSWER)
    letter, closed, after = rest.partition(ANSWER_END[:-1])
    named = letter.strip() in tuple(outcome.sample.letters)
    return float(bool(opened and closed) and named and after in ("", ANSWER_END[-1]))


@reward("reader", "imagination")
def read_rightly(outcome: Outcome) -> float:
    """The probability of the right option to the frozen reader."""
    if outcome.reader is None:
        raise UserError(
            f"sample '{outcome.sample.id}': the reward 'reader' is for pictures, which this run does not draw"
        )
    return outcome.reader


@reward("similarity", "imagination")
def similarity(outcome: Outcome) -> float:
    """How alike the picture and the true view are: half of one plus the correlation of their pixels, channel by channel at the
    size of the picture. A picture of one colour gets 0.5, whichever colour it is, and so has nothing to gain."""
    if outcome.image is None:
        raise UserError(
            f"sample '{outcome.sample.id}': the reward 'similarity' is for pictures, which this run does not draw"
        )
    drawn = outcome.image.pixels().astype(np.float64)
    true = _resized(outcome.sample.imagination, drawn.shape[1], drawn.shape[0])
    drawn, true = (each - each.mean((0, 1)) for each in (drawn, true))
    norm = float(np.linalg.norm(drawn) * np.linalg.norm(true))
    return 0.5 + 0.5 * float((drawn * true).sum()) / norm if norm > 1e-6 else 0.5


def _resized(image: SampleImage, width: int, height: int) -> np.ndarray:
    picture = Image.fromarray(image.pixels())
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(picture, dtype=np.float64)


def worths(outcome: Outcome, names: Iterable[str]) -> dict[str, float]:
    """The rewards of an outcome by name. ``UserError`` for one that is not a finite number."""
    found = {name: float(REWARDS[name].worth(outcome)) for name in names}
    for name, value in found.items():
        if not math.isfinite(value):
            raise UserError(
                f"the reward '{name}' of sample '{outcome.sample.id}' is {value}; it must be a finite number"
            )
    return found


_LOADED: set[Path] = set()


def load_rewards(files: Sequence[str]) -> None:
    """Run Python files that register rewards, each once. ``UserError`` names a file that is not there or that fails."""
    for name in files:
        path = Path(name).resolve()
        if path in _LOADED:
            continue
        if not path.is_file():
            raise UserError(f"grpo.files: {name} is no file")
        spec = importlib.util.spec_from_file_location(f"rewards_of_{path.stem}", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            raise UserError(f"grpo.files: {name} cannot be read: {type(error).__name__}: {error}") from error
        _LOADED.add(path)
