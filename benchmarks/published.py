"""The published code beside ours, for `benchmarks.reference`."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.machinery
import json
import math
import statistics
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.decisions import TOKENS, Bench
from benchmarks.loading import resident
from benchmarks.reference import ReferenceConfig
from benchmarks.reference_inference import Ours, Request, Theirs, agreement
from benchmarks.reference_loader import Loaders, per_sample
from ipt.common.errors import MissingFile
from ipt.model.attention import SdpaAttention
from ipt.model.checkpoint import from_pretrained, save_pretrained
from ipt.model.config import DecoderConfig, LatentConfig, ModelConfig, VisionConfig
from ipt.model.vision import grid_rows
from ipt.sequence.batch import PackedBatch, lay_out
from ipt.sequence.pictures import unpatchify
from ipt.sequence.segments import Segment
from ipt.sequence.spans import Mode, SpanTable
from ipt.training.losses import Objective, mean_losses, noised, token_counts
from ipt.training.settings import LossConfig

#: 76 million weights.
SHAPE = ModelConfig(
    "reference",
    DecoderConfig(hidden=512, intermediate=1408, layers=8, heads=8, kv_heads=2, vocab=16384),
    VisionConfig(hidden=384, intermediate=1024, layers=6, heads=6, patch=14, side=70),
    LatentConfig(channels=16, patch=2, side=64, downsample=8),
)
MODES = {Mode.CAUSAL: "causal", Mode.FULL: "full", Mode.NOISED: "noise"}
FOLDERS = ("modeling/bagel/bagel.py", "modeling/bagel/qwen2_navit.py", "data/data_utils.py")


def dense_varlen(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    causal: bool = False,
) -> Tensor:
    """flash-attn's ``flash_attn_varlen_func`` without flash-attn: attention per segment, causal masks aligned at the end."""
    out = []
    edges = [list(zip(e.tolist()[:-1], e.tolist()[1:], strict=True)) for e in (cu_seqlens_q, cu_seqlens_k)]
    for (a, b), (c, d) in zip(*edges, strict=True):
        mask = torch.ones(b - a, d - c, dtype=torch.bool).tril(d - c - b + a) if causal and b - a > 1 else None
        queries, keys, values = (x.transpose(0, 1)[None] for x in (q[a:b], k[c:d], v[c:d]))
        attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, enable_gqa=True)
        out.append(attended[0].transpose(0, 1))
    return torch.cat(out)


class InFloat32(types.ModuleType):
    """torch, for the modules of the checkout: its bfloat16 is float32, and what it draws is ``noise``, where that is set."""

    bfloat16 = torch.float32
    noise: Tensor | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def randn_like(self, like: Tensor) -> Tensor:
        return torch.randn_like(like) if self.noise is None else self.noise


