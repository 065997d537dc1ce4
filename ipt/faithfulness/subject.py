"""Who is asked: a model that answers at once, from what it imagines, or from mediators that are put in their place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ipt.common.errors import UserError
from ipt.common.images import encode_image, image_size
from ipt.faithfulness.settings import FaithfulnessConfig
from ipt.imagination.base import Imagination, Imagined, Mediator
from ipt.imagination.mixture import make_mode
from ipt.inference.answering import Answered, numbers_of
from ipt.inference.checkpoint import Checkpoint
from ipt.inference.context import SessionContext, shown
from ipt.inference.engine import Engine, make_session
from ipt.inference.plans import mediator
from ipt.inference.run import load
from ipt.inference.session import Session
from ipt.inference.settings import InferConfig, ModeSettings
from ipt.model.unified import UnifiedModel
from ipt.samples.prompts import ANSWER
from ipt.samples.sample import SampleImage, SpatialSample
from ipt.sequence.batch import lay_out
from ipt.sequence.pictures import Picture, normalised
from ipt.sequence.segments import Segment, SpecialTokens
from ipt.sequence.spans import Role

COLUMNS = 16


class Subject(Protocol):
    """``kind``: of its mediators, empty for a model that answers at once. Answers come for every sample, in any order; a sample
    that fails is an answer with an error."""

    @property
    def kind(self) -> str: ...

    def at_once(self, samples: Sequence[SpatialSample], seed: int) -> list[Answered]:
        """Answers without imagination."""
        ...

    def imagined(self, samples: Sequence[SpatialSample], seed: int) -> list[Answered]:
        """Answers from the model's own imaginations, with their texts and images."""
        ...

    def placed(self, samples: Sequence[SpatialSample], mediators: Mapping[str, Mediator], seed: int) -> list[Answered]:
        """Answers from the mediator of each sample's id."""
        ...

    def mediator_of(
        self, texts: Sequence[str], images: Sequence[SampleImage], numbers: Sequence[NDArray[Any]]
    ) -> Mediator | None:
        """The mediator in what was written, drawn and fed (`Answered`); None where there is none."""
        ...

    def true_mediator(self, sample: SpatialSample) -> Mediator:
        """What training shows: a picture at the size at which the model imagines, latents and codes as numbers."""
        ...

    def picture(self, mediator: Mediator) -> SampleImage | None:
        """What a mediator looks like; None where there is nothing to see."""
        ...

    @property
    def codes(self) -> int:
        """How many codes there are to write pictures in; 0 for none."""
        ...

    def round_trip(self, image: SampleImage) -> SampleImage: ...

    def hidden(self, samples: Sequence[SpatialSample], mediators: Mapping[str, Mediator]) -> Mapping[str, Any] | None:
        """Hidden states (n, layers, D) of the ``observation`` and ``imagination`` tokens, averaged, and of the token before the
        ``answer``; ``layers``: their numbers. None for a subject without such states."""
        ...


@dataclass(frozen=True)
class Placed:
    """The plan that puts mediators in the place of the model's own (`ipt.inference.plans.Plan`); random streams are those of
    its first imagination."""

    mode: Imagination
    mediators: Mapping[str, Mediator]
    draws: bool = False

    def __call__(self, context: SessionContext, samples: Sequence[SpatialSample], seed: int) -> Imagined:
        return self.mode.placed(context.repeat(1), [self.mediators[sample.id] for sample in samples])


