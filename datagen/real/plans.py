"""``python -m datagen.real.plans data=FOLDER model=NAME output_dir=DIR``: Path Tracing on plans that have no labelled mesh.

As in the IPT paper for its real pictures (section 2.2 of its supplement): a vision-language model proposes paths on a picture
from above, and, with the points drawn on it, corrects the midpoint and names what stands on either side. Geometry turns paths
away that are short or leave the plan; yes-or-no questions, put until two replies agree, verify that the path can be walked and
that each thing is there and on its side. What remains becomes eight questions a path. There is no view to the side to imagine:
this is an evaluation set.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path as FilePath
from typing import Any

import numpy as np

from datagen import annotate
from datagen.backends.base import Floats, Frame, Path, top_down_camera
from datagen.backends.habitat.categories import FURNITURE
from datagen.balance import Deck, ordered
from datagen.judge import YES_NO, Probe, visible, vote
from datagen.language import with_article
from datagen.tasks.path_questions import view_sentence
from datagen.tasks.path_settings import OPTIONS
from datagen.tasks.path_tracing import map_marks
from datagen.tasks.paths import SIDES, Walk
from datagen.tasks.vocabulary import out_of_view
from datagen.yields import NoYield, Yields
from ipt.common import cli
from ipt.common.endpoint import Endpoint, EndpointSettings, RefusedRequest, Usage, concurrently
from ipt.common.errors import UserError
from ipt.common.images import RGB, encode_image, open_image
from ipt.common.progress import tracked
from ipt.common.revision import code_revision
from ipt.common.seeding import generator
from ipt.samples.questions import word, wordings
from ipt.samples.sample import Provenance, SampleImage, SpatialSample
from ipt.samples.store import seal, write_shards

ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
VARIANTS = ("td_path", "td_path_arrow")
WIDTH_M = 10.0  # that a picture is taken to be wide, for the sizes of marks: a plan has no scale
MOST_OBJECTS = 5  # that are asked for on a side
SCALE = 1000  # of the coordinates that a model gives
PROPOSE = (
    "This is a building seen from above. Propose {count} straight walks over open floor, through no wall and no furniture, with "
    "several different things on both sides. Points are [x, y], [0, 0] the upper left corner and [1000, 1000] the lower right. "
    'Reply with JSON only: {{"paths": [{{"start": [x, y], "middle": [x, y], "end": [x, y]}}]}}'
)
NAME = (
    "This is a building seen from above. Someone walks along the red line from 1 to 2. Correct the middle M1 where it does not "
    "lie on open floor, and name 2 to {most} things that stand on their left and on their right at M1, each in one or two words, "
    "none on both sides. Points are [x, y], [0, 0] the upper left corner and [1000, 1000] the lower right. "
    'Reply with JSON only: {{"middle": [x, y], "left": ["..."], "right": ["..."]}}'
)
WALKABLE = "Do the red line and the points 1, M1 and 2 lie on floor that one can walk on? Reply yes or no."
ON_SIDE = "Someone walks along the red line from 1 to 2. Is {thing} on their {side} at M1? Reply yes or no."


@dataclass(frozen=True, kw_only=True)
class PlansConfig(EndpointSettings):
    """Make questions about walks on the pictures of data, plans from above (PNG, JPEG, WebP), and write them to output_dir.

    paths: that are asked for on a picture. rounds: of a vote. attempts: until a reply is the JSON that was asked for. min_length:
    of a path, as a share of the picture's shorter side. max_dark: share of a path that may lie on pixels darker than dark_level
    (of 255): outside the plan. min_objects: verified on each side. dry_run: print what the requests would cost at most, send
    none. model is the name under which the endpoint serves it, base_url any OpenAI-compatible endpoint.
    """

    data: str
    output_dir: str
    paths: int = 4
    rounds: int = 3
    attempts: int = 3
    min_length: float = 0.3
    max_dark: float = 0.2
    dark_level: int = 40
    min_objects: int = 2
    seed: int = 0
    dry_run: bool = False

    def __post_init__(self) -> None:
        for name, least in (("paths", 1), ("rounds", 1), ("attempts", 1), ("min_objects", 1)):
            if getattr(self, name) < least:
                raise UserError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not (0 < self.min_length < 1 and 0 <= self.max_dark <= 1 and 0 <= self.dark_level < 255):
            raise UserError("min_length and max_dark must lie between 0 and 1, and dark_level in 0..254")


@dataclass(frozen=True, eq=False)
class Plan:
    """A picture from above without its dark borders."""

    name: str
    pixels: RGB

    @property
    def size(self) -> Floats:
        """(width, height) in pixels."""
        return np.array(self.pixels.shape[1::-1], np.float64)

    def dark_share(self, start: Floats, end: Floats, level: int) -> float:
        """Share of the straight way between two pixels that is darker than ``level``."""
        points = (start + np.linspace(0, 1, 200)[:, None] * (end - start)).astype(int)
        columns, rows = np.minimum(points, self.size - 1).astype(int).T
        return float((self.pixels[rows, columns].mean(axis=1) < level).mean())


@dataclass(frozen=True, eq=False)
class Line:
    """A walk on a plan: start, midpoint and end (2,) in pixels, and the verified things on the left and right of it."""

    start: Floats
    middle: Floats
    end: Floats
    things: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass
class Made:
    """What came of a plan: its questions, and counts."""

    samples: list[SpatialSample] = field(default_factory=list)
    yields: Yields = field(default_factory=Yields)


def read_plan(path: FilePath, dark_level: int) -> Plan:
    """A picture without the rows and columns at its edges that are dark throughout; ``UserError`` where all of it is."""
    pixels = np.asarray(open_image(path))
    light = pixels.mean(axis=2) >= dark_level
    rows, columns = np.flatnonzero(light.any(axis=1)), np.flatnonzero(light.any(axis=0))
    if not len(rows):
        raise UserError(f"{path} is dark throughout (dark_level={dark_level})")
    return Plan(path.stem, pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def snapped(middle: Floats, start: Floats, end: Floats) -> Floats:
    """The point of a line nearest to ``middle``, within its middle three fifths."""
    along = end - start
    return start + float(np.clip((middle - start) @ along / max(float(along @ along), 1e-9), 0.2, 0.8)) * along


def point(value: Any, plan: Plan) -> Floats:
    """A model's [x, y] of 1000 as pixels (2,), moved into the picture; ``ValueError`` for anything else."""
    x, y = (float(entry) for entry in value)
    if not (math.isfinite(x) and math.isfinite(y)):
        raise ValueError(f"a point is two numbers, got {value}")
    return np.clip(np.array([x, y]) / SCALE, 0, 1) * (plan.size - 1)


