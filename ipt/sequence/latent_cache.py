"""Latents on disk: every picture of a dataset encoded once, so that training never runs the codec.

A cache is a folder of safetensors shards and a manifest, written last. Its keys are hashes of the encoded file and the sizes it
is resized to (`Picture.key`), its content depends on one codec, named by a digest of its weights: a latent that is found is the
right one. Several datasets and sizes can share a folder, and an interrupted run continues where it was.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ipt.common.errors import UserError
from ipt.common.files import CorruptFile, read_manifest, write_bytes, write_manifest
from ipt.sequence.pictures import Picture, normalised
from ipt.sequence.segments import Segment, images
from ipt.sequence.spans import Expert

KIND = "latents"
SHARD_BYTES = 128 * 2**20
OPEN_SHARDS = 32
DTYPES: Mapping[str, torch.dtype] = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

Dtype = Literal["float32", "float16", "bfloat16"]


def codec_pictures(segments: Iterable[Segment]) -> list[Picture]:
    """The pictures of a sample that a codec has to encode."""
    latent = [segment.payload for segment in images(segments) if segment.kind.expert is Expert.GENERATION]
    return [payload for payload in latent if isinstance(payload, Picture)]


class LatentCache:
    """Looks latents up: ``cache(picture)`` is float32 [C, h, w]. Shards are memory-mapped and opened on demand.

    ``codec``: digest of the codec that training would use. Raises ``FileNotFoundError`` for an unfinished folder and
    ``ValueError`` for another codec's; looking up a picture that is not there, or whose latents are not finite, is a
    ``ValueError`` that names it. Each says how to write what is missing.
    """

    def __init__(self, folder: Path, codec: str) -> None:
        self.folder, self.codec = folder, codec
        manifest = read_manifest(folder)
        if manifest.get("kind") != KIND:
            raise CorruptFile(f"{folder} is not a latent cache")
        self._command = manifest["command"]
        if manifest["codec"] != codec:
            raise UserError(
                f"the latents in {folder} come from codec {manifest['codec'][:12]}, this run's is {codec[:12]}; write them anew "
                f"into another folder: {self._command}"
            )
        self._shard_of = {key: name for name, keys in manifest["keys"].items() for key in keys}
        self._open: OrderedDict[str, Any] = OrderedDict()

    def __reduce__(self) -> tuple[type[LatentCache], tuple[Path, str]]:
        return type(self), (self.folder, self.codec)

    def __len__(self) -> int:
        return len(self._shard_of)

    def __call__(self, picture: Picture) -> Tensor:
        shard = self._shard_of.get(picture.key)
        if shard is None:
            width, height = picture.size
            raise UserError(
                f"{picture.what}: {self.folder} has no latents of this file at {width}x{height} pixels: it is of a dataset that "
                "was not encoded, or the data or the sizes have changed since; add them with this command, and this file's "
                f"dataset in it: {self._command}"
            )
        latents: Tensor = self._handle(shard).get_tensor(picture.key)
        if not bool(latents.isfinite().all()):
            raise UserError(
                f"{picture.what}: its latents in {self.folder / shard} are not finite; delete that file and run: {self._command}"
            )
        return latents.float()

    def _handle(self, shard: str) -> Any:
        if shard not in self._open:
            self._open[shard] = open_shard(self.folder / shard)
            if len(self._open) > OPEN_SHARDS:
                self._open.popitem(last=False)
        self._open.move_to_end(shard)
        return self._open[shard]


def open_shard(path: Path) -> Any:
    """A memory-mapped safetensors file; ``CorruptFile`` for a broken one."""
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise CorruptFile(
            f"{path} is not a whole safetensors file ({error}); delete it and run the command again"
        ) from error


class LatentWriter:
    """Adds latents to a folder, skipping what is there; `close` writes the manifest and so declares it complete.

    ``command`` is what a user runs to add missing latents. Raises ``ValueError`` where the folder holds another codec's.
    """

    def __init__(self, folder: Path, codec: str, command: str, dtype: Dtype = "float32") -> None:
        self.folder, self.codec, self.command, self.dtype = folder, codec, command, DTYPES[dtype]
        self._keys: dict[str, list[str]] = {}
        for path in sorted(folder.glob("*.safetensors")):
            handle = open_shard(path)
            found = (handle.metadata() or {}).get("codec")
            if found != codec:
                raise UserError(f"{path} holds latents of codec {found}, not of {codec}; choose another folder")
            self._keys[path.name] = list(handle.keys())
        self._known = {key for keys in self._keys.values() for key in keys}
        self._pending: dict[str, Tensor] = {}

    def missing(self, pictures: Iterable[Picture]) -> list[Picture]:
        """Those of ``pictures`` that have no latents yet, each once."""
        return [picture for key, picture in {p.key: p for p in pictures}.items() if key not in self._known]

    def add(self, pictures: Sequence[Picture], encode: Callable[[Sequence[Tensor]], Sequence[Tensor]]) -> int:
        """Encode those pictures that are missing; ``encode`` is a codec's. Returns how many there were."""
        missing = self.missing(pictures)
        latents = encode([normalised(picture.pixels()) for picture in missing]) if missing else []
        for picture, latent in zip(missing, latents, strict=True):
            self._pending[picture.key] = latent.to("cpu", self.dtype).contiguous()
            self._known.add(picture.key)
        if sum(tensor.nbytes for tensor in self._pending.values()) >= SHARD_BYTES:
            self.flush()
        return len(missing)

    def flush(self) -> None:
        """Write what has been encoded so far as a shard."""
        if self._pending:
            name = f"latents-{len(self._keys):05d}.safetensors"
            write_bytes(self.folder / name, save(self._pending, {"codec": self.codec}))
            self._keys[name], self._pending = list(self._pending), {}

    def close(self) -> None:
        """Flush and write the manifest. ``ValueError`` where there is nothing."""
        self.flush()
        if not self._keys:
            raise UserError(f"no picture to encode for {self.folder}: these sequences hold no image that a codec sees")
        content = {"kind": KIND, "codec": self.codec, "command": self.command, "keys": self._keys}
        write_manifest(self.folder, list(self._keys), content)