class ModelSubject:
    """A trained model. Batches are those that are handed in: the same samples together give the same answers to the last
    bit."""

    def __init__(self, checkpoint: Checkpoint, settings: ModeSettings, batch_size: int) -> None:
        self.checkpoint, self.settings, self.batch_size = checkpoint, settings, batch_size
        self.renderer = checkpoint.renderer(settings.draw.side)

    @classmethod
    def load(cls, path: str, config: FaithfulnessConfig) -> ModelSubject:
        about = InferConfig(checkpoint=path, data=config.data, device=config.device, dtype=config.dtype)
        return cls(load(about), config.mode, config.batch_size)

    @cached_property
    def session(self) -> Session:
        """What turns pictures into numbers."""
        return make_session(self.checkpoint, self.settings.text, self.settings.draw)

    @property
    def kind(self) -> str:
        return self.mode.kind if self.checkpoint.recipe.imagination.mediators else ""

    @cached_property
    def mode(self) -> Imagination:
        """The imagination mode whose mediators are changed."""
        recipe = self.checkpoint.recipe
        return make_mode(mediator(self.settings, recipe), self.renderer, recipe.imagination.at_inference)

    def at_once(self, samples: Sequence[SpatialSample], seed: int) -> list[Answered]:
        settings = ModeSettings(
            "answer_only", answer=self.settings.answer, text=self.settings.text, draw=self.settings.draw
        )
        return list(Engine(self.checkpoint, settings, seed, self.batch_size).answer(samples))

    def imagined(self, samples: Sequence[SpatialSample], seed: int) -> list[Answered]:
        return list(Engine(self.checkpoint, self.settings, seed, self.batch_size).answer(samples))

    def placed(self, samples: Sequence[SpatialSample], mediators: Mapping[str, Mediator], seed: int) -> list[Answered]:
        plan = Placed(self.mode, mediators)
        return list(Engine(self.checkpoint, self.settings, seed, self.batch_size, plan=plan).answer(samples))

    def mediator_of(
        self, texts: Sequence[str], images: Sequence[SampleImage], numbers: Sequence[NDArray[Any]]
    ) -> Mediator | None:
        return self.mode.mediator_of(texts, images, numbers)

    def true_mediator(self, sample: SpatialSample) -> Mediator:
        true = self.mode.true_mediator(sample)
        if true.image is None:
            return true
        if self.kind == "picture":
            return replace(true, image=self.sized(true.image, sample.task))
        encoded = self.session.with_latents([self.mode.looked_at(sample.task, true)])
        (numbers,) = numbers_of(encoded[0]) or (self._vectors(encoded),)
        return Mediator(true.text, numbers=numbers)

    def sized(self, image: SampleImage, task: str) -> SampleImage:
        """The picture at the size at which the model imagines."""
        picture = Picture(image.data, (self.renderer.imagination_size(task),), image.role)
        return SampleImage(encode_image(picture.pixels().permute(1, 2, 0).numpy()), image.role)

    def _vectors(self, rows: Sequence[Sequence[Segment]]) -> NDArray[Any]:
        """[k, D] what the slots of pictures hold."""
        batch = lay_out(rows, self.session.special, self.session.geometry).to(self.session.like.device)
        with torch.no_grad():
            return self.checkpoint.model(batch, logits=False).vectors_ZD.float().cpu().numpy()

    def picture(self, mediator: Mediator) -> SampleImage | None:
        if mediator.numbers is None:
            return mediator.image
        if self.checkpoint.codes is None or self.kind == "latent":
            return stripes(mediator.numbers)
        (decoded,) = self.checkpoint.codes.decode([torch.from_numpy(mediator.numbers)])
        return shown(decoded)

    @property
    def codes(self) -> int:
        return 0 if self.checkpoint.codes is None else self.checkpoint.codes.shape.count

    def round_trip(self, image: SampleImage) -> SampleImage:
        codec = self.checkpoint.codec
        if codec is None:
            raise UserError("arm round_trip needs a model with a codec; this one was trained without")
        picture = Picture(image.data, (image_size(image.data),), image.role)
        (decoded,) = codec.decode(codec.encode([normalised(picture.pixels())]))
        return shown(decoded)

    def hidden(self, samples: Sequence[SpatialSample], mediators: Mapping[str, Mediator]) -> Mapping[str, Any] | None:
        engine = Engine(self.checkpoint, self.settings, 0, self.batch_size, plan=Placed(self.mode, mediators))
        started = SessionContext.start(engine.session, [(s.id,) for s in samples], [s.task for s in samples])
        prompted = started.append([self.mode.prompt(sample) for sample in samples])
        imagined = self.mode.placed(prompted, [mediators[sample.id] for sample in samples])
        assert isinstance(imagined.context, SessionContext)
        answers = [self.renderer.text(lead + ANSWER, Role.ANSWER) for lead in imagined.leads]
        rows = [[*row.segments, answer] for row, answer in zip(imagined.context.closed.rows, answers, strict=True)]
        return pooled_states(self.checkpoint.model, rows, engine.session.special)


def stripes(vectors_KD: NDArray[Any]) -> SampleImage:
    """A row for each latent, in means of its numbers, grey where these are zero: what tells vectors apart by eye."""
    means = np.stack(
        [part.mean(1) for part in np.array_split(vectors_KD, min(COLUMNS, vectors_KD.shape[1]), axis=1)], 1
    )
    grey = 128 + 64 * means / max(float(means.std()), 1e-9)
    rows = np.repeat(grey.clip(0, 255).astype(np.uint8), max(1, COLUMNS // len(grey)), axis=0)
    return SampleImage(encode_image(np.repeat(rows[..., None], 3, axis=-1)), "imagination")


def pooled_states(model: UnifiedModel, rows: Sequence[Sequence[Segment]], special: SpecialTokens) -> dict[str, Any]:
    """The states of `Subject.hidden` of whole sequences, each of which ends in what begins its answer. Texts before that which
    are part of the answer (a chain of thought) count as imagination."""
    layers = len(model.decoder.layers)
    kept = sorted({round(share * (layers - 1)) for share in (0, 1 / 3, 2 / 3, 1)})
    states: list[Tensor] = []

    def recording(layer: nn.Module, *inputs: Any) -> Any:
        output = layer(*inputs)
        if layer.index in kept:
            states.append(torch.cat(output).float().cpu())
        return output

    batch = lay_out(rows, special, model.config.geometry).to(model.decoder.embed_tokens.weight.device)
    spans, before = batch.spans, model.decoder.run_layer
    model.decoder.run_layer = recording
    try:
        with torch.no_grad():
            model(batch, logits=False)
    finally:
        model.decoder.run_layer = before
    values = torch.stack(states, 1).numpy()[spans.rank]  # [S, layers, D] in packed order
    last = np.append(np.flatnonzero(np.diff(spans.sample)), len(spans) - 1)
    roles = spans.role.copy()
    roles[roles == Role.ANSWER] = Role.IMAGINATION
    roles[last] = Role.ANSWER
    sample, role = spans.sample[spans.span_of], roles[spans.span_of]

    def mean(wanted: Role) -> NDArray[np.float32]:
        chosen = [values[(sample == number) & (role == wanted)] for number in range(len(rows))]
        empty = np.zeros((1, *values.shape[1:]), np.float32)
        return np.stack([(each if len(each) else empty).mean(0) for each in chosen])

    ends = spans.start[last] + spans.length[last] - 2  # before the marker that ends the text
    return {
        "observation": mean(Role.OBSERVATION),
        "imagination": mean(Role.IMAGINATION),
        "answer": values[ends],
        "layers": np.array(kept) + 1,
    }