def drawn(plan: Plan, line: Line, variant: str = "td_path", side: str = "left", forward: bool = True) -> RGB:
    """The plan with the walk's marks, as those of simulators."""
    height, width = plan.pixels.shape[:2]
    above = top_down_camera((0.0, 0.0, WIDTH_M, WIDTH_M), 1, 0.0)
    camera = replace(above, width=width, height=height, ortho_height_m=WIDTH_M * height / width)
    depth = np.full((height, width), camera.pose.position[2], np.float32)

    def world(pixel: Floats) -> Floats:
        return camera.unproject(pixel + 0.5, np.asarray(camera.pose.position[2]))

    start, middle, end = (world(each) for each in (line.start, line.middle, line.end))
    heading = math.atan2(end[1] - start[1], end[0] - start[0])
    path = Path(np.stack([start, end]), float(np.linalg.norm(end - start)))
    facts = {"variant": variant, "side": side, "heading_deg": math.degrees(heading) + (0 if forward else 180)}
    lines, arrows, labels = map_marks(Walk(path, middle[:2], heading, "", ""), facts, camera, 0.0)
    return annotate.draw(Frame(camera, plan.pixels, depth), 0.0, [*lines, *arrows], labels)


def asked(content: Sequence[str | bytes], model: Endpoint, attempts: int, yields: Yields) -> dict[str, Any]:
    """The JSON object of a reply, empty where no attempt gives one."""
    for attempt in range(attempts):
        found = re.search(r"\{.*\}", model.ask(content, attempt).text, re.DOTALL)
        try:
            value = json.loads(found[0]) if found else None
        except ValueError:
            value = None
        if yields.check("reply.is_json", isinstance(value, dict)) and isinstance(value, dict):
            return value
    return {}


