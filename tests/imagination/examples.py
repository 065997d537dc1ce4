"""Hand-made samples, one per task, in plain colours; a tokenizer of bytes; settings of a few tokens per image."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch

from ipt.common.images import encode_image
from ipt.imagination.base import Imagination
from ipt.imagination.mixture import ImaginationConfig, make_mode
from ipt.imagination.modes import modes
from ipt.imagination.modes.ipt import Ipt
from ipt.imagination.recipe import load_profile
from ipt.model.codes import PatchKMeans
from ipt.model.config import CodesConfig
from ipt.samples.prompts import RELEASE_LAYOUTS, Profile
from ipt.samples.sample import Provenance, SampleImage, SpatialSample
from ipt.sequence.render import Renderer
from ipt.sequence.settings import Geometry, GuidanceDropout, Resolution, SequenceConfig
from ipt.sequence.tokenizer import BYTES, SPECIAL_NAMES, Tokenizer, train_tokenizer

CODES = CodesConfig(count=8, stride=4)
GEOMETRY = Geometry(4, 2, 3, 2, code_stride=CODES.stride, first_code=BYTES + len(SPECIAL_NAMES))
RESOLUTION = Resolution(input_side=12, input_min_side=8, vit_side=16, vit_min_side=8, imagination=2)
CONFIG = SequenceConfig(resolutions=dict.fromkeys(("pet", "pt", "mvc"), RESOLUTION), dropout=GuidanceDropout(text=0.0))
RELEASE = Profile(
    "release",
    {f"{task}/{mode}": f"[system prompt of {task}, {mode}]" for task in RELEASE_LAYOUTS for mode in tuple(modes)},
    {task: (f"[thought of {task}]",) for task in RELEASE_LAYOUTS},
    RELEASE_LAYOUTS,
)
#: The modes that end in an answer.
ANSWERING = tuple(name for name, made in modes.items() if made.answers)
PROFILES = {"default": load_profile(), "release": RELEASE}
TASKS: dict[str, dict[str, Any]] = {
    "pet": {
        "question": "If you walk to the 'X' and turn left, is the lamp closer or further?",
        "question_type": "distance_change_closer",
        "choices": ("Further", "Closer"),
        "answer": "B",
        "roles": ("observation",),
        "kind": "view",
        "rationale": "1. The lamp is ahead.\n2. The X is nearer to it.",
        "caption": "From the X, the lamp is in the left half of the view.",
    },
    "pt": {
        "question": "You walk the path on <image_1>; <image_2> and <image_3> show its ends. What is on your left at M1?",
        "question_type": "td_ego_dir",
        "choices": ("a bed", "a chair", "a sink", "a lamp"),
        "answer": "C",
        "roles": ("map", "ego_1", "ego_2"),
        "kind": "side_view",
        "rationale": "At M1 the heading is north, so left is west, where the sink is.",
        "caption": "Looking left from M1: a sink.",
    },
    "mvc": {
        "question": "How many chairs are there? Count <answer>D</answer> once.",
        "question_type": "rotation",
        "choices": ("1", "2", "3", "4"),
        "answer": "A",
        "roles": ("frame_0", "frame_1", "frame_2", "frame_3"),
        "kind": "bev",
        "rationale": "Frame 1 shows one chair. The total number is 1.",
        "caption": "Seen from above, the area holds one chair.",
    },
}


@functools.cache
def plain(red: int, green: int, blue: int, width: int = 16, height: int = 16) -> bytes:
    """A PNG of one colour."""
    return encode_image(np.full((height, width, 3), (red, green, blue), np.uint8))


def noise_picture(seed: int, size: int = 16) -> bytes:
    """A PNG of random pixels."""
    return encode_image(np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8))


def example(task: str = "pet", **changes: Any) -> SpatialSample:
    """The sample of a task: input image k has the colour (40 k, 0, 0), the imagination (0, 200, 0)."""
    fields = dict(TASKS[task])
    roles, kind = fields.pop("roles"), fields.pop("kind")
    made: dict[str, Any] = {
        "id": f"{task}-0",
        "task": task,
        "split": "train",
        "images": tuple(SampleImage(plain(40 * k, 0, 0), role) for k, role in enumerate(roles, start=1)),
        "imagination": SampleImage(plain(0, 200, 0), kind),
        "provenance": Provenance("hand", "1", "scene", 0),
        **fields,
    }
    return SpatialSample(**{**made, **changes})


@functools.cache
def byte_tokenizer() -> Tokenizer:
    """One token per byte: no merges, so that golden sequences do not depend on how a tokenizer is trained."""
    return train_tokenizer([], BYTES + len(SPECIAL_NAMES))


@functools.cache
def code_codec() -> PatchKMeans:
    """Eight random patches."""
    centres = torch.rand(CODES.count, 3 * CODES.stride**2, generator=torch.Generator().manual_seed(2))
    return PatchKMeans(centres * 2 - 1, CODES.stride)


def renderer(profile: str = "default", **changes: Any) -> Renderer:
    config = SequenceConfig(**{**CONFIG.__dict__, **changes})
    return Renderer(byte_tokenizer(), GEOMETRY, PROFILES[profile], config)


def mode(name: str, profile: str = "default", **changes: Any) -> Imagination:
    return make_mode(name, renderer(profile, **changes), ImaginationConfig({name: 1.0}))


def ipt(**arguments: Any) -> Ipt:
    """The mode ``ipt`` with the default profile; arguments of `Ipt`."""
    return Ipt(renderer(), **arguments)
