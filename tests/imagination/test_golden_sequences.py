"""Committed token sequences, one per task, mode and profile, compared exactly.

Written anew by ``python -m tests.imagination.test_golden_sequences``; read the difference before committing it.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from ipt.sequence.batch import PackedBatch, lay_out
from ipt.sequence.pictures import normalised
from ipt.sequence.spans import Loss, Mode, Role
from ipt.sequence.tokenizer import Tokenizer
from tests.imagination.examples import ANSWERING, GEOMETRY, PROFILES, TASKS, byte_tokenizer, example, mode

FOLDER = Path(__file__).parents[1] / "golden" / "sequences"
CASES = list(itertools.product(TASKS, ANSWERING, PROFILES))


def sequence_text(task: str, name: str, profile: str) -> str:
    """A laid out sample as text. One token is one byte, so equal texts are equal tokens."""
    segments = mode(name, profile).segments(example(task), epoch=0)
    tokenizer = byte_tokenizer()
    return written_out(lay_out([segments], tokenizer.special, GEOMETRY), tokenizer)


def written_out(batch: PackedBatch, tokenizer: Tokenizer) -> str:
    """Span by span: what it is, its rope ids, its tokens (of images: grid and mean colour) and its labels."""
    spans, lines = batch.spans, []
    ids = np.full(spans.num_tokens, -1)
    ids[~spans.is_body & ~np.isin(np.arange(spans.num_tokens), spans.slot_positions)] = batch.token_ids_X.numpy()
    labels = np.full(spans.num_tokens, -1)
    labels[spans.ce_positions] = batch.labels_C.numpy()
    patches = iter(batch.patches_VD.split([rows * columns for rows, columns in batch.patch_grids]))
    pools, shown = iter(batch.pools), iter(() if batch.shown is None else batch.shown.patch_grids)
    patch_grids, latents = iter(batch.patch_grids), iter(zip(batch.latent_grids, batch.picture_of, strict=True))
    for number in range(len(spans)):
        tokens = slice(spans.start[number], spans.start[number] + spans.length[number])
        blocked = [role.name.lower() for role in Role if spans.blocked[number] >> role & 1]
        rope = spans.position_ids[tokens]
        lines.append(
            f"[{number}] {Role(spans.role[number]).name.lower()}, {spans.length[number]} tokens, rope {rope[0]} to {rope[-1]}, "
            f"loss {Loss(spans.loss[number]).name.lower()}, blocked {', '.join(blocked) or 'nothing'}"
        )
        if spans.mode[number] == Mode.SLOTS:
            assert batch.shown is not None
            lines.append(f"slots: {next(pools)[0]} of {next(shown)}")
            continue
        if not spans.is_body[tokens].any():
            lines.append(tokenizer.decode(ids[tokens]))
            if (labels[tokens] >= 0).any():
                lines.append(f"labels: {tokenizer.decode(labels[tokens][labels[tokens] >= 0])}")
            continue
        start, end = tokenizer.decode(ids[tokens][:1]), tokenizer.decode(ids[tokens][-1:])
        if spans.expert[number]:
            grid, picture = next(latents)
            colour, what = normalised(batch.pictures[picture]).mean((1, 2)), f"latents of picture {picture}"
        else:
            grid, colour, what = next(patch_grids), next(patches).reshape(-1, 3).mean(0), "patches"
        mean = [round(float(255 * (value / 2 + 0.5))) for value in colour]
        lines.append(f"{start} {grid[0]} x {grid[1]} {what}, colour {mean} {end}")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(("task", "name", "profile"), CASES)
def test_sequences_are_the_committed_ones(task: str, name: str, profile: str) -> None:
    assert sequence_text(task, name, profile) == (FOLDER / f"{task}.{name}.{profile}.txt").read_text()


def test_there_is_no_other_committed_sequence() -> None:
    assert {path.name for path in FOLDER.glob("*.txt")} == {".".join([*case, "txt"]) for case in CASES}


if __name__ == "__main__":
    for case in CASES:
        FOLDER.joinpath(".".join([*case, "txt"])).write_text(sequence_text(*case))