def proposed(plan: Plan, model: Endpoint, config: PlansConfig, yields: Yields) -> Iterator[Line]:
    """The paths of the first pass that geometry lets through."""
    answer = asked(first_pass(plan, config), model, config.attempts, yields)
    paths = answer.get("paths")
    for entry in (paths if isinstance(paths, list) else [])[: config.paths]:
        try:
            start, middle, end = (point(entry[name], plan) for name in ("start", "middle", "end"))
        except (KeyError, TypeError, ValueError):
            yields.check("path.three_points", False)
            continue
        yields.check("path.three_points", True)
        long = float(np.linalg.norm(end - start)) >= config.min_length * float(plan.size.min())
        if yields.check("path.length", long) and yields.check(
            "path.on_plan", plan.dark_share(start, end, config.dark_level) <= config.max_dark
        ):
            yield Line(start, snapped(middle, start, end), end)


def first_pass(plan: Plan, config: PlansConfig) -> list[str | bytes]:
    return [encode_image(plan.pixels), PROPOSE.format(count=config.paths)]


def verified(plan: Plan, line: Line, model: Endpoint, config: PlansConfig, yields: Yields) -> Line | None:
    """The second pass: the path with its midpoint corrected and the things of both sides that the votes confirm."""
    answer = asked([encode_image(drawn(plan, line)), NAME.format(most=MOST_OBJECTS)], model, config.attempts, yields)
    try:
        middle = snapped(point(answer.get("middle", ()), plan), line.start, line.end)
    except (TypeError, ValueError):
        middle = line.middle
    line = Line(line.start, middle, line.end)
    picture = SampleImage(encode_image(drawn(plan, line)), "map")

    def holds(name: str, text: str) -> bool:
        return yields.check(name, vote("", Probe(name, text, (picture,), YES_NO, "yes"), model, config.rounds).passed)

    if not holds("path.walkable", WALKABLE):
        return None
    named = {side: nouns_of(answer.get(side)) for side in SIDES}
    things = {}
    for side, other in (SIDES, SIDES[::-1]):
        apart = out_of_view(named[side], named[other])
        things[side] = tuple(
            noun
            for noun in named[side]
            if yields.check("thing.one_side", noun in apart)
            and holds("thing.visible", visible(with_article(noun)))
            and holds("thing.on_its_side", ON_SIDE.format(thing=with_article(noun), side=side))
        )
    enough = all(len(found) >= config.min_objects for found in things.values())
    return Line(line.start, middle, line.end, things) if yields.check("path.enough_things", enough) else None


def nouns_of(value: Any) -> list[str]:
    """The words for things in a reply, each once, at most as many as were asked for."""
    words = [re.sub(r"^(an?|the|some) ", "", entry.strip().lower()) for entry in value or () if isinstance(entry, str)]
    return list(dict.fromkeys(filter(None, words)))[:MOST_OBJECTS]


