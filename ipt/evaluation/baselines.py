"""``python -m ipt.evaluation.baselines data=DIR model=NAME output_dir=RUN``: other models on our questions.

A model behind any OpenAI-compatible endpoint reads the prompts that ours are trained with (profile ``default``) and answers
at once (``zero_shot``) or after reasoning in words (``text_cot``). It leaves a run folder as inference does, so that scores,
comparisons and reports need not know the difference. The same command continues an interrupted run; replies are kept, so
nothing is paid twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ipt.common import cli
from ipt.common.endpoint import Endpoint, EndpointSettings, RefusedRequest, concurrently
from ipt.common.errors import UserError
from ipt.common.files import write_json
from ipt.common.images import BadImage
from ipt.common.progress import tracked
from ipt.common.registry import unknown_name
from ipt.common.revision import code_revision
from ipt.evaluation.metrics import summary
from ipt.imagination.recipe import load_profile
from ipt.inference.prediction import Prediction, PredictionWriter, RunManifest, about, read_run, unread
from ipt.samples.answers import parse_answer
from ipt.samples.prompts import render_prompt
from ipt.samples.sample import BadSample, SpatialSample
from ipt.samples.store import SampleReader

#: By name, the mode whose prompt it reads.
BASELINES = {"zero_shot": "label_only", "text_cot": "text_cot"}
COSTS = "costs.json"


@dataclass(frozen=True, kw_only=True)
class BaselineConfig(EndpointSettings):
    """Ask a model behind an OpenAI-compatible endpoint (base_url; default: OpenAI's own) the questions of a dataset.

    baseline: zero_shot or text_cot. limit: only the first so many questions. request.KEY=VALUE: more fields of the requests
    (request.temperature=0). per_minute: at most so many requests a minute. cache: where replies are kept (default: in
    output_dir). Prices are per million tokens; costs.json counts every reply in the cache.
    """

    data: str
    output_dir: str
    baseline: str = "zero_shot"
    limit: int = 0


def main(config: BaselineConfig) -> None:
    """Answer, print the scores, count the costs."""
    folder = Path(config.output_dir)
    endpoint = config.open(folder / "cache")
    answer_dataset(config, endpoint)
    print(summary(read_run(folder)))
    write_json(folder / COSTS, config.bill(endpoint))


def answer_dataset(config: BaselineConfig, endpoint: Endpoint) -> None:
    """Answer what the run folder lacks.

    Raises ``ValueError`` for a wrong setting, an empty dataset or a folder that holds another run, and
    `ipt.common.endpoint.EndpointDown`; what was answered until then is kept.
    """
    if config.baseline not in BASELINES:
        raise UserError(unknown_name("baseline", config.baseline, BASELINES))
    if config.limit < 0:
        raise UserError(f"limit must be at least 0, got {config.limit}")
    reader, started = SampleReader(config.data), time.monotonic()
    ids = reader.ids()[: config.limit or None]
    if not ids:
        raise UserError(f"{config.data} holds no samples")
    with PredictionWriter(Path(config.output_dir), manifest(config, reader)) as writer:
        done = {prediction.sample_id for prediction in writer.finished}
        rows = [row for row, name in enumerate(ids) if name not in done]
        questions = (question(reader, row, ids[row], config.baseline, endpoint) for row in rows)
        answers = concurrently(questions, config.workers)
        for prediction in tracked(answers, f"{config.model}, {config.baseline}", len(rows)):
            writer.write([prediction])
        writer.finish(time.monotonic() - started)


def question(reader: SampleReader, row: int, name: str, baseline: str, endpoint: Endpoint) -> Callable[[], Prediction]:
    """What asks for the answer to a sample; the sample is read here, since a reader is not shared by threads."""
    try:
        return partial(put, reader[row], baseline, endpoint)
    except UserError as error:
        return partial(unread, name, baseline, error)


def put(sample: SpatialSample, baseline: str, endpoint: Endpoint) -> Prediction:
    """The model's answer to one sample; an error where it cannot be asked, or the endpoint refuses the request."""
    started, asked = time.monotonic(), about(sample, baseline)
    try:
        parts = render_prompt(sample, BASELINES[baseline], load_profile())
        system = "\n".join(part.text for part in parts if part.role == "system")
        content = [part.text if part.image is None else part.image.data for part in parts if part.role != "system"]
        reply = endpoint.ask(content, system=system)
    except (BadSample, BadImage, RefusedRequest) as error:
        return asked.failed(error)
    return replace(
        asked,
        answer=parse_answer(reply.text, sample.choices),
        text=reply.text,
        text_tokens=reply.completion_tokens,
        seconds=time.monotonic() - started,
    )


def manifest(config: BaselineConfig, reader: SampleReader) -> RunManifest:
    """What the run depends on. Workers, rate and prices do not matter."""
    where = config.base_url or "https://api.openai.com/v1"
    return RunManifest(
        checkpoint=f"{config.model} at {where}",
        checkpoint_sha256="",
        data=config.data,
        data_sha256=reader.digest(),
        mode=config.baseline,
        settings={"model": config.model, "base_url": where, "request": config.request, "limit": config.limit},
        seed=0,
        code_revision=code_revision(),
    )


if __name__ == "__main__":
    cli.run(BaselineConfig, main)
