"""Stateless random streams: a stream is named, never drawn from a global generator.

``generator(7, "layout", 3)`` is the same stream in every process, on every platform and in every order of calls.
Names enter numpy's SeedSequence as SHA-256 words (Python's ``hash`` is salted per process).
"""

from __future__ import annotations

import hashlib

import numpy as np

from ipt.common.errors import UserError

Name = str | int
MAX_SEED = 2**63 - 1


def seed_sequence(seed: int, *names: Name) -> np.random.SeedSequence:
    """The SeedSequence of the stream ``names`` under ``seed`` (a non-negative integer)."""
    if seed < 0:
        raise UserError(f"a seed must be a non-negative integer, got {seed}")
    words: list[int] = []
    for name in names:
        digest = hashlib.sha256(f"{type(name).__name__}:{name}".encode()).digest()
        words += [int.from_bytes(digest[offset : offset + 4], "little") for offset in (0, 4, 8, 12)]
    return np.random.SeedSequence(seed, spawn_key=tuple(words))


def generator(seed: int, *names: Name) -> np.random.Generator:
    """A fresh generator at the start of the stream ``names`` under ``seed``."""
    return np.random.Generator(np.random.PCG64(seed_sequence(seed, *names)))


def check_seed(seed: int, name: str = "seed") -> None:
    """Raise ``UserError`` for a seed that is negative or does not fit what samples and records keep it in."""
    if not 0 <= seed <= MAX_SEED:
        raise UserError(f"{name} must lie between 0 and 2**63 - 1, got {seed}")


def derived_seed(seed: int, *names: Name) -> int:
    """A 63-bit integer seed for libraries that take nothing else."""
    return int(seed_sequence(seed, *names).generate_state(1, np.uint64)[0] >> np.uint64(1))