class Published:
    """The modules of a checkout. Raises ``MissingFile`` for a folder that is none."""

    def __init__(self, folder: Path) -> None:
        for name in FOLDERS:
            if not (folder / name).is_file():
                raise MissingFile(f"reference={folder} is no checkout of ByteDance-Seed/Bagel: {name} is missing")
        sys.path.insert(0, str(folder))
        flash = types.ModuleType("flash_attn")
        flash.flash_attn_varlen_func = dense_varlen  # type: ignore[attr-defined]
        flash.__spec__ = importlib.machinery.ModuleSpec("flash_attn", None)
        sys.modules.setdefault("flash_attn", flash)
        self.bagel = importlib.import_module("modeling.bagel")
        self.masks = importlib.import_module("data.data_utils").prepare_attention_mask_per_sample
        self.torch = InFloat32("torch")
        for name in ("qwen2_navit", "siglip_navit", "bagel"):
            importlib.import_module(f"modeling.bagel.{name}").torch = self.torch  # type: ignore[attr-defined]
        inside = importlib.import_module("modeling.bagel.qwen2_navit")
        self.cache = inside.NaiveCache
        inside.sdpa_kernel = lambda backends: contextlib.nullcontext()  # type: ignore[attr-defined]

    def blank(self, folder: Path) -> Any:
        """The model of a folder in BAGEL's layout, as the trainer makes it, with weights of its own."""
        extra = json.loads((folder / "bagel_config.json").read_text())
        llm = self.bagel.Qwen2Config.from_json_file(folder / "llm_config.json")
        vit = self.bagel.SiglipVisionConfig.from_json_file(folder / "vit_config.json")
        vit.num_hidden_layers, vit.rope = vit.num_hidden_layers + 1 + extra["vit_select_layer"], False
        vae = types.SimpleNamespace(downsample=SHAPE.latents.downsample, z_channels=SHAPE.latents.channels)
        names = (
            "latent_patch_size",
            "max_latent_size",
            "vit_max_num_patch_per_side",
            "connector_act",
            "interpolate_pos",
        )
        config = self.bagel.BagelConfig(
            visual_gen=True,
            visual_und=True,
            llm_config=llm,
            vit_config=vit,
            vae_config=vae,
            **{name: extra[name] for name in names},
        )
        model = self.bagel.Bagel(self.bagel.Qwen2ForCausalLM(llm), self.bagel.SiglipVisionModel(vit), config)
        meta = next(model.parameters()).is_meta
        model.vit_model.vision_model.embeddings.convert_conv2d_to_linear(vit, meta=meta)
        return model

    def load(self, folder: Path) -> Any:
        """The trainer's way: a random model, then its weights but for the position tables."""
        from safetensors.torch import load_file

        model, state = self.blank(folder), load_file(folder / "ema.safetensors")
        for name in ("latent_pos_embed.pos_embed", "vit_pos_embed.pos_embed"):
            state.pop(name)
        model.load_state_dict(state, strict=False)
        return model

    def dispatched(self, folder: Path) -> Any:
        """The way of the published app: a model without memory, which accelerate fills."""
        from accelerate import init_empty_weights, load_checkpoint_and_dispatch

        with init_empty_weights():
            model = self.blank(folder)
        return load_checkpoint_and_dispatch(model, str(folder / "ema.safetensors"), device_map={"": "cpu"})


def inputs_of(batch: PackedBatch, times_J: Tensor, shape: ModelConfig) -> dict[str, Any]:
    """The keyword arguments of the published ``Bagel.forward`` for a batch of ours, but for its masks; ``times_J`` in [0, 1], of
    noised images."""
    spans, patch = batch.spans, shape.latents.patch
    raw_I = torch.full((len(batch.latent_grids),), -math.inf)
    raw_I[torch.from_numpy(spans.noised_images)] = torch.logit(times_J)
    sizes = [rows * columns for rows, columns in batch.latent_grids]
    latents = []
    for tokens, (rows, columns) in zip(batch.latents_GD.split(sizes), batch.latent_grids, strict=True):
        latents.append(unpatchify(tokens, (rows, columns), patch))
    index = {
        "packed_text_indexes": ~spans.is_body,
        "packed_vit_token_indexes": spans.is_body & ~spans.is_generation,
        "packed_vae_token_indexes": spans.is_generation,
    }
    return {
        "sequence_length": spans.num_tokens,
        "sample_lens": spans.sample_lengths.tolist(),
        "packed_text_ids": batch.token_ids_X,
        "packed_position_ids": torch.from_numpy(spans.position_ids),
        "ce_loss_indexes": torch.from_numpy(spans.ce_positions),
        "packed_label_ids": batch.labels_C,
        "packed_vit_tokens": batch.patches_VD,
        "packed_vit_position_ids": grid_rows(batch.patch_grids, shape.vision.side, "image"),
        "vit_token_seqlens": torch.tensor([rows * columns for rows, columns in batch.patch_grids], dtype=torch.int32),
        "padded_latent": latents,
        "patchified_vae_latent_shapes": list(batch.latent_grids),
        "packed_latent_position_ids": grid_rows(batch.latent_grids, shape.latents.side, "image"),
        "packed_timesteps": raw_I.repeat_interleave(torch.tensor(sizes, dtype=torch.long)),
        "mse_loss_indexes": torch.from_numpy(spans.noised_positions),
        **{name: torch.from_numpy(chosen.nonzero()[0]) for name, chosen in index.items()},
    }


