"""The golden fixtures as our types. `IPT_GOLDEN_DIR` points to another set with the same file names."""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ipt.model.checkpoint import from_pretrained
from ipt.model.unified import UnifiedModel
from ipt.sequence.segments import Kind, Latents, Pixels, Segment, SpecialTokens, TokenIds
from ipt.sequence.spans import Loss

COMMITTED = Path(__file__).parents[1] / "golden"
FOLDER = Path(os.environ.get("IPT_GOLDEN_DIR", COMMITTED))
TRAIN_NAMES = sorted(path.stem for path in FOLDER.glob("train_*.json"))
FORWARD, TRAJECTORY, GRADIENT = 2e-5, 1e-4, 1e-4


@functools.cache
def model() -> UnifiedModel:
    return from_pretrained(FOLDER).requires_grad_(True)


def load(name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    info = FOLDER / f"{name}.json"
    return json.loads(info.read_text()) if info.is_file() else {}, load_file(FOLDER / f"{name}.safetensors")


@functools.cache
def special_tokens() -> SpecialTokens:
    ids = json.loads((FOLDER / "special_tokens.json").read_text())
    return SpecialTokens(ids["bos_token_id"], ids["eos_token_id"], ids["start_of_image"], ids["end_of_image"])


def segment(entry: dict[str, Any], tensors: dict[str, Tensor]) -> Segment:
    """One entry of a semantic list."""
    trained, dropped = bool(entry.get("loss")), bool(entry.get("dropped"))
    if entry["type"] == "text":
        end = entry.get("special_token_label")
        loss = Loss.NONE if not trained else Loss.CE if end is None else Loss.CE_WITH_END
        return Segment(Kind.TEXT, TokenIds(torch.tensor(entry["ids"])), loss=loss, end_label=end, dropped=dropped)
    if entry["type"] == "vit_image":
        return Segment(Kind.VIT, Pixels(tensors[entry["pixels"]]), dropped=dropped)
    kind = Kind.VAE_NOISED if trained else Kind.VAE
    return Segment(kind, Latents(tensors[entry["latent"]]), loss=Loss.FLOW if trained else Loss.NONE, dropped=dropped)


def segments(entries: list[dict[str, Any]], tensors: dict[str, Tensor]) -> list[Segment]:
    return [segment(entry, tensors) for entry in entries]


def assert_close(ours: Tensor, theirs: Tensor, tolerance: float, what: str) -> None:
    """Largest absolute difference relative to the largest reference value."""
    assert ours.shape == theirs.shape, f"{what}: {tuple(ours.shape)} against {tuple(theirs.shape)}"
    if theirs.numel():
        error = (ours.detach() - theirs).abs().max() / theirs.abs().max()
        assert error <= tolerance, f"{what}: relative error {error:.2e}"
