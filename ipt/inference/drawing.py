"""Pictures without answers: what a model draws for samples, straight after its prompt."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ipt.common.errors import UserError
from ipt.common.seeding import derived_seed
from ipt.imagination.modes.ipt import blank
from ipt.inference.checkpoint import Checkpoint
from ipt.inference.context import SessionContext
from ipt.inference.engine import make_session
from ipt.inference.session import Watch
from ipt.inference.settings import DrawSettings, TextSettings
from ipt.samples.prompts import IMAGE_START, think
from ipt.samples.sample import SampleImage, SpatialSample
from ipt.sequence.render import Renderer
from ipt.sequence.segments import Segment
from ipt.sequence.spans import Role


def draw_pictures(
    checkpoint: Checkpoint,
    samples: Sequence[SpatialSample],
    draw: DrawSettings,
    seed: int = 0,
    batch_size: int = 128,
    watch: Watch | None = None,
) -> Iterator[tuple[SpatialSample, SampleImage]]:
    """One picture for each sample, in batches of one task and not in order, in the first mode of the model's training that draws;
    ``UserError`` where there is none. What is drawn depends on the model, the settings, the seed and the sample's id, not on
    the batch. ``watch``: see `ipt.inference.session.Session`."""
    trained = checkpoint.recipe.imagination
    if not trained.drawing:
        raise UserError(f"the model was trained on {', '.join(trained.modes)}, none of which draws")
    renderer, name = checkpoint.renderer(draw.side), trained.drawing[0]
    session = make_session(checkpoint, TextSettings(), draw)
    session.watch = watch
    drawn_from = derived_seed(seed, "drawing")
    by_task: dict[str, list[SpatialSample]] = defaultdict(list)
    for sample in samples:
        by_task[sample.task].append(sample)
    for task, listed in by_task.items():
        for start in range(0, len(listed), batch_size):
            batch = listed[start : start + batch_size]
            asked = [[*renderer.prompt(sample, name), announcement(renderer, sample)] for sample in batch]
            empty = SessionContext.start(session, [(sample.id,) for sample in batch], [task] * len(batch))
            drawn = empty.append(asked).generate_image(range(len(batch)), renderer.imagination_size(task), drawn_from)
            yield from zip(batch, drawn, strict=True)


def only_drawn(sample: SpatialSample) -> SpatialSample:
    """The sample without its question: its words say what to draw, and there is nothing to answer."""
    truth = sample.imagination if sample.has_imagination else replace(blank(8, 8), role="view")  # nothing looks at it
    return replace(sample, choices=(), answer="", imagination=truth)


def announcement(renderer: Renderer, sample: SpatialSample) -> Segment:
    """What is said before an image is drawn, given instead of written by the model."""
    thought = renderer.profile.thought_of(sample, renderer.config.stream("thought", sample, 0))
    return renderer.text(think(thought) + IMAGE_START, Role.IMAGINATION)