def published_masks(spans: SpanTable, published: Published) -> list[Tensor]:
    """The masks that the published loader makes, one per sample."""
    samples = [spans.sample == number for number in range(spans.num_samples)]
    modes = [[MODES[Mode(mode)] for mode in spans.mode[own]] for own in samples]
    return [published.masks(spans.length[own].tolist(), mode) for own, mode in zip(samples, modes, strict=True)]


def in_turn(repeats: int, **runs: Callable[[], Any]) -> dict[str, float]:
    """Median CPU-seconds of each, after one warm-up, in turn."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(repeats + 1):
        for name, run in runs.items():
            start = time.process_time()
            run()
            if number:
                taken[name].append(time.process_time() - start)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def extra_memory(run: Callable[[], Any]) -> float:
    """MB that a call takes at its peak beyond what the process held before it (Linux)."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before = resident("VmRSS")
    run()
    return (resident() - before) / 1e6


def show(what: str, taken: dict[str, float]) -> None:
    ours = taken["ours"]
    others = ", ".join(
        f"{name} {seconds:.2f} ({seconds / ours:.2f})" for name, seconds in taken.items() if name != "ours"
    )
    print(f"| {what} | {ours:.2f} | {others} |", flush=True)


class Pair:
    """A model of ours and the published one with the same weights, and packs for both."""

    def __init__(self, config: ReferenceConfig, published: Published, folder: Path) -> None:
        self.config, self.published, self.folder = config, published, folder
        self.bench = Bench(SHAPE)
        with torch.no_grad():
            self.bench.model.latent_out.weight.normal_(0, 0.02, generator=self.bench.generator)
        save_pretrained(self.bench.model, folder, layout="bagel")

    def step(self) -> None:
        """Forward and backward passes of packs of imagining samples."""
        theirs, objective = self.published.load(self.folder).train(), Objective(self.bench.model, LossConfig())
        for samples in self.config.samples:
            self._step([self.bench.imagining(self.config.side, 16)] * samples, "imagining", theirs, objective)
        theirs.config.visual_gen = False  # what its trainer sets for such runs
        answering = [self.bench.vit(20), self.bench.text(44), self.bench.text(8)]
        self._step([answering] * 8, "label-only", theirs, objective)

    def _step(self, samples: list[list[Segment]], kind: str, theirs: Any, objective: Objective) -> None:
        batch = lay_out(samples, TOKENS, SHAPE.geometry)
        losses, (images, target_FD) = objective.config, noised(batch, 0, 1.0)
        counts = token_counts(batch, losses).tolist()
        noise_GD = torch.zeros_like(batch.latents_GD)
        noise_GD[torch.from_numpy(batch.spans.is_noised)] = target_FD + batch.noised_latents()
        self.published.torch.noise = noise_GD
        given = inputs_of(batch, images.timesteps_J, SHAPE)
        given["nested_attention_masks"] = published_masks(batch.spans, self.published)

        def ours() -> tuple[float, float]:
            objective.model.zero_grad()
            loss = losses.total(mean_losses(objective(batch, images, target_FD), batch, counts, losses))
            loss.backward()
            return loss.item(), gradient_norm(objective.model)

        def published() -> tuple[float, float]:
            theirs.zero_grad()
            found = theirs(**given)
            loss = found["ce"].mean() + (0 if found["mse"] is None else found["mse"].mean(-1).mean())
            loss.backward()
            return loss.item(), gradient_norm(theirs)

        for name, a, b in zip(("losses", "gradient norms"), ours(), published(), strict=True):
            print(f"{name}: {a:.6f} ours, {b:.6f} published", file=sys.stderr)
        peaks = " / ".join(f"{extra_memory(run):,.0f}" for run in (published, ours))
        taken = in_turn(self.config.repeats, ours=ours, published=published)
        what = f"{len(samples)} {kind} samples, {batch.spans.num_tokens:,} tokens, {peaks} MB theirs / ours"
        show(f"forward + backward, {what}", taken)

    def answer(self) -> None:
        """Answers of 32 tokens after prompts of 775, of which 625 are of a picture."""
        theirs, ours = self._writers()
        requests = self._requests(max(self.config.batches), 25, (120, 24))
        first, other = ours.answer(requests[:1])[0], theirs.answer(requests[0])
        print(
            f"{sum(a == b for a, b in zip(first, other, strict=False))} tokens of {len(other)} equal", file=sys.stderr
        )
        for count in self.config.batches:
            taken = in_turn(
                self.config.repeats,
                ours=lambda count=count: ours.answer(requests[:count]),
                published=lambda: theirs.answer(requests[0]),
            )
            show(f"answer, batch {count}", taken | {"ours": taken["ours"] / count})

    def image(self) -> None:
        """Images of ``side`` x ``side`` tokens after a prompt of 660."""
        theirs, ours = self._writers()
        counts, side = [count for count in self.config.batches if count <= 8], self.config.side
        requests = self._requests(max(counts), 22, (120, 48))
        noise_BLD = self.bench.random(max(counts), side**2, SHAPE.geometry.latent_size)
        pixels = side * SHAPE.geometry.latent_stride
        both = ours.draw(requests[:1], noise_BLD[:1], side)[0], theirs.draw(requests[0], noise_BLD[0], pixels)
        agreement("latents", *both)
        for count in counts:
            taken = in_turn(
                self.config.repeats,
                ours=lambda count=count: ours.draw(requests[:count], noise_BLD[:count], side),
                published=lambda: theirs.draw(requests[0], noise_BLD[0], pixels),
            )
            show(f"image of {side} x {side} tokens, batch {count}", taken | {"ours": taken["ours"] / count})

    def _writers(self) -> tuple[Theirs, Ours]:
        layers, cache = SHAPE.decoder.layers, self.published.cache
        return Theirs(self.published.load(self.folder), lambda: cache(layers)), Ours(self.bench.model)

    def _requests(self, count: int, patches: int, words: tuple[int, int]) -> list[Request]:
        vocab, patch = SHAPE.decoder.vocab, SHAPE.vision.patch
        return [Request.random(vocab, patches, patch, words, self.bench.generator) for _ in range(count)]

    def mask(self) -> None:
        """What attention needs of a sample of 15,000 tokens: an input and an imagination of 64 x 64 tokens."""
        spans = lay_out([self.bench.imagining(64, 37)], TOKENS, SHAPE.geometry).spans
        columns, like = [getattr(spans, name) for name in SpanTable.__dataclass_fields__], torch.empty(0)
        taken = in_turn(
            self.config.repeats,
            ours=lambda: SdpaAttention(SpanTable(*columns), like),
            published=lambda: published_masks(spans, self.published),
        )
        show(f"masks of a sample of {spans.num_tokens:,} tokens", taken)

    def loader(self) -> None:
        """Samples of Perspective Taking with an input and an imagination of 1024 x 1024 pixels."""
        both = Loaders(self.folder / "loader")
        named = {"ours": both.ours(), "published": both.theirs(False), "published with dense masks": both.theirs(True)}
        costs = per_sample(named, self.config.repeats)
        tokens = " / ".join(f"{cost.tokens / cost.samples:,.0f}" for cost in costs.values())
        show(
            f"loader, a sample of {tokens} tokens", {name: cost.seconds / cost.samples for name, cost in costs.items()}
        )

    def loading(self) -> None:
        taken: dict[str, list[float]] = {"ours": [], "trainer": [], "app": []}
        for _ in range(self.config.repeats):
            for way, seconds in taken.items():
                given = [
                    f"reference={self.config.reference}",
                    f"loading=[{self.folder},{way}]",
                    f"threads={self.config.threads}",
                ]
                command = [sys.executable, "-m", "benchmarks.reference", *given]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                seconds.append(float(done.stdout.split()[-1]))
        show("loading a folder", {way: statistics.median(seconds) for way, seconds in taken.items()})


def gradient_norm(model: torch.nn.Module) -> float:
    return float(sum(p.grad.double().square().sum() for p in model.parameters() if p.grad is not None)) ** 0.5


def loaded(config: ReferenceConfig) -> float:
    """CPU-seconds of one loading; what it imports while it loads counts."""
    folder, way = Path(config.loading[0]), config.loading[1]
    published = None if way == "ours" else Published(Path(config.reference))
    start = time.process_time()
    if published is None:
        from_pretrained(folder)
    else:
        {"trainer": published.load, "app": published.dispatched}[way](folder)
    return time.process_time() - start
