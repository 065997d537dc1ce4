"""The published datasets of the IPT paper (arXiv 2606.03988): into our store, and our samples into their training schema.

``python -m ipt.samples.official convert task=pet data=DIR output_dir=DIR`` and
``python -m ipt.imagination.export data=DIR output_dir=DIR``; ``--help`` after either lists its arguments.

They come in two schemas. The *viewer* schema has a column per part of a sample (`viewer`); PET and MVC are published in it. The
*interleaved* schema (`interleaved`) is what BAGEL's trainer reads: lists of images and texts; PT is published in it.
"""
