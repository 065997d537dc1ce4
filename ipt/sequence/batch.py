"""One packed sequence with all its inputs and labels, and the functions that lay segments or single tokens out in it.

Shape suffixes: X text and marker tokens, V ViT patches, G latent tokens, F noised latent tokens, I latent images, J noised
ones, C trained text positions, Z latent slots, D numbers per token, N samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ipt.sequence.pictures import Picture, normalised, patchify
from ipt.sequence.replay import Replay
from ipt.sequence.segments import Codes, Kind, Latents, Pixels, Segment, Slots, SpecialTokens, TokenIds
from ipt.sequence.settings import Geometry
from ipt.sequence.spans import Expert, Loss, Mode, Role, Span, SpanTable

Grid = tuple[int, int]


@dataclass(frozen=True)
class Origin:
    """Where a sample of a batch comes from: the part of the mixture, the sample's id, and its position in the order of the data,
    which no other sample of the run has."""

    part: str
    sample_id: str
    position: int


@dataclass(frozen=True)
class NoisedImages:
    """What stands in the place of a batch's noised images: x_t [F, D] at ``timesteps_J`` in [0, 1], one per noised image."""

    x_t_FD: Tensor
    timesteps_J: Tensor


@dataclass(frozen=True)
class PackedBatch:
    """Inputs of one forward pass, each in packed order. Kinds that are absent are tensors with zero rows.

    ``latents_GD``: float32, clean; what the model sees in the place of noised images is a `NoisedImages` of its own.
    ``pictures``: uint8 [3, H, W], each once, that the codec has still to encode; ``picture_of``: the picture of each latent
    image, -1 where its latents are there. ``origins``: one per sample, in batches that a loader made.

    ``code_pictures``: uint8 [3, H, W], each once, whose codes have still to be found, and ``code_places`` where: picture, first
    text token, and first label or -1. Until then these tokens and labels are code 0.

    ``vectors_ZD``: what the latent slots hold, where they are given as vectors. ``shown``: the images that they are made of
    otherwise, laid out by themselves, and ``pools`` how many slots each is pooled to, and how. Free slots have neither.

    ``replay``: in packs of rollouts, what the model chose there.
    """

    spans: SpanTable
    token_ids_X: Tensor
    patches_VD: Tensor
    patch_grids: tuple[Grid, ...]
    latents_GD: Tensor
    latent_grids: tuple[Grid, ...]
    labels_C: Tensor
    pictures: tuple[Tensor, ...] = ()
    picture_of: tuple[int, ...] = ()
    origins: tuple[Origin, ...] = ()
    code_pictures: tuple[Tensor, ...] = ()
    code_places: tuple[tuple[int, int, int], ...] = ()
    vectors_ZD: Tensor | None = None
    shown: PackedBatch | None = None
    pools: tuple[tuple[int, str], ...] = ()
    replay: Replay | None = None

    @property
    def waits(self) -> bool:
        """Whether a codec has still to encode pictures (`encoded`, `coded`)."""
        return bool(self.pictures or self.code_pictures) or (self.shown is not None and self.shown.waits)

    @property
    def cells(self) -> NDArray[np.float32]:
        """[S, 2] row and column of every image token: the centre of its cell as a share of the image's height and width, whatever
        its encoder's grid. 0 for all other tokens."""
        cells = np.zeros((self.spans.num_tokens, 2), dtype=np.float32)
        for is_latent, grids in ((False, self.patch_grids), (True, self.latent_grids)):
            tokens = self.spans.is_body & (self.spans.is_generation == is_latent)
            cells[tokens] = np.concatenate([np.empty((0, 2)), *(_centres(grid) for grid in grids)])
        return cells

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PackedBatch:
        """The same batch with its tensors on ``device``."""
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if isinstance(getattr(self, f.name), Tensor)}
        moved: dict[str, Any] = {name: t.to(device, non_blocking=non_blocking) for name, t in tensors.items()}
        pictures, code_pictures = (
            tuple(picture.to(device, non_blocking=non_blocking) for picture in each)
            for each in (self.pictures, self.code_pictures)
        )
        moved["shown"], moved["replay"] = (
            None if each is None else each.to(device, non_blocking=non_blocking) for each in (self.shown, self.replay)
        )
        return replace(self, **moved, pictures=pictures, code_pictures=code_pictures)

    def encoded(self, encode: Callable[[Sequence[Tensor]], Sequence[Tensor]]) -> PackedBatch:
        """The same batch with latents in the place of its pictures; ``encode`` is a codec's, from float32 images [3, H, W] in
        [-1, 1] to latents [C, h, w]. An image that occurs several times (noised and clean) is encoded once."""
        if self.shown is not None and self.shown.pictures:
            return replace(self, shown=self.shown.encoded(encode)).encoded(encode)
        if not self.pictures:
            return self
        latents = encode([normalised(picture) for picture in self.pictures])
        sizes = [rows * columns for rows, columns in self.latent_grids]
        pieces = list(torch.split(self.latents_GD, sizes))
        for image, (picture, (_, columns)) in enumerate(zip(self.picture_of, self.latent_grids, strict=True)):
            if picture >= 0:
                tokens = patchify(latents[picture], latents[picture].shape[2] // columns)
                if tokens.shape != pieces[image].shape:
                    raise ValueError(
                        f"picture {picture} became latent tokens {tuple(tokens.shape)}, the batch has room for "
                        f"{tuple(pieces[image].shape)}: the codec and the model's geometry do not fit together"
                    )
                pieces[image] = tokens.to(self.latents_GD)
        return replace(self, latents_GD=torch.cat(pieces), pictures=(), picture_of=())

    def coded(self, encode: Callable[[Sequence[Tensor]], Sequence[Tensor]]) -> PackedBatch:
        """The same batch with the codes of its pictures; ``encode`` is a code codec's, from float32 images [3, H, W] in [-1, 1]
        to codes [h, w]."""
        if not self.code_pictures:
            return self
        codes = [found.flatten() for found in encode([normalised(picture) for picture in self.code_pictures])]
        ids_X, labels_C = self.token_ids_X.clone(), self.labels_C.clone()
        for picture, token, label in self.code_places:
            own = codes[picture].to(ids_X)
            ids_X[token : token + len(own)] += own
            if label >= 0:
                labels_C[label : label + len(own)] += own
        return replace(self, token_ids_X=ids_X, labels_C=labels_C, code_pictures=(), code_places=())

    def noised_latents(self) -> Tensor:
        """[F, D] the clean latents of the noised images. ``ValueError`` before `encoded`."""
        if self.pictures:
            raise ValueError(f"{len(self.pictures)} pictures of the batch have no latents yet; call encoded first")
        return self.latents_GD[torch.from_numpy(np.flatnonzero(self.spans.is_noised)).to(self.latents_GD.device)]

    def seen_latents(self, noised: NoisedImages | None = None) -> tuple[Tensor, Tensor]:
        """What the model reads: latents [G, D] with x_t in the noised images, and times [I], 0 for clean images.

        Raises ``ValueError`` before `encoded`, and where ``noised`` does not match the noised images of the batch.
        """
        if self.pictures:
            raise ValueError(f"{len(self.pictures)} pictures of the batch have no latents yet; call encoded first")
        latents_GD, timesteps_I = self.latents_GD, self.latents_GD.new_zeros(len(self.latent_grids))
        images = torch.from_numpy(self.spans.noised_images).to(latents_GD.device)
        if noised is None and not len(images):
            return latents_GD, timesteps_I
        rows = torch.from_numpy(np.flatnonzero(self.spans.is_noised)).to(latents_GD.device)
        expected = (len(rows), latents_GD.shape[1])
        if noised is None or noised.x_t_FD.shape != expected or noised.timesteps_J.shape != images.shape:
            given = "none" if noised is None else f"{tuple(noised.x_t_FD.shape)} and {tuple(noised.timesteps_J.shape)}"
            raise ValueError(f"{len(images)} noised images need x_t {expected} and as many timesteps, got {given}")
        latents_GD = latents_GD.clone()
        latents_GD[rows] = noised.x_t_FD.to(latents_GD)
        timesteps_I[images] = noised.timesteps_J.to(timesteps_I)
        return latents_GD, timesteps_I


def _centres(grid: Grid) -> NDArray[np.float64]:
    rows, columns = grid
    row, column = np.indices(grid).reshape(2, -1) + 0.5
    return np.stack([row / rows, column / columns], axis=1)


def lay_out(
    samples: Sequence[Sequence[Segment]],
    tokens: SpecialTokens,
    geometry: Geometry,
    positions: Sequence[int] | None = None,
) -> PackedBatch:
    """Lay samples out back to back. ``positions``: the rope id at which each sample starts (default 0; at inference, where
    its cached context ends). Pictures are decoded here: a broken one is a ``BadImage`` error. Raises ``ValueError`` for images
    that cannot be cut into patches, and for a number of positions that is not that of the samples."""
    spans: list[Span] = []
    text, labels = [torch.empty(0, dtype=torch.long)], [torch.empty(0, dtype=torch.long)]
    rows = {Kind.VIT: [torch.empty(0, geometry.patch_size)], Kind.VAE: [torch.empty(0, geometry.latent_size)]}
    grids: dict[Kind, list[Grid]] = {Kind.VIT: [], Kind.VAE: []}
    pictures: dict[Picture, int] = {}
    picture_of: list[int] = []
    slots: list[Slots] = []
    coded: dict[Picture, int] = {}
    code_places: list[tuple[int, int, int]] = []
    bos, eos = torch.tensor([tokens.bos]), torch.tensor([tokens.eos])
    markers = torch.tensor([tokens.image_start, tokens.image_end])
    if positions is not None and len(positions) != len(samples):
        raise ValueError(f"{len(samples)} samples cannot start at {len(positions)} positions")
    for number, segments in enumerate(samples):
        position = 0 if positions is None else positions[number]
        for segment in segments:
            kind, payload = segment.kind, segment.payload
            if segment.dropped:
                position += kind.mode is Mode.FULL
                continue
            if kind.mode is Mode.CAUSAL:
                if isinstance(payload, TokenIds):
                    ids = torch.cat([bos, payload.ids, eos])
                else:
                    ids = torch.cat([markers[:1], code_ids(segment, geometry), markers[1:]])
                if isinstance(payload, Picture):
                    place = -1 if segment.loss is Loss.NONE else sum(map(len, labels))
                    code_places.append((coded.setdefault(payload, len(coded)), sum(map(len, text)) + 1, place))
                text.append(ids)
                length = len(ids)
                if segment.loss is not Loss.NONE:
                    labels.append(ids[1:])
                    if segment.end_label is not None:
                        labels.append(ids.new_tensor([segment.end_label]))
            elif isinstance(payload, Slots):
                slots.append(payload)
                length = payload.count
                if segment.end_label is not None:
                    labels.append(bos.new_tensor([segment.end_label]))
            else:
                grid = segment.grid(geometry)
                source = Kind.VIT if kind is Kind.VIT else Kind.VAE
                if source is Kind.VAE:
                    number_of = pictures.setdefault(payload, len(pictures)) if isinstance(payload, Picture) else -1
                    picture_of.append(number_of)
                text.append(markers)
                grids[source].append(grid)
                rows[source].append(image_tokens(segment, grid, geometry))
                length = len(rows[source][-1]) + 2
            span = Span(number, length, kind.mode, kind.expert, position, segment.role, segment.blocked, segment.loss)
            spans.append(span)
            position = span.next_position
    return PackedBatch(
        spans=SpanTable.from_spans(spans),
        token_ids_X=torch.cat(text),
        patches_VD=torch.cat(rows[Kind.VIT]),
        patch_grids=tuple(grids[Kind.VIT]),
        latents_GD=torch.cat(rows[Kind.VAE]),
        latent_grids=tuple(grids[Kind.VAE]),
        labels_C=torch.cat(labels),
        pictures=tuple(picture.pixels() for picture in pictures),
        picture_of=tuple(picture_of),
        code_pictures=tuple(picture.pixels() for picture in coded),
        code_places=tuple(code_places),
        **held(slots, tokens, geometry),
    )


def held(slots: Sequence[Slots], tokens: SpecialTokens, geometry: Geometry) -> dict[str, Any]:
    """The fields of a batch that say what its latent slots hold. Raises ``ValueError`` where they are not all of one kind."""
    vectors = [each.content for each in slots if isinstance(each.content, Tensor)]
    seen = [each.content for each in slots if isinstance(each.content, Segment)]
    if vectors and len(vectors) == len(slots):
        return {"vectors_ZD": torch.cat(vectors)}
    if seen and len(seen) == len(slots):
        pools = tuple((each.count, each.pool) for each in slots)
        return {"shown": lay_out([[image] for image in seen], tokens, geometry), "pools": pools}
    if vectors or seen:
        raise ValueError("the latent slots of a batch are all given as vectors, all made of images, or all free")
    return {}


def code_ids(segment: Segment, geometry: Geometry) -> Tensor:
    """[L] ids of a picture's codes in raster order; code 0 for one that has still to be encoded."""
    rows, columns = segment.grid(geometry)
    if isinstance(segment.payload, Codes):
        return geometry.first_code + segment.payload.values.flatten()
    return torch.full((rows * columns,), geometry.first_code)


def image_tokens(segment: Segment, grid: Grid, geometry: Geometry) -> Tensor:
    """[L, D] patches or latent tokens of an image; zeros for a picture that the codec has still to encode."""
    payload = segment.payload
    if isinstance(payload, Latents):
        return patchify(payload.values, geometry.latent_patch)
    if segment.kind is not Kind.VIT:
        return torch.zeros(grid[0] * grid[1], geometry.latent_size)
    assert isinstance(payload, Picture | Pixels)
    pixels = normalised(payload.pixels()) if isinstance(payload, Picture) else payload.values
    return patchify(pixels, geometry.vit_patch)


def single_tokens(
    ids_N: Tensor,
    positions: Sequence[int],
    geometry: Geometry,
    role: Role = Role.ANSWER,
    blocked: frozenset[Role] = frozenset(),
) -> PackedBatch:
    """One text token per sample: `token_runs` of length 1."""
    return token_runs(ids_N, [1] * len(positions), positions, geometry, role, blocked)


def token_runs(
    ids_X: Tensor,
    lengths: Sequence[int],
    positions: Sequence[int],
    geometry: Geometry,
    role: Role = Role.ANSWER,
    blocked: frozenset[Role] = frozenset(),
) -> PackedBatch:
    """Text tokens without markers, ``lengths[i]`` of them for sample i, from the given rope ids on: the input of a decoding
    step. Logits are asked for at each; there are no labels. ``role`` and ``blocked`` are those of the text they belong to."""
    spans = [
        Span(number, length, Mode.CAUSAL, Expert.UNDERSTANDING, position, role, blocked, Loss.CE_WITH_END)
        for number, (length, position) in enumerate(zip(lengths, positions, strict=True))
    ]
    empty = torch.empty(0, device=ids_X.device)
    return PackedBatch(
        spans=SpanTable.from_spans(spans),
        token_ids_X=ids_X,
        patches_VD=empty.reshape(0, geometry.patch_size),
        patch_grids=(),
        latents_GD=empty.reshape(0, geometry.latent_size),
        latent_grids=(),
        labels_C=ids_X[:0],
    )


def slot_tokens(
    vectors_ZD: Tensor,
    positions: Sequence[int],
    geometry: Geometry,
    role: Role = Role.IMAGINATION,
    blocked: frozenset[Role] = frozenset(),
) -> PackedBatch:
    """One latent slot per sample, at the given rope ids: the input of a step of inference. Logits are asked for at each."""
    empty = torch.empty(0, dtype=torch.long, device=vectors_ZD.device)
    batch = token_runs(empty, [1] * len(positions), positions, geometry, role, blocked)
    modes = np.full(len(positions), Mode.SLOTS)
    spans = replace(batch.spans, mode=modes.astype(np.int64), loss=np.full(len(positions), Loss.END).astype(np.int64))
    return replace(batch, spans=spans, vectors_ZD=vectors_ZD)
