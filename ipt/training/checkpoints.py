"""Checkpoints that are complete or absent: sharded tensors (``torch.distributed.checkpoint``), progress, and a manifest.

    checkpoints/step_00000400/   __0_0.distcp ... .metadata   tensors, each rank its own shards
                                 progress.json               step, loader state, counters
                                 manifest.json               sizes and SHA-256 of all files, written last

A checkpoint is written beside its place and renamed once it is complete; a folder without a manifest does not count. That happens
in threads while training goes on, and each rank takes the digests of its own files. Tensors are read into those of the running
process, whatever its world size. The metadata of ``torch.distributed.checkpoint`` is a
pickle: load checkpoints of your own runs only. Weights for others are exported as safetensors.
"""

from __future__ import annotations

import math
import re
import shutil
import warnings
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save

from ipt.common.errors import UnwritableFile, UserError
from ipt.common.files import (
    MANIFEST,
    CorruptFile,
    file_entry,
    read_json,
    read_manifest,
    sync_folder,
    write_json,
    write_manifest,
)
from ipt.training.distributed import World
from ipt.training.settings import CheckpointConfig

PROGRESS, METADATA = "progress.json", ".metadata"
NAME = re.compile(r"step_(\d{8})")


class Checkpoints:
    """The checkpoints of one run, in ``folder``."""

    def __init__(self, folder: Path, config: CheckpointConfig, world: World) -> None:
        self.folder, self.config, self.world = folder, config, world
        self._group = dist.new_group(backend="gloo") if world.size > 1 else None
        self._thread, self._saving = ThreadPoolExecutor(1), None  # type: tuple[ThreadPoolExecutor, Future[None] | None]

    def complete(self) -> list[Path]:
        """All complete checkpoints, oldest first."""
        found = [path for path in self.folder.glob("step_*") if NAME.fullmatch(path.name)]
        return sorted(path for path in found if (path / MANIFEST).is_file())

    def latest(self) -> Path | None:
        """The newest complete checkpoint."""
        return next(reversed(self.complete()), None)

    def save(self, step: int, tensors: Mapping[str, Any], progress: Mapping[str, Any]) -> Path:
        """Begin the checkpoint of ``step`` once the one before is complete; all ranks call this together. ``tensors``: nested
        mappings, which may change as soon as this returns: they are copied to the host's memory, and written while training goes
        on. Older checkpoints go only once this one is complete. `wait` raises what goes wrong."""
        self.wait()
        target = self.folder / f"step_{step:08d}"
        partial = target.with_name(f".{target.name}.partial")
        if self.world.is_main:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        self.world.barrier()
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        written = async_save(dict(tensors), checkpoint_id=partial, process_group=self._group)
        content = {**progress, "step": step}
        self._saving = self._thread.submit(self._finish, written, partial, target, content)  # type: ignore[arg-type]
        return target

    def wait(self) -> None:
        """Wait for the checkpoint that is being written. Raises ``OSError`` that names the folder where that failed; nothing of
        it stays behind."""
        saving, self._saving = self._saving, None
        if saving is not None:
            saving.result()

    def check(self) -> None:
        """`wait` where that takes no time: between steps, so that a run does not go on without checkpoints."""
        if self._saving is not None and self._saving.done():
            self.wait()

    def settle(self) -> None:
        """Wait, whatever comes of it: for a run that ends by another error."""
        if self._saving is not None:
            wait([self._saving])

    def _finish(self, written: Future[Any], partial: Path, target: Path, progress: dict[str, Any]) -> None:
        """In the thread that follows a save: each rank's digests, and on the main one progress, manifest and rename. Ranks talk
        through a group of their own, which the training in between does not use."""
        try:
            written.result()
            own = {path.name: file_entry(path) for path in sorted(partial.glob(f"__{self.world.rank}_*"))}
            entries: list[dict[str, Any]] = [own]
            if self._group is not None:
                entries *= self.world.size
                dist.all_gather_object(entries, own, self._group)
            if self.world.is_main:
                write_json(partial / PROGRESS, progress)
                known = {name: entry for each in entries for name, entry in each.items()}
                content = {"kind": "checkpoint", "step": progress["step"], "score": None}
                write_manifest(partial, [METADATA, PROGRESS], content, known)
                shutil.rmtree(target, ignore_errors=True)
                partial.rename(target)
                sync_folder(self.folder)
                self._prune()
        except (OSError, CheckpointException) as error:
            shutil.rmtree(partial, ignore_errors=True)
            kept = self.latest()
            raise UnwritableFile(
                f"the checkpoint {target} could not be written ({reason(error)}); "
                f"{f'{kept.name} is whole and will be resumed from' if kept else 'there is none before it'}"
            ) from error
        if self._group is not None:
            dist.barrier(self._group)

    def rate(self, step: int, score: float | None) -> None:
        """Add to the checkpoint of ``step`` how good it is, the lower the better; one that is not finite is never the best."""
        self.wait()
        if self.world.is_main and score is not None and math.isfinite(score):
            path = self.folder / f"step_{step:08d}" / MANIFEST
            write_json(path, {**read_json(path), "score": score})
            self._prune()

    def load(self, path: Path, tensors: Mapping[str, Any]) -> dict[str, Any]:
        """Read ``path`` into ``tensors``, in place, and return its progress. Raises ``CorruptFile`` for an altered checkpoint and
        ``ValueError`` for one of another model."""
        self._verify(path)
        try:
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")
            load(dict(tensors), checkpoint_id=path)
        except (CheckpointException, KeyError, ValueError, RuntimeError) as error:
            raise UserError(
                f"{path} does not fit this run's model, tuning or optimizer ({reason(error)}); start anew in another folder"
            ) from error
        progress: dict[str, Any] = read_json(path / PROGRESS)
        return progress

    def _verify(self, path: Path) -> None:
        """The digests of all files, each by one of the ranks."""
        try:
            names = sorted(read_manifest(path)["files"])
            read_manifest(path, names[self.world.rank :: self.world.size])
            damage = None
        except CorruptFile as error:
            damage = str(error)
        for found in self.world.gather(damage):
            if found is not None:
                raise CorruptFile(found)

    def _prune(self) -> None:
        complete = self.complete()
        scores = {path: read_json(path / MANIFEST)["score"] for path in complete}
        scored = sorted((path for path in complete if scores[path] is not None), key=lambda path: (scores[path], path))
        kept = {*complete[-self.config.keep_last :], *scored[: self.config.keep_best]}
        for path in complete:
            if path not in kept:
                # without its manifest a folder that is half deleted does not count as a checkpoint
                (path / MANIFEST).unlink()
                shutil.rmtree(path)


def reason(error: BaseException) -> str:
    """What has caused an error, in one line: of the system, where it has refused something, else the innermost."""
    if isinstance(error, CheckpointException) and error.failures:
        first = next(iter(error.failures.values()))
        error = first[0] if isinstance(first, tuple) else first
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    message = str(cause or error).strip()
    return message.splitlines()[0] if message else type(error).__name__
