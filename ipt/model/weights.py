"""Safetensors files: finding the shards of a folder, reading them with bounded memory, writing them atomically; and weights that
are divided among processes: which part of a tensor this one holds.

Weights that are used as they are stored are mapped: pages are read when they are first used, and are the system's to drop. Those
that are converted or sent to a device are copied, and copying reopens a shard after every sixteenth of its bytes: an open file
keeps the pages it has read in the process's memory, so one pass through an open shard would hold the weights twice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ipt.common.errors import MissingFile, UnwritableFile, UserError
from ipt.common.files import CorruptFile, read_typed, sync_folder, write_json

Part = tuple[slice, ...]


def is_divided(tensor: Tensor) -> bool:
    """Whether processes share the tensor, which is a ``DTensor`` then; importing that class takes a second, also in inference."""
    return hasattr(tensor, "to_local")


def own_part(tensor: Tensor) -> Part:
    """Where the numbers that this process holds lie in the whole tensor."""
    if not is_divided(tensor):
        return tuple(slice(0, size) for size in tensor.shape)
    (chunk,) = tensor.__create_chunk_list__()  # type: ignore[attr-defined]
    return tuple(slice(start, start + size) for start, size in zip(chunk.offsets, chunk.sizes, strict=True))


def own_numbers(tensor: Tensor) -> Tensor:
    """The numbers that this process holds, to be written to without recording gradients."""
    return tensor.to_local() if is_divided(tensor) else tensor  # type: ignore[attr-defined]


@torch.no_grad()
def fill_normal(tensor: Tensor, deviation: float, generator: torch.Generator) -> None:
    """Normal numbers around 0, the same however the tensor is divided: each process draws all of them and keeps its own."""
    if not is_divided(tensor):
        tensor.normal_(0, deviation, generator=generator)
        return
    full = torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device).normal_(
        0, deviation, generator=generator
    )
    own_numbers(tensor).copy_(full[own_part(tensor)])


def root_mean_square(tensor: Tensor) -> float:
    """Of all its numbers, to three digits: the same however it is divided. All processes call this."""
    total = tensor.detach().float().square().sum()
    whole: Tensor = total.full_tensor() if is_divided(total) else total  # type: ignore[attr-defined]
    return float(f"{(float(whole) / tensor.numel()) ** 0.5:.3g}")


INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Index:
    """The index of a folder of shards: the file of each tensor."""

    weight_map: dict[str, str]


PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def weight_files(folder: Path, weights: str | None = None) -> list[Path]:
    """The safetensors files of a model in ``folder``: those of the index, or the one named ``weights``, or the only one of
    ``model.safetensors`` and ``ema.safetensors``.

    Raises ``FileNotFoundError`` where there is none and ``ValueError`` for pickled weights or an ambiguous choice.
    """
    if weights is not None:
        if not weights.endswith(".safetensors"):
            raise UserError(
                f"{folder / weights}: only safetensors are loaded (a pickle can run code); convert it first"
            )
        return [_existing(folder, weights)]
    index = folder / INDEX
    if index.is_file():
        shards = read_typed(Index, index).weight_map.values()
        return [_existing(folder, name) for name in sorted({*shards})]
    found = [folder / name for name in ("model.safetensors", "ema.safetensors") if (folder / name).is_file()]
    if len(found) == 2:
        raise UserError(f"{folder} holds both {found[0].name} and {found[1].name}; choose one with weights=...")
    if not found:
        pickles = [path.name for path in sorted(folder.glob("*")) if path.suffix in PICKLES]
        if pickles:
            raise UserError(
                f"{folder} holds only pickled weights ({', '.join(pickles)}), which can run code; convert them"
            )
        raise MissingFile(f"{folder} holds no {INDEX}, model.safetensors or ema.safetensors")
    return found


def _existing(folder: Path, name: str) -> Path:
    if Path(name).name != name:
        raise UserError(f"{folder / INDEX} points outside its folder: '{name}'")
    if not (folder / name).is_file():
        raise MissingFile(f"{folder / name} is missing")
    return folder / name


def headers(files: list[Path]) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Name to (shape, dtype) of all tensors of ``files``, without reading data. A name that occurs twice is an error, and so is a
    tensor of a type that weights do not have."""
    found: dict[str, tuple[tuple[int, ...], torch.dtype]] = {}
    for path in files:
        with opened(path) as handle:
            for name in handle.keys():  # noqa: SIM118 (a handle is not a mapping)
                if name in found:
                    raise UserError(f"tensor '{name}' occurs twice, the second time in {path}")
                part = handle.get_slice(name)
                if (kind := part.get_dtype()) not in _DTYPES:
                    raise UserError(f"{path}: tensor '{name}' is of type {kind}; weights are {', '.join(_DTYPES)}")
                found[name] = tuple(part.get_shape()), _DTYPES[kind]
    return found


