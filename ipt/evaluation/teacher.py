"""``python -m ipt.evaluation.teacher data=DIR model=NAME output_dir=DIR``: another model's reasoning, for text-CoT training.

As in the paper, the teacher sees what the answerer will not (the right answer, the imagined image) and writes how one gets from
the question's own pictures to the answer. Its words become the samples' rationale if they end in the right answer; samples for
which no attempt does are left out and counted. Replies are kept, so the same command goes on where it stopped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ipt.common import cli
from ipt.common.endpoint import Endpoint, EndpointSettings, RefusedRequest, concurrently
from ipt.common.errors import UserError
from ipt.common.progress import tracked
from ipt.imagination.recipe import load_profile
from ipt.samples.answers import REASONING_END, parse_answer
from ipt.samples.prompts import ANSWER, ANSWER_END, THINK, THINK_END, render_prompt
from ipt.samples.sample import SpatialSample
from ipt.samples.store import SampleReader, seal, write_shards

SYSTEM = (
    "You write worked solutions of spatial questions for students. The students see the question's pictures and nothing else; "
    "you are told the right answer. Write 60 to 200 words that lead step by step from what the question's pictures show to the "
    "answer: where the viewer stands and faces, how that changes, and what is then where. Do not mention anything that the "
    f"students do not see. Put the solution between {THINK} and {THINK_END}, and after it the letter of the right option between "
    f"{ANSWER} and {ANSWER_END}."
)
HINT = "For you only, the view that the question is about:"


@dataclass(frozen=True, kw_only=True)
class TeacherConfig(EndpointSettings):
    """Write the samples of data, with reasoning by a model behind an OpenAI-compatible endpoint (base_url), to output_dir.

    attempts: how often a sample is asked until its reasoning ends in the right answer. request.KEY=VALUE: more fields of the
    requests. per_minute: at most so many requests a minute. cache: where replies are kept (default: beside output_dir). Prices
    are per million tokens.
    """

    data: str
    output_dir: str
    attempts: int = 3


def main(config: TeacherConfig) -> None:
    """Write the dataset; print what was kept and what it cost."""
    if config.attempts < 1:
        raise UserError(f"attempts must be at least 1, got {config.attempts}")
    output = Path(config.output_dir)
    endpoint = config.open(output.with_name(f"{output.name}-cache"))
    reader, counts = SampleReader(config.data), Counter[str]()
    write_shards(output, "taught", taught(reader, endpoint, config, counts))
    print(f"{output}: {counts['kept']} of {len(reader)} samples have reasoning that ends in the right answer")
    about = {"teacher": config.model, "data_sha256": reader.digest(), "counts": counts, "usage": config.bill(endpoint)}
    seal(output, about)


def taught(
    reader: SampleReader, endpoint: Endpoint, config: TeacherConfig, counts: Counter[str]
) -> Iterator[SpatialSample]:
    """The samples with their new rationale, in order; ``counts``: of those kept, wrong and refused."""
    tasks = (partial(teach, sample, endpoint, config.attempts) for sample in reader)
    for outcome, sample in tracked(concurrently(tasks, config.workers), f"asking {config.model}", len(reader)):
        counts[outcome] += 1
        if outcome == "kept":
            yield sample


def teach(sample: SpatialSample, endpoint: Endpoint, attempts: int) -> tuple[str, SpatialSample]:
    """``kept`` and the sample with its rationale, or why there is none (``wrong``, ``refused``) and the sample as it was."""
    parts = render_prompt(sample, "text_cot", load_profile())
    content: list[str | bytes] = [
        part.text if part.image is None else part.image.data for part in parts if part.role != "system"
    ]
    content.append(f"The right answer is {sample.answer}.")
    if sample.has_imagination:
        content += [HINT, sample.imagination.data]
    for attempt in range(attempts):
        try:
            reply = endpoint.ask(content, attempt, SYSTEM)
        except RefusedRequest:
            return "refused", sample
        reasoning = reasoning_of(reply.text)
        if reasoning and parse_answer(reply.text, sample.choices) == sample.answer_index:
            return "kept", replace(sample, rationale=reasoning)
    return "wrong", sample


def reasoning_of(text: str) -> str:
    """The words between the tags of reasoning, or before the answer where there are none."""
    before = REASONING_END.split(text)[0] if REASONING_END.search(text) else text.partition(ANSWER)[0]
    return before.replace(THINK, "").strip()


if __name__ == "__main__":
    cli.run(TeacherConfig, main)
