"""From run folders to figures: accuracies, comparisons, baselines and benchmarks."""
