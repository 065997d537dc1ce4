"""A question about one's own pictures: printed answer, then the imagined images beside the picture."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from ipt.common.errors import UnwritableFile, UserError
from ipt.common.files import write_bytes
from ipt.common.images import image_size
from ipt.inference.answering import Answered
from ipt.inference.checkpoint import Checkpoint
from ipt.inference.drawing import only_drawn
from ipt.inference.engine import Engine
from ipt.inference.run import load
from ipt.inference.settings import InferConfig
from ipt.samples.sample import Provenance, SampleImage, SpatialSample

MAX_FILE = 64 * 2**20


def answer_pictures(config: InferConfig) -> None:
    """Answer the question, print the answer, and then write what was imagined as ``PICTURE-imagined.png`` beside the first one.

    Raises ``ValueError`` (``BadImage`` for a picture) that says what is wrong, and for a mode that needs the truth;
    ``UnwritableFile``, after the answer, where a picture cannot be kept.
    """
    if config.mode.name in ("gt_imagination", "wrong_imagination"):
        raise UserError(f"mode={config.mode.name} needs true imaginations, which pictures of your own do not have")
    pictures = [_read(Path(name)) for name in config.image]
    checkpoint = load(config)
    sample = own_question(checkpoint, pictures, str(config.question), config.choices, config.task)
    (answered,) = Engine(checkpoint, config.mode, config.seed, 1).answer([sample])
    if answered.prediction.error is not None:
        raise UserError(answered.prediction.error)
    print("\n".join(lines_of(answered)), flush=True)
    for path in _kept(answered, Path(config.image[0])):
        print(f"imagined: {path}", flush=True)


def own_question(
    checkpoint: Checkpoint,
    pictures: Sequence[bytes],
    question: str,
    choices: Sequence[str],
    task: str | None = None,
) -> SpatialSample:
    """A question of unknown answer about encoded pictures, put as those of ``task`` (default: the first that was trained). Its id
    is a hash of what is asked: whoever asks the same, wherever, gets the same draws. Without ``choices``, ``question`` says what
    picture to draw."""
    digest = hashlib.sha256("\n".join([question, *choices]).encode())
    for picture in pictures:
        digest.update(hashlib.sha256(picture).digest())
    sample = SpatialSample(
        id=digest.hexdigest(),
        task=task or next(iter(checkpoint.recipe.sequence.resolutions), "pet"),  # type: ignore[arg-type]
        split="test",
        question=question,
        question_type="own",
        choices=tuple(choices) or ("yes", "no"),
        answer="A",  # unknown; nothing looks at it
        images=tuple(SampleImage(data, "observation") for data in pictures),
        imagination=SampleImage(b"", "view"),
        rationale="",
        caption="",
        provenance=Provenance("own", "", "own", 0),
    )
    return sample if choices else only_drawn(sample)


def _read(path: Path) -> bytes:
    image_size(path)
    if (size := path.stat().st_size) > MAX_FILE:
        raise UserError(f"{path} has {size:,} bytes, at most {MAX_FILE:,} are read")
    return path.read_bytes()


def lines_of(answered: Answered) -> list[str]:
    """Lines: the answer, every option with its probability, and the words before the answer."""
    prediction = answered.prediction
    chosen = prediction.answer
    answer = f"none of the options ({prediction.text!r})" if chosen is None else prediction.choices[chosen]
    lines = [f"answer: {answer}"]
    for choice, probability in zip(prediction.choices, prediction.probabilities, strict=False):
        lines.append(f"  {probability:6.1%}  {choice}")
    return [*lines, *(f"thought: {thought}" for thought in prediction.thoughts)]


def _kept(answered: Answered, beside: Path) -> Iterator[Path]:
    for number, image in enumerate(answered.images):
        suffix = f"-{number}" if len(answered.images) > 1 else ""
        path = beside.with_name(f"{beside.stem}-imagined{suffix}.png")
        try:
            write_bytes(path, image.data)
        except OSError as error:
            raise UnwritableFile(
                f"the answer is above; the imagined image {path} could not be written ({error.strerror})"
            ) from error
        yield path