_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_DTYPES |= {"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}


def opened(path: Path) -> Any:
    """A safetensors file to read from; ``CorruptFile`` for one that is cut off, or none."""
    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        raise CorruptFile(f"{path} is not a whole safetensors file ({error}); copy or download it again") from error


def mapped_tensors(files: list[Path]) -> dict[str, Tensor]:
    """All tensors of ``files`` in memory that is mapped to these, privately: what is written to them does not reach the
    files, and a file that is replaced (not written over) does not reach them."""
    found: dict[str, Tensor] = {}
    for path in files:
        with opened(path) as handle:
            found |= {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118 (a handle is not a mapping)
    return found


def read_tensors(files: list[Path], parts: Mapping[str, Part] | None = None) -> Iterator[tuple[str, Tensor]]:
    """All tensors, one at a time; of those in ``parts`` that part alone, and nothing else of them is read from the disk. Use each
    before asking for the next: its memory is that of the open file."""
    parts = parts or {}
    for path in files:
        budget = max(path.stat().st_size // 16, 1)
        with opened(path) as handle:
            names = handle.offset_keys()
        while names:
            used = 0
            with opened(path) as handle:
                while names and used < budget:
                    name = names[0]
                    tensor = handle.get_slice(name)[parts[name]] if name in parts else handle.get_tensor(name)
                    used += tensor.nbytes
                    yield names.pop(0), tensor
                    del tensor


def write_weights(
    folder: Path, tensors: Mapping[str, Tensor], stem: str, shard_bytes: int, dtype: torch.dtype | None = None
) -> None:
    """Write tensors, in order, as ``stem.safetensors`` or as shards of at most ``shard_bytes`` with an index, which comes last.

    Copies (to the CPU, to ``dtype``) exist for one shard at a time.
    """
    sizes = {name: t.numel() * (dtype or t.dtype).itemsize for name, t in tensors.items()}
    plan: list[list[str]] = [[]]
    used = 0
    for name, size in sizes.items():
        if plan[-1] and used + size > shard_bytes:
            plan.append([])
            used = 0
        plan[-1].append(name)
        used += size
    folder.mkdir(parents=True, exist_ok=True)
    (folder / INDEX).unlink(missing_ok=True)
    weight_map: dict[str, str] = {}
    for number, names in enumerate(plan, start=1):
        file = f"{stem}.safetensors" if len(plan) == 1 else f"{stem}-{number:05d}-of-{len(plan):05d}.safetensors"
        shard = {n: tensors[n].detach().to("cpu", dtype or tensors[n].dtype).contiguous() for n in names}
        save_tensors(shard, folder / file)
        weight_map |= dict.fromkeys(names, file)
    if len(plan) > 1:
        write_json(folder / INDEX, {"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map})


def save_tensors(tensors: dict[str, Tensor], path: Path, metadata: Mapping[str, Any] | None = None) -> None:
    """Write one safetensors file atomically; ``metadata`` values are stored as JSON texts. The same numbers give the same bytes.
    Raises ``OSError`` that names a file that cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        save_file(tensors, partial, {key: json.dumps(value) for key, value in metadata.items()} if metadata else None)
        with partial.open("r+b") as stream:
            _sort_metadata(stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
        sync_folder(path.parent)
    except SafetensorError as error:
        raise UnwritableFile(f"{path} could not be written ({error})") from error
    finally:
        partial.unlink(missing_ok=True)


def _sort_metadata(stream: BinaryIO) -> None:
    """Give the metadata of a safetensors file, which the library writes in an order of chance, that of its keys: digests of a
    checkpoint would change with every export."""
    size = int.from_bytes(stream.read(8), "little")
    header = json.loads(stream.read(size))
    if about := header.get("__metadata__"):
        header["__metadata__"] = dict(sorted(about.items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        stream.seek(8)
        stream.write(text.ljust(size))
