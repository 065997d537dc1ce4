"""The published loader beside ours, for `benchmarks.reference`: the same rows, sizes and texts, up to the tensors of a pack.

Of torchvision the published transforms use resizing, conversion and normalisation of one picture; `stand_ins` does these
with the same calls of Pillow and torch, so that the benchmark needs no torchvision, OpenCV or decord.
"""

from __future__ import annotations

import contextlib
import enum
import importlib
import io
import itertools
import sys
import time
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor

from benchmarks.loader import SIZES, dataset
from ipt.imagination.mixture import ImaginationConfig, make_segmenter
from ipt.imagination.recipe import load_profile
from ipt.model.config import presets
from ipt.samples.prompts import IMAGE_END, IMAGE_START, answer_text, render_prompt, think
from ipt.samples.store import SampleReader
from ipt.sequence.loader import Loader, Part
from ipt.sequence.render import Renderer
from ipt.sequence.settings import GuidanceDropout, LoaderConfig, SequenceConfig
from ipt.sequence.tokenizer import Tokenizer, dataset_texts, train_tokenizer

NAME, ROWS = "perspective", 24


class InterpolationMode(enum.Enum):
    """What the published resize names; the value is Pillow's."""

    BICUBIC = Image.Resampling.BICUBIC


def to_tensor(image: Image.Image) -> Tensor:
    """A picture as (3, h, w) in 0..1."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255)


def resize(image: Image.Image, size: tuple[int, int], mode: InterpolationMode, antialias: bool = True) -> Image.Image:
    """A picture of (height, width) pixels."""
    return image.resize(size[::-1], mode.value)


class Normalize:
    """(3, h, w) less mean, by deviation, in place."""

    def __init__(self, mean: list[float], std: list[float], inplace: bool = False) -> None:
        self._mean, self._std = (torch.tensor(values).view(-1, 1, 1) for values in (mean, std))

    def __call__(self, image: Tensor) -> Tensor:
        return image.sub_(self._mean).div_(self._std)


def stand_ins() -> None:
    """Modules under the names that the published loader imports and does not need here."""
    transforms, functional = types.ModuleType("torchvision.transforms"), types.ModuleType("functional")
    transforms.ToTensor = lambda: to_tensor  # type: ignore[attr-defined]
    transforms.Normalize = Normalize  # type: ignore[attr-defined]
    transforms.InterpolationMode, transforms.functional = InterpolationMode, functional  # type: ignore[attr-defined]
    functional.resize = resize  # type: ignore[attr-defined]
    vision = types.ModuleType("torchvision")
    vision.transforms = transforms  # type: ignore[attr-defined]
    names = {
        "torchvision": vision,
        "torchvision.transforms": transforms,
        "torchvision.transforms.functional": functional,
    }
    for name, module in {**names, "cv2": types.ModuleType("cv2"), "decord": types.ModuleType("decord")}.items():
        sys.modules.setdefault(name, module)


class Loaders:
    """Both loaders over ``rows`` questions of Perspective Taking of 1024 x 1024 pixels, written to ``folder``."""

    def __init__(self, folder: Path, rows: int = ROWS) -> None:
        self.profile, self.geometry = load_profile(), presets["bagel_7b_mot"].geometry
        self.reader: SampleReader = dataset(folder / "ours", "pet", rows)
        self.tokenizer: Tokenizer = train_tokenizer(dataset_texts(self.reader, self.profile), 400)
        self.path = folder / "theirs.parquet"
        pq.write_table(pa.Table.from_pylist([self._row(number) for number in range(rows)]), self.path)

    def ours(self) -> Iterator[tuple[int, int]]:
        """Samples and tokens of each pack."""
        config = SequenceConfig(resolutions=SIZES, dropout=GuidanceDropout(text=0.0))
        renderer = Renderer(self.tokenizer, self.geometry, self.profile, config)
        segmenter = make_segmenter(ImaginationConfig({"ipt": 1.0}), renderer, self.reader)
        parts = [Part("pet", self.reader, segmenter)]
        loader = Loader(parts, self.tokenizer.special, self.geometry, LoaderConfig(workers=0), None)
        for pack in loader:
            yield len(pack.origins), pack.spans.num_tokens

    def theirs(self, masks: bool) -> Iterator[tuple[int, int]]:
        """The same of the published loader, with dense masks or, as for flex attention, none."""
        stand_ins()
        base = importlib.import_module("data.dataset_base")
        kind = importlib.import_module("data.interleave_datasets.interleave_t2i_dataset")
        base.DATASET_REGISTRY[NAME] = rows_of(kind, str(self.path))
        base.DATASET_INFO[NAME] = {NAME: {"data_dir": ""}}
        at = SIZES["pet"]
        vae = {"image_stride": self.geometry.latent_stride, "max_image_size": at.input_side}
        vit = {
            "image_stride": self.geometry.vit_patch,
            "max_image_size": at.vit_side,
            "min_image_size": at.vit_min_side,
        }
        grouped = {
            NAME: {
                "dataset_names": [NAME],
                "image_transform_args": {**vae, "min_image_size": at.input_min_side},
                "vit_image_transform_args": vit,
                "num_used_data": [1],
                "parquet_info": {},
                "weight": 1.0,
            }
        }
        config = base.DataConfig(grouped, 0.0, 0.0, 0.0, self.geometry.latent_stride, 64, self.geometry.vit_patch, 70)
        special = self.tokenizer.special
        ids = {
            "bos_token_id": special.bos,
            "eos_token_id": special.eos,
            "start_of_image": special.image_start,
            "end_of_image": special.image_end,
        }
        with contextlib.redirect_stdout(io.StringIO()):  # it tells every pack
            words = types.SimpleNamespace(encode=lambda text: list(self.tokenizer.encode(text)))
            packs = iter(base.PackedDataset(config, words, ids, 0, 1, 1, use_flex=not masks))
        while True:
            with contextlib.redirect_stdout(io.StringIO()):
                pack = next(packs)
            yield len(pack["batch_data_indexes"]), int(pack["packed_position_ids"].numel())

    def _row(self, number: int) -> dict[str, Any]:
        """A sample as the published training data have them: texts and pictures in order."""
        sample = self.reader[number]
        system, _, question = render_prompt(sample, "ipt", self.profile)
        thought = think(self.profile.thoughts_of("pet")[0]) + IMAGE_START
        return {
            "image": sample.images[0].data,
            "imagination": sample.imagination.data,
            "texts": [system.text, question.text, thought, IMAGE_END + answer_text(sample)],
        }


def rows_of(kind: Any, path: str) -> type:
    """The published interleaved dataset for such rows: both encoders see the input, and the imagination once it is drawn."""

    class Rows(kind.InterleavedBaseIterableDataset, kind.ParquetStandardIterableDataset):  # type: ignore[misc]
        def get_data_paths(self, *_: Any) -> list[tuple[str, int]]:
            return [(path, 0)]

        def parse_row(self, row: Any) -> Any:
            system, question, thought, answer = row["texts"]
            seen, imagined = (Image.open(io.BytesIO(row[name])).convert("RGB") for name in ("image", "imagination"))
            data = self._add_text(self._init_data(), system, need_loss=False)
            data = self._add_image(data, seen, need_loss=False, need_vae=True, need_vit=True)
            data = self._add_text(data, question, need_loss=False)
            data = self._add_text(data, thought, need_loss=True)
            data = self._add_image(data, imagined, need_loss=True, need_vae=True, need_vit=True)
            return self._add_text(data, answer, need_loss=True)

    return Rows


def per_sample(loaders: Mapping[str, Iterator[tuple[int, int]]], repeats: int, packs: int = 4) -> dict[str, Cost]:
    """What each loader takes for a sample, over ``repeats`` times some packs, in turn, after one time that does not count."""
    costs = {name: Cost() for name in loaders}
    for number in range(repeats + 1):
        for name, loader in loaders.items():
            start = time.process_time()
            found = list(itertools.islice(loader, packs))
            if number:
                costs[name].add(time.process_time() - start, found)
    return costs


@dataclass
class Cost:
    """CPU-seconds, samples and tokens."""

    seconds: float = 0.0
    samples: int = 0
    tokens: int = 0

    def add(self, seconds: float, packs: Sequence[tuple[int, int]]) -> None:
        self.seconds += seconds
        self.samples += sum(samples for samples, _ in packs)
        self.tokens += sum(tokens for _, tokens in packs)
