"""The published evaluation sets, from local folders into our store, so that everything that reads samples reads them.

``python -m ipt.evaluation.benchmarks name=pet_habitat data=DIR output_dir=DIR``; ``--help`` lists the names. Subsets and options
that the releases draw while loading are drawn here in the same way, so that scores are those of the same questions.
"""
