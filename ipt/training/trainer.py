"""The training loop: the same steps on any hardware, stopped and continued anywhere.

A step takes its packs from a source (`ipt.training.source`), counts their tokens over all ranks, runs them forward and backward
one by one, clips, and updates. Every random draw is a pure function of seed, step and sample, and the data order one of the
source's state, so a checkpoint needs no generator states: weights, optimizer, average, that state and a few counters continue a
run bit by bit.
"""

from __future__ import annotations

import hashlib
import logging
import math
import resource
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ipt.common.errors import DivergedRun, UserError
from ipt.common.progress import Meter
from ipt.common.seeding import derived_seed
from ipt.model.flops import peak_flops, step_flops, token_kinds
from ipt.model.unified import UnifiedModel
from ipt.sequence.batch import PackedBatch
from ipt.training.checkpoints import Checkpoints
from ipt.training.distributed import Fill, World, accumulating, divide_again, is_sharded, parallelize
from ipt.training.losses import Objective, TokenLosses, mean_losses, noised, sample_losses, terms_of, token_counts
from ipt.training.optim import (
    COMPUTE,
    Ema,
    Kept,
    Weights,
    clip_gradients,
    learning_rate,
    make_optimizer,
    optimizer_tensors,
    set_learning_rate,
)
from ipt.training.records import StepRecord, score
from ipt.training.settings import DistributedConfig, TrainerConfig, weighted
from ipt.training.source import Material, Source
from ipt.training.stopping import Watchdog, stop_requested
from ipt.training.tracking import JsonLines, Tracker, draw_curves, trackers

log = logging.getLogger(__name__)
Encode = Callable[[Sequence[Tensor]], Sequence[Tensor]]


