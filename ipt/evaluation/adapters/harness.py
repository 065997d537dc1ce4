"""What both adapters share: a multiple-choice question as a harness words it, put to a checkpoint."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ipt.common.errors import UserError
from ipt.common.settings import typed
from ipt.inference.checkpoint import Checkpoint, load_checkpoint
from ipt.inference.engine import Engine
from ipt.inference.own import own_question
from ipt.inference.settings import ModeSettings
from ipt.samples.answers import split_options
from ipt.samples.sample import SpatialSample

Content = Sequence[str | bytes]

LABEL = re.compile(r"^\s*question:\s*", re.IGNORECASE)
HEADING = re.compile(r"\s*\b(?:options|choices):\s*$", re.IGNORECASE)


class Harness:
    """Answers the questions of a harness, whose texts are taken apart and put in the prompt that the model was trained with.

    Decoding follows the mode's ``settings`` (`ipt.inference.settings.ModeSettings`), not what the harness proposes. ``task``:
    whose prompt is used; by default the first that the checkpoint was trained on.
    """

    def __init__(
        self,
        checkpoint: Path,
        mode: str = "answer_only",
        task: str | None = None,
        seed: int = 0,
        batch_size: int = 1,
        device: str | None = None,
        dtype: str = "float32",
        **settings: Any,
    ) -> None:
        self.batch_size, self._task = batch_size, task
        plan = typed(ModeSettings, {"name": mode, **settings}, "mode")
        chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._checkpoint: Checkpoint = load_checkpoint(checkpoint, device=chosen, dtype=dtype)
        self._engine = Engine(self._checkpoint, plan, seed, batch_size)

    def answer(self, questions: Sequence[Content]) -> list[str]:
        """The letter of the chosen option for each question; the model's own words where it chooses none.

        A question is a sequence of texts and encoded pictures. One that cannot be answered gives an empty text, and a line on
        stderr that says why; ``ValueError`` for one without options.
        """
        samples = [self.sample(content) for content in questions]
        answers = {}
        for prediction, *_ in self._engine.answer(samples):
            answers[prediction.sample_id] = prediction
            if prediction.error is not None:
                print(f"'{prediction.question:.80}' is not answered: {prediction.error}", file=sys.stderr)
        chosen = [(sample, answers[sample.id]) for sample in samples]
        return [found.text if found.answer is None else sample.letters[found.answer] for sample, found in chosen]

    def sample(self, content: Content) -> SpatialSample:
        """The question as a sample (`ipt.inference.own.own_question`)."""
        text, pictures = joined(content)
        question, choices = options_of(text)
        return own_question(self._checkpoint, pictures, question, choices, self._task)


def joined(content: Content) -> tuple[str, list[bytes]]:
    """All texts as one, and the pictures; a picture between texts is named there, as ``<image_2>``."""
    texts: list[str] = []
    pictures: list[bytes] = []
    for part in content:
        if isinstance(part, bytes):
            pictures.append(part)
            texts += [f"<image_{len(pictures)}>"] if texts else []
        elif part.strip():
            texts.append(part.strip())
    return "\n".join(texts), pictures


def options_of(text: str) -> tuple[str, tuple[str, ...]]:
    """Question and options of a harness's prompt, without its headings and instructions. ``ValueError`` where there are none."""
    question, choices = split_options(text)
    if not choices:
        raise UserError(f"a question without answer options, which these models are not trained for: {text[:200]!r}")
    return LABEL.sub("", HEADING.sub("", question)), tuple(choice.splitlines()[0].strip() for choice in choices)
