"""Latent tokens (Mirage, arXiv 2506.17218): k continuous slots between question and answer, in no words and no pixels.

Two stages. In ``ground`` the slots hold the picture: its features, pooled to k vectors, are fed to the slots, and the state
before each slot learns to point to its vector (cosine loss). In ``relax``, from a model of the first stage, the slots hold what
the model feeds itself, and only texts are trained. At inference each slot is fed the last state.

Mirage weighs texts by 0.1 in the first stage: ``conf/imagination/latent.yaml`` does, ``conf/experiment/mirage.yaml`` trains both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ipt.common.errors import UserError
from ipt.imagination.base import Context, Imagination, ImaginationSettings, Imagined, Mediator, modes
from ipt.samples.prompts import LATENT_END, LATENT_START, Profile, answer_text
from ipt.samples.sample import SampleImage, SpatialSample
from ipt.sequence.settings import ENCODERS, check_pool
from ipt.sequence.spans import Loss, Role

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ipt.sequence.render import Renderer
    from ipt.sequence.segments import Segment

STAGES, POOLS, PHIS = ("ground", "relax"), ("raster", "grid"), ("none", "rms", "linear")


@dataclass(frozen=True)
class LatentSettings(ImaginationSettings):
    """``stage``: ``ground`` or ``relax``. ``k`` slots. ``target``: whose features of the picture they hold, the vision tower's
    (``vit``; it is not trained then) or the codec's (``vae``). ``pool``: k runs in ``raster`` order, or a ``grid`` of squares.

    ``phi``: what is fed for a vector or state: itself (``none``, as in Mirage), at root mean square 1 (``rms``), or through a
    learned map (``linear``). ``rounds``: of the k rounds that fill free slots in training, how many have gradients (default:
    all, which is exact). ``until_end``: the last slot learns to announce the end, and at inference slots go on until it does,
    up to ``longest`` (Mirage: 8); otherwise there are always k.
    """

    stage: str = "ground"
    k: int = 4
    target: str = "vit"
    pool: str = "raster"
    phi: str = "none"
    rounds: int | None = None
    until_end: bool = False
    longest: int = 8

    def __post_init__(self) -> None:
        for name, valid in (("stage", STAGES), ("target", ENCODERS), ("pool", POOLS), ("phi", PHIS)):
            if getattr(self, name) not in valid:
                raise UserError(f"imagination.latent.{name} is {' or '.join(valid)}, not '{getattr(self, name)}'")
        if self.k < 1 or self.longest < self.k:
            raise UserError(f"imagination.latent needs 1 <= k <= longest, got {self.k} and {self.longest}")
        if self.rounds is not None and not 1 <= self.rounds <= self.k:
            raise UserError(
                f"imagination.latent.rounds={self.rounds} must be 1 to k={self.k}: slots are filled in k rounds"
            )
        if self.rounds is not None and self.stage == "ground":
            raise UserError("imagination.latent.rounds has no effect in stage ground, where slots hold the picture")

    @property
    def free_rounds(self) -> tuple[int, int]:
        if self.stage == "ground":
            return 0, 0
        return self.k, self.k if self.rounds is None else self.rounds

    @property
    def slot_input(self) -> str | None:
        return self.phi

    @property
    def continues(self) -> str | None:
        return "imagination.latent.stage=relax goes on from a run of stage ground" if self.stage == "relax" else None

    @property
    def frozen(self) -> tuple[str, ...]:
        return ("vision", "connector") if self.target == "vit" else ()

    @property
    def encodes(self) -> bool:
        return self.target == "vae"


@modes.register("latent")
class Latent(Imagination):
    """``<latent_start>``, k slots, ``<latent_end><answer>B</answer>``."""

    name, kind = "latent", "latent"
    words = (LATENT_START, LATENT_END)
    Settings = LatentSettings
    prompts = {  # noqa: RUF012
        "default": "Look at the images and answer the question about the scene. First imagine the view that is not shown between "
        "<latent_start> and <latent_end>, then give the letter of the right option between <answer> and </answer>.",
        "brief": "Imagine, answer.",
    }
    settings: LatentSettings

    def __init__(self, renderer: Renderer, settings: LatentSettings | None = None) -> None:
        super().__init__(renderer, settings)
        for task in renderer.config.resolutions:
            (grid,) = (
                image.grid(renderer.geometry) for image in self._shown(task, SampleImage(b"", "imagination"), "")
            )
            try:
                check_pool(grid, self.settings.k, self.settings.pool)
            except UserError as error:
                raise UserError(f"imagination.latent.k={self.settings.k}, task {task}: {error}") from error

    @classmethod
    def turns(cls, sample: SpatialSample, profile: Profile, rng: np.random.Generator) -> list[str | SampleImage]:
        return [LATENT_START, sample.imagination, LATENT_END + answer_text(sample)]

    def segments(self, sample: SpatialSample, epoch: int) -> list[Segment]:
        what, answer = f"sample '{sample.id}', field 'imagination'", LATENT_END + answer_text(sample)
        if self.settings.stage == "ground":
            slots = self._slots(sample.task, sample.imagination, what, trained=True)
        else:
            end = self._end_label if self.settings.until_end else None
            slots = self.renderer.slots(self.settings.k, loss=Loss.NONE if end is None else Loss.END, end_label=end)
        return [
            *self.prompt(sample),
            self.renderer.text(LATENT_START, Role.IMAGINATION, trained=True),
            slots,
            self.renderer.text(answer, Role.ANSWER, trained=True),
        ]

    def imagine(self, context: Context, n: int, seed: int) -> Imagined:
        rows, texts = context.repeat(n).generate_text(Role.IMAGINATION, seed)
        return self.announced(rows, texts, seed)

    def announces(self, text: str) -> bool:
        return LATENT_START in text

    def announced(self, rows: Context, texts: Sequence[str], seed: int) -> Imagined:
        filled = [row for row, text in enumerate(texts) if self.announces(text)]
        settings = self.settings
        count, end = (settings.longest, self._end_label) if settings.until_end else (settings.k, None)
        grown = rows.generate_latents(filled, count, Role.IMAGINATION, end)
        return Imagined.of(grown, texts, leads=[LATENT_END if row in filled else "" for row in range(len(texts))])

    def mediator_of(
        self, texts: Sequence[str], images: Sequence[SampleImage], numbers: Sequence[NDArray[Any]] = ()
    ) -> Mediator | None:
        return Mediator(texts[0], numbers=numbers[0]) if numbers else None

    def true_mediator(self, sample: SpatialSample) -> Mediator:
        return Mediator(LATENT_START, sample.imagination)

    def looked_at(self, task: str, mediator: Mediator) -> list[Segment]:
        said = [self.renderer.text(mediator.text, Role.IMAGINATION)]
        if mediator.numbers is not None:
            return [*said, self.renderer.slots_of(mediator.numbers)]
        return said if mediator.image is None else [*said, self._slots(task, mediator.image, "imagination")]

    def placed(self, context: Context, mediators: Sequence[Mediator]) -> Imagined:
        seen = [self.looked_at(task, mediator) for task, mediator in zip(context.tasks, mediators, strict=True)]
        texts = [mediator.text for mediator in mediators]
        return Imagined.of(context.append(seen), texts, leads=[LATENT_END] * len(texts))

    def _slots(self, task: str, image: SampleImage, what: str, trained: bool = False) -> Segment:
        (shown,) = self._shown(task, image, what)
        settings = self.settings
        loss, end = (Loss.COSINE, None) if trained else (Loss.NONE, None)
        if trained and settings.until_end:
            loss, end = Loss.COSINE_WITH_END, self._end_label
        return self.renderer.slots(settings.k, shown, settings.pool, loss, end)

    def _shown(self, task: str, image: SampleImage, what: str) -> list[Segment]:
        return self.renderer.imagined(task, image, (self.settings.target,), what)

    @property
    def _end_label(self) -> int:
        """What the last slot predicts: the first token of the text that ends them."""
        return self.renderer.tokenizer.encode(LATENT_END)[0]