class Trainer:
    """Trains ``model`` on the packs of ``source``, and keeps all of the run in ``folder``.

    ``validate``: the figures of the weights of a checkpoint, of which ``checkpoints.best`` chooses the best.
    ``encode`` and ``encode_codes``: the codecs', for batches that come with pictures. ``fill``: gives ``model`` its weights,
    where it comes without memory. Raises ``ValueError`` where ``resume="never"`` meets a checkpoint.
    """

    def __init__(
        self,
        model: UnifiedModel,
        source: Source,
        config: TrainerConfig,
        folder: Path,
        encode: Encode | None = None,
        world: World | None = None,
        distributed: DistributedConfig | None = None,
        more_trackers: Sequence[str] = (),
        validate: Callable[[Trainer], dict[str, float]] | None = None,
        fill: Fill | None = None,
        encode_codes: Encode | None = None,
    ) -> None:
        self.encode_codes = encode_codes
        self.model, self.source, self.config, self.folder = model, source, config, folder
        self.world, self.encode, self._more_trackers = world or World(), encode, more_trackers
        if config.checkpoint_activations:
            model.set_layer_runner(recomputed)
        compute = COMPUTE[config.dtype]
        distributed = distributed or DistributedConfig()
        self.objective = parallelize(
            Objective(model.train(), config.loss, config.rounds, config.clip), distributed, self.world, compute, fill
        )
        self.weights = Weights(model, torch.float32 if is_sharded(self.objective) else compute)
        self.optimizer = make_optimizer(self.weights, config.optim)
        self.ema = None if config.ema is None else Ema(self.weights.named.items(), config.ema)
        self.start = Kept(self.weights.named.items()) if source.compares else None
        self.checkpoints = Checkpoints(folder / "checkpoints", config.checkpoints, self.world)
        self._validate = validate
        self.step = self.skipped = 0
        self._skipped_in_a_row = 0
        self._receivers: list[Tracker] = []
        self._resume()

    def run(self) -> bool:
        """Train to the last step. Returns False where a signal (SIGTERM, SIGINT) stopped the run, after saving it."""
        self._receivers = self._trackers()
        meter = Meter("training step", self.config.steps, self.step, quiet=not self.world.is_main)
        steps = self.steps()
        try:
            with stop_requested() as stopping:
                self._train(steps, meter, stopping)
        finally:
            self.checkpoints.settle()
            meter.close()
            for tracker in self._receivers:
                tracker.close()
            steps.close()
        if self.world.is_main:
            draw_curves(self.folder)
        return self.step == self.config.steps

    def steps(self) -> Generator[Material, None, None]:
        """What the steps from here on are trained on."""
        return self.source.steps(self)

    def _train(self, steps: Iterator[Material], meter: Meter, stopping: threading.Event) -> None:
        saved = self.step
        with Watchdog(self.folder / f"hang-{self.world.rank}.txt", self.config.hang_minutes) as watchdog:
            watchdog.alive()
            while self.step < self.config.steps and not (self.source.whole and self._any(stopping.is_set())):
                record = self.train_step(steps)
                for tracker in self._receivers:
                    tracker.log(record)
                meter.update(self.step, record.note())
                watchdog.alive()
                self.checkpoints.check()
                if self.step % self.config.checkpoints.every == 0:
                    saved = self._save()
                    watchdog.alive()
                    if not self._any(stopping.is_set()):
                        self._rate()
                        watchdog.alive()
            if saved != self.step:
                self._save()
                if self.step == self.config.steps:
                    self._rate()
            self.checkpoints.wait()

    def train_step(self, steps: Iterator[Material]) -> StepRecord:
        """One update, or none where loss or gradient are not finite: such steps are counted, their samples named.

        Raises ``FloatingPointError`` after ``max_skipped`` of them in a row.
        """
        config, started = self.config, time.perf_counter()
        torch.manual_seed(derived_seed(config.seed, "step", self.step, self.world.rank))
        packs, figures = next(steps)
        waited = time.perf_counter() - started
        counts = self.world.sum(np.sum([token_counts(pack, config.loss) for pack in packs], axis=0).tolist())
        factors = self.source.factors
        made = []
        for number, pack in enumerate(packs, start=1):
            with accumulating(self.objective, last=number == len(packs)):
                made.append(self._accumulate(pack, counts))
        norm, sums, hardest = self._read(clip_gradients(self.weights, config.optim.clip), packs, made)
        losses = dict(zip(factors, self.world.sum(sums.tolist()), strict=True))
        total = weighted(losses.values(), factors)
        rate = learning_rate(config.optim, self.step, config.steps)
        finite = math.isfinite(total) and math.isfinite(norm)
        if finite:
            set_learning_rate(self.optimizer, rate)
            self.optimizer.step()
            self.weights.sync_to_model()
            if self.ema is not None:
                self.ema.update()
        self.optimizer.zero_grad(set_to_none=True)
        summary = self._summary(packs, hardest)
        record = StepRecord(
            step=self.step,
            loss=total,
            losses=losses,
            learning_rate=rate,
            gradient_norm=norm,
            skipped=not finite,
            figures=dict(figures),
            **summary,
            **self._speed(packs, time.perf_counter() - started, waited),
        )
        self._count(finite, record)
        self.step += 1
        return record

    def losses(self, pack: PackedBatch, counts: Sequence[float]) -> tuple[list[Tensor], TokenLosses]:
        """A pack's shares of the mean losses of a step with ``counts``, by term, and the losses of its tokens."""
        config = self.config
        batch = pack.to(self.world.device)
        if batch.waits:
            batch = batch if self.encode_codes is None else batch.coded(self.encode_codes)
            batch = batch if self.encode is None else batch.encoded(self.encode)
            if batch.waits:
                raise UserError("the samples hold images, but the run has neither a codec nor a latent cache")
        images, target_FD = noised(batch, config.seed, config.loss.timestep_shift, config.loss.fresh_noise)
        losses: TokenLosses = self.objective(batch, images, target_FD)
        return mean_losses(losses, batch, counts, config.loss), losses

    @torch.no_grad()
    def choices(self, pack: PackedBatch) -> Tensor:
        """What the weights as they are make of the choices of a rollout (`ipt.training.policy.observed`). All ranks call this,
        each for as many packs."""
        batch = pack.to(self.world.device)
        images, target_FD = noised(batch, self.config.seed, self.config.loss.timestep_shift)
        seen: Tensor = self.objective(batch, images, target_FD, choices=True)["choices"]
        return seen

    @contextmanager
    def playing(self, values: Kept | None = None) -> Iterator[None]:
        """The model as inference needs it while the block runs: in evaluation mode, what no layer owns whole on each rank,
        with the trained weights as they are, or with other ``values``. All ranks call this together."""
        training = self.objective.training
        self.objective.eval()
        with torch.no_grad(), nullcontext() if values is None else values.swapped_in():
            self.weights.sync_to_model()
            yield
            divide_again(self.objective)
        self.weights.sync_to_model()
        self.objective.train(training)

    def _accumulate(self, pack: PackedBatch, counts: Sequence[float]) -> list[Tensor]:
        """Add a pack's gradient. Returns, on the device, its shares of the mean losses and the losses of its tokens, by term."""
        shares, losses = self.losses(pack, counts)
        # wrappers average gradients over the processes, but each loss here is a share of one sum
        (self.world.size * weighted(shares, self.source.factors)).backward()
        return [value.detach() for value in (*shares, *(losses[name] for name in terms_of(pack)))]

    def _read(
        self, norm: Tensor, packs: Sequence[PackedBatch], made: Sequence[list[Tensor]]
    ) -> tuple[float, np.ndarray, list[tuple[str, float]]]:
        """The gradient's norm, this rank's shares of the mean losses, and its samples with their losses: what `_accumulate` made
        of ``packs``, in the one wait for the device that a step has."""
        values = [norm.detach(), *(value for each in made for value in each)]
        flat = torch.cat([value.double().flatten() for value in values]).cpu().numpy()
        pieces = iter(np.split(flat, np.cumsum([value.numel() for value in values])[:-1]))
        total, sums, hardest = float(next(pieces)[0]), np.zeros(len(self.source.factors)), []
        for pack in packs:
            names = list(terms_of(pack))
            sums += [float(next(pieces)[0]) for _ in names]
            losses = {name: next(pieces) for name in names}
            by_sample = sample_losses(losses, pack, self.config.loss, self.source.factors).tolist()
            hardest += [(origin.sample_id, loss) for origin, loss in zip(pack.origins, by_sample, strict=True)]
        return total, sums, hardest

    def _summary(self, packs: Sequence[PackedBatch], hardest: list[tuple[str, float]]) -> dict[str, Any]:
        """What the step consisted of, over all ranks."""
        kinds = [token_kinds(pack.spans) for pack in packs]
        tokens = {kind: sum(each[kind] for each in kinds) for kind in kinds[0]}
        positions = [[origin.position for origin in pack.origins] for pack in packs]
        gathered = self.world.gather((tokens, positions, hardest))
        ordered = [
            pack for packs_of_turn in zip(*(each[1] for each in gathered), strict=True) for pack in packs_of_turn
        ]
        largest = sorted((item for each in gathered for item in each[2]), key=_by_loss)
        return {
            "tokens": {kind: sum(each[0][kind] for each in gathered) for kind in tokens},
            "samples": sum(map(len, ordered)),
            "data": hashlib.sha256(repr(ordered).encode()).hexdigest()[:16],
            "hardest": largest[: self.config.hardest],
        }

    def _speed(self, packs: Sequence[PackedBatch], seconds: float, waited: float) -> dict[str, Any]:
        cuda = torch.device(self.world.device).type == "cuda"
        peak = peak_flops(torch.cuda.get_device_name() if cuda else "", self.config.peak_tflops)
        necessary = step_flops(self.model.config, packs, self.config.rounds)
        flops = self.world.sum([*necessary, sum(pack.spans.num_tokens for pack in packs)])
        memory = (
            torch.cuda.max_memory_allocated() if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        )
        available = None if peak is None else peak * self.world.size * seconds
        return {
            "seconds": seconds,
            "data_wait": waited,
            "tokens_per_second": flops[2] / seconds,
            "mfu": None if available is None else flops[0] / available,
            "mfu_bagel": None if available is None else flops[1] / available,
            "peak_memory": max(self.world.gather(memory)),
        }

    def _count(self, finite: bool, record: StepRecord) -> None:
        if finite:
            self._skipped_in_a_row = 0
            return
        self.skipped += 1
        self._skipped_in_a_row += 1
        names = ", ".join(name for name, _ in record.hardest)
        what = f"loss {record.loss}, gradient norm {record.gradient_norm}; samples with the largest losses: {names}"
        log.warning("step %d is not finite and was skipped (%s)", record.step, what)
        if self._skipped_in_a_row >= self.config.max_skipped:
            raise DivergedRun(
                f"{self._skipped_in_a_row} steps in a row were not finite, the last one {record.step}: {what}; the weights are "
                "those before them. Look at these samples, or lower the learning rate"
            )

    def _trackers(self) -> list[Tracker]:
        if not self.world.is_main:
            return []
        more = [trackers[name](self.folder, self.step) for name in self._more_trackers]
        return [JsonLines(self.folder, self.step), *more]

    def _tensors(self) -> dict[str, Any]:
        tensors = {
            "model": {name: weight.detach() for name, weight in self.weights.named.items()},
            "optimizer": optimizer_tensors(self.optimizer, self.weights.named),
        }
        return tensors if self.ema is None else {**tensors, "ema": self.ema.values}

    def _save(self) -> int:
        progress = {
            "loader": self.source.state(self.world),
            "skipped": self.skipped,
            "skipped_in_a_row": self._skipped_in_a_row,
            "ema_updates": 0 if self.ema is None else self.ema.updates,
        }
        self.checkpoints.save(self.step, self._tensors(), progress)
        return self.step

    def _rate(self) -> None:
        """Validate the weights that were saved, for the choice of the best checkpoint."""
        if self._validate is None:
            return
        figures = self._validate(self)
        for tracker in self._receivers:
            tracker.validated(self.step, figures)
        self.checkpoints.rate(self.step, score(figures, self.config.checkpoints.best))

    def _resume(self) -> None:
        latest = self.checkpoints.latest()
        if latest is None:
            return
        if self.config.resume == "never":
            raise UserError(
                f"{self.folder} holds a run already ({latest.name}); continue with resume=auto or choose another folder"
            )
        progress = self.checkpoints.load(latest, self._tensors())
        self.source.load(progress["loader"])
        self.step, self.skipped = progress["step"], progress["skipped"]
        self._skipped_in_a_row = progress["skipped_in_a_row"]
        if self.ema is not None:
            self.ema.updates = progress["ema_updates"]
        self.weights.sync_to_model()
        log.info("continuing from %s", latest)

    def _any(self, flag: bool) -> bool:
        return self.world.sum([float(flag)])[0] > 0


def recomputed(layer: torch.nn.Module, *inputs: Any) -> Any:
    """A layer runner that keeps a layer's inputs and computes the layer again in the backward pass."""
    return checkpoint(layer, *inputs, use_reentrant=False)


def _by_loss(item: tuple[str, float]) -> tuple[bool, float]:
    """Sorts losses that are not finite first, then the largest."""
    return math.isfinite(item[1]), -item[1]
