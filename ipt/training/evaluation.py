"""What is found out about the weights of a checkpoint: losses on a validation split, always the same packs with the same noise,
and questions answered, under the averaged weights where there are any. They decide which checkpoint is the best.

A model that is only trained to imagine may come to open an image whatever it is asked (arXiv 2606.03988: its
answer-only accuracy rises, then falls to 0). ``opened_image/answer_only`` is the share of answers that do so under the prompt
that asks for none, ``unparseable/...`` the share of outputs that choose no option; both should stay at 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from ipt.common.files import write_bytes, write_json
from ipt.common.images import encode_image
from ipt.inference.answering import Answered
from ipt.inference.checkpoint import Checkpoint
from ipt.inference.engine import Engine
from ipt.inference.prediction import read_run
from ipt.inference.run import answer_dataset
from ipt.inference.settings import InferConfig, ModeSettings
from ipt.model.unified import UnifiedModel
from ipt.samples.sample import SampleImage, SpatialSample
from ipt.sequence.batch import PackedBatch
from ipt.training.config import TrainConfig
from ipt.training.distributed import is_sharded, root_gathered
from ipt.training.losses import TERMS, token_counts

if TYPE_CHECKING:
    from ipt.training.trainer import Trainer


class Validation:
    """``packs``: this rank's validation packs, which its first use would find wanting too late. ``evaluate``: answers questions,
    and names the shares that it found."""

    def __init__(
        self, packs: Sequence[PackedBatch], evaluate: Callable[[Trainer], dict[str, float]] | None = None
    ) -> None:
        self.packs, self._evaluate = packs, evaluate

    def __call__(self, trainer: Trainer) -> dict[str, float]:
        """The losses, the total weighed as in training, and the shares. All ranks call this together; nothing of the training
        changes."""
        with trainer.playing(trainer.ema):
            losses = self._losses(trainer)
            shares = {} if self._evaluate is None else self._evaluate(trainer)
        return {"loss": trainer.config.loss.total(losses.values()), **losses, **shares}

    def _losses(self, trainer: Trainer) -> dict[str, float]:
        counts = trainer.world.sum(
            np.sum([token_counts(pack, trainer.config.loss) for pack in self.packs], axis=0).tolist()
        )
        sums = np.zeros(len(TERMS))
        for pack in self.packs:
            shares, _ = trainer.losses(pack, counts)
            sums += [share.item() for share in shares]
        return dict(zip(TERMS, trainer.world.sum(sums.tolist()), strict=True))


FOLDER, SUMMARY = "evaluation", "summary.json"
GRID_ROWS, GRID_SIDE, GRID_MARGIN, GRID_HEADER = 8, 96, 4, 16


class Tally(NamedTuple):
    """Counts of answers."""

    questions: int = 0
    right: int = 0
    unparseable: int = 0
    opened_image: int = 0

    def shares(self, mode: str) -> dict[str, float]:
        """Their shares, named by the mode."""
        names = {"accuracy": self.right, "unparseable": self.unparseable, "opened_image": self.opened_image}
        return {f"{name}/{mode}": count / max(self.questions, 1) for name, count in names.items()}


def tally(answers: Sequence[Answered]) -> Tally:
    """The counts of some answers; one that failed is neither right nor parseable."""
    made = [answered.prediction for answered in answers]
    opened, unparseable = sum(p.opened_image for p in made), sum(p.answer is None for p in made)
    return Tally(len(made), sum(p.correct for p in made), unparseable, opened)


class Evaluation:
    """Answers ``samples`` in each of ``modes`` with the model as it is; ``checkpoint`` adds to it what inference needs.

    ``batch_size``: questions at a time. Pictures of what it imagined go to ``evaluation/`` in the run's folder.
    """

    def __init__(
        self,
        checkpoint: Callable[[UnifiedModel], Checkpoint],
        samples: Sequence[SpatialSample],
        modes: Sequence[ModeSettings],
        batch_size: int,
    ) -> None:
        self.checkpoint, self.samples, self.modes, self.batch_size = checkpoint, samples, modes, batch_size

    def __call__(self, trainer: Trainer) -> dict[str, float]:
        """Accuracy, unparseable share and share of opened images by mode, of a model in evaluation mode. All ranks call this.

        Each rank answers its share; with divided weights, which no rank can use alone, all answer everything.
        """
        world, sharded = trainer.world, is_sharded(trainer.objective)
        own = self.samples if sharded else self.samples[world.rank :: world.size]
        found: dict[str, float] = {}
        checkpoint = self.checkpoint(trainer.model)
        for mode in self.modes:
            with root_gathered(trainer.objective):
                engine = Engine(checkpoint, mode, trainer.config.seed, self.batch_size, sharded)
                answers = list(engine.answer(list(own))) if own else []
            counts = tally(answers)
            found |= (counts if sharded else Tally(*map(int, world.sum(counts)))).shares(mode.name)
            if mode.name == "imagination" and world.is_main:
                self._draw(trainer.folder / FOLDER / f"step_{trainer.step:08d}.png", own, answers)
        return found

    @staticmethod
    def _draw(path: Path, samples: Sequence[SpatialSample], answers: Sequence[Answered]) -> None:
        imagined = {answered.prediction.sample_id: answered.images[0] for answered in answers if answered.images}
        rows = [(sample, imagined[sample.id]) for sample in samples if sample.id in imagined][:GRID_ROWS]
        if rows:
            write_bytes(path, encode_image(grid(rows)))


def grid(rows: Sequence[tuple[SpatialSample, SampleImage]]) -> np.ndarray:
    """Inputs, ground truth and imagination of each sample side by side, uint8 [height, width, 3]."""
    inputs = max(len(sample.images) for sample, _ in rows)
    step = GRID_SIDE + GRID_MARGIN
    sheet = Image.new("RGB", ((inputs + 2) * step, GRID_HEADER + len(rows) * step), "white")
    names = [*(f"input {number + 1}" for number in range(inputs)), "truth", "imagined"]
    for column, name in enumerate(names):
        ImageDraw.Draw(sheet).text((column * step, 2), name, fill="black")
    for row, (sample, imagined) in enumerate(rows):
        places = (*range(len(sample.images)), inputs, inputs + 1)
        for column, picture in zip(places, (*sample.images, sample.imagination, imagined), strict=True):
            image = Image.fromarray(picture.pixels())
            image.thumbnail((GRID_SIDE, GRID_SIDE))
            sheet.paste(image, (column * step, GRID_HEADER + row * step))
    return np.asarray(sheet)


def mode_settings(config: TrainConfig) -> list[ModeSettings]:
    """The modes of inference that the run is evaluated in."""
    evaluation = config.evaluation
    return [
        ModeSettings(name, answer=evaluation.answer, text=evaluation.text, draw=evaluation.draw)
        for name in evaluation.chosen(bool(config.imagination.mediators))
    ]


def final_evaluation(config: TrainConfig, device: str) -> dict[str, float]:
    """Answer the test set with the exported model: a run folder ``evaluation/MODE`` per mode, and the shares of all of them in
    ``evaluation/summary.json``. One process calls this; the same call continues an interrupted one."""
    folder, found = Path(config.output_dir) / FOLDER, dict[str, float]()
    for mode in mode_settings(config):
        answer_dataset(
            InferConfig(
                checkpoint=config.output_dir,
                data=config.evaluation.data,
                output_dir=str(folder / mode.name),
                mode=mode,
                limit=config.evaluation.limit,
                batch_size=config.evaluation.batch_size,
                seed=config.trainer.seed,
                device=device,
                dtype=config.trainer.dtype,
            )
        )
        answers = [Answered(prediction) for prediction in read_run(folder / mode.name).predictions]
        found |= tally(answers).shares(mode.name)
    write_json(folder / SUMMARY, found)
    return found
