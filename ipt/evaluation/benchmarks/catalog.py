"""The benchmarks by name, with what the paper and its evaluation code say of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ipt.evaluation.benchmarks import photos, published, transfer
from ipt.samples.sample import SpatialSample


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A published evaluation set, or the user's own.

    ``size``: its number of questions as evaluated, 0 where none is published. ``averaged``: its score is the unweighted mean of
    its sub-categories. ``origin``: where it is published; it is downloaded by the user. ``read``: samples of the local folder,
    with ids that begin with the name given.
    """

    name: str
    size: int
    averaged: bool
    origin: str
    read: Callable[[Path, str], Iterator[SpatialSample]]


LISTED = (
    Benchmark("pet_ai2thor", 278, True, "weikaih/spatial-imaginative-token-pet-eval-ai2thor", published.pet),
    Benchmark("pet_habitat", 300, True, "MahtabBg/habitat_perspective_eval", published.pet_habitat),
    Benchmark("pet_sat", 66, False, "luckychao/vlmevalkit_tsv, SAT_circular.tsv", transfer.sat),
    Benchmark("mvc_ai2thor", 260, False, "MahtabBg/multiview_eval", published.mvc),
    Benchmark("mvc_scannet", 200, False, "leo66666/scannet_counting", published.counting),
    Benchmark("mvc_messytable", 200, False, "leo66666/messytable", published.counting),
    Benchmark(
        "pt_ai2thor", 453, True, "linjieli222/ai2thor_path_tracing_2point_tifa_filtered_val_v3", published.path_tracing
    ),
    Benchmark("pt_real", 332, True, "linjieli222/real_indoor_path_tracing", published.path_tracing_real),
    Benchmark("mindcube", 200, True, "MLL-Lab/MindCube", transfer.mindcube),
    Benchmark("all_angles", 170, True, "ch-chenyu/All-Angles-Bench", transfer.all_angles),
    Benchmark("photos", 0, False, "pictures of your own with questions.csv or questions.jsonl", photos.read),
)
BENCHMARKS: Mapping[str, Benchmark] = {benchmark.name: benchmark for benchmark in LISTED}
