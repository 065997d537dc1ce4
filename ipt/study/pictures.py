"""How near a run's imagined pictures come to the truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ipt.common.images import decode_image
from ipt.evaluation.quality.nearness import PictureScores, scored
from ipt.evaluation.quality.pictures import resized
from ipt.inference.prediction import Run
from ipt.samples.sample import SampleImage


def picture_scores(
    run: Run, truth: Mapping[str, SampleImage], mean: NDArray[Any] | None, rng: np.random.Generator
) -> PictureScores:
    """The scores of a run that drew pictures; ``truth`` by sample id, ``mean`` of training pictures. Truths of other scenes are
    drawn by ``rng``; ``UserError`` where there are not enough."""
    drawn = [prediction for prediction in run.predictions if prediction.images]
    imagined = np.stack([decode_image(run.folder / p.images[0]) for p in drawn]).astype(np.float64)
    size = imagined.shape[2], imagined.shape[1]  # a dataset's pictures may be larger than those that are drawn
    own = np.stack([resized(truth[p.sample_id].pixels(), size) for p in drawn]).astype(np.float64)
    if mean is not None:
        mean = resized(np.rint(mean).astype(np.uint8), size).astype(np.float64)
    return scored(imagined, own, mean, [p.scene for p in drawn], rng)