def questions(plan: Plan, line: Line, number: int, config: PlansConfig) -> Iterator[SpatialSample]:
    """Eight questions of a path: both directions, both sides, with and without an arrow to the side."""
    rng = generator(config.seed, "plans", plan.name, number)
    templates, letters = Deck(wordings(False)["pt_path"], rng), Deck(range(OPTIONS), rng)
    pool = out_of_view(FURNITURE, {noun for found in line.things.values() for noun in found})
    for variant in VARIANTS:
        for forward in (True, False):
            for side in SIDES:
                of_line = side if forward else SIDES[1 - SIDES.index(side)]
                there, across = line.things[of_line], line.things[SIDES[1 - SIDES.index(of_line)]]
                answer = there[int(rng.integers(len(there)))]
                others = [*rng.permutation(across).tolist(), *rng.permutation(pool).tolist()][: OPTIONS - 1]
                right = with_article(answer)
                choices = ordered(right, [with_article(noun) for noun in others], letters.deal(), rng)
                start, end = ("1", "2") if forward else ("2", "1")
                direction = "forward" if forward else "reverse"
                facts = {
                    "variant": variant,
                    "side": side,
                    "direction": direction,
                    "start": f"waypoint {start}",
                    "end": f"waypoint {end}",
                    "answer": answer,
                    "answer_text": right,
                    "options": [answer, *others],
                    "opposite": list(across),
                    "points_px": [each.round(1).tolist() for each in (line.start, line.middle, line.end)],
                }
                template = templates.deal()
                picture = encode_image(drawn(plan, line, variant, side, forward))
                yield SpatialSample(
                    id=f"pt-plans-{plan.name}-{number}-{variant}-{direction}-{side}",
                    task="pt",
                    split="test",
                    question=word(
                        template, map="top-down map", start=start, end=end, side=side, views=view_sentence(facts)
                    ),
                    question_type=f"{direction}_{side}",
                    choices=choices,
                    answer="ABCD"[choices.index(right)],
                    images=(SampleImage(picture, "map"),),
                    imagination=SampleImage(b"", "side_view"),
                    rationale="",
                    caption="",
                    provenance=Provenance("plans", config.model, plan.name, config.seed, code_revision()),
                    facts={**facts, "template": template.id, "person": template.person},
                )


def annotated(path: FilePath, model: Endpoint, config: PlansConfig) -> Made:
    """All questions of a picture."""
    made = Made()
    try:
        plan = read_plan(path, config.dark_level)
        for number, line in enumerate(proposed(plan, model, config, made.yields)):
            found = verified(plan, line, model, config, made.yields)
            if found is not None:
                made.samples += questions(plan, found, number, config)
        made.yields.check("picture.usable", True)
    except RefusedRequest as error:
        made.yields.check("picture.usable", False)
        made.yields.note(f"{path.name}: {error}"[:200])
    return made


def forecast(paths: Sequence[FilePath], model: Endpoint, config: PlansConfig) -> Usage:
    """What all requests may cost at most, if every path and thing is asked about and no two replies agree."""
    most, replies = Usage(), config.attempts + config.rounds * (1 + 4 * MOST_OBJECTS)
    for path in paths:
        content = first_pass(read_plan(path, config.dark_level), config)
        for _ in range(config.attempts + config.paths * replies):
            most += model.expected(content)
    return most


def main(config: PlansConfig) -> None:
    """Write the set; print counts and cost."""
    output, folder = FilePath(config.output_dir), FilePath(config.data)
    paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in ENDINGS)
    if not paths or len({path.stem for path in paths}) < len(paths):
        raise UserError(f"{folder} must hold pictures ({', '.join(ENDINGS)}) whose names differ before the ending")
    model = config.open(output.with_name(f"{output.name}-cache"))
    if config.dry_run:
        usage = forecast(paths, model, config)
        cost = usage.cost(config.price_in, config.price_out)
        print(
            f"at most {usage.requests} requests, {usage.prompt_tokens:,} + {usage.completion_tokens:,} tokens, cost {cost:.2f}"
        )
        return
    tasks = (partial(annotated, path, model, config) for path in paths)
    yields, samples = Yields(), list[SpatialSample]()
    for made in tracked(concurrently(tasks, config.workers), f"asking {config.model}", len(paths)):
        samples += made.samples
        yields.add(made.yields)
    if not samples:
        raise NoYield(f"no path of {len(paths)} pictures is left: {yields.worst()}")
    write_shards(output, "plans", samples)
    print(f"{output}: {len(samples)} questions from {len(paths)} pictures")
    about = {"model": config.model, "yields": yields.to_json(), "picture_errors": yields.errors}
    seal(output, {**about, "usage": config.bill(model)})


if __name__ == "__main__":
    cli.run(PlansConfig, main)
