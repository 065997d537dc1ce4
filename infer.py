"""``python infer.py checkpoint=RUN data=FOLDER mode=imagination``: answer a dataset, or a question about one's own pictures
(``image=room.jpg question="..." choices="[left,right]"``); ``python infer.py report=[RUN,RUN]``: a page about what came of it.

What the answer may see, sizes, prompts and codec come from the checkpoint. ``mode`` is a Hydra group (``conf/mode/``); ``--help``
lists every key. The same command continues an interrupted run.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ipt.common.errors import UserError
from ipt.common.hydra_command import Command, plain, stop
from ipt.common.settings import text_fields, typed
from ipt.evaluation.settings import ReportConfig
from ipt.inference.selective import fitted
from ipt.inference.settings import InferConfig, infer_config

COMMAND = Command("infer")


def register() -> None:
    """File the defaults of the dataclasses; ``conf/infer.yaml`` and the groups override them."""
    COMMAND.register("infer_defaults", asdict(InferConfig()) | asdict(ReportConfig()))


def report_config(values: dict[str, Any]) -> ReportConfig:
    """The settings of a report; one run may be named without brackets."""
    runs = values["report"]
    return typed(ReportConfig, {**values, "report": [runs] if isinstance(runs, str) else runs}, "infer")


def changed(values: dict[str, Any], default: InferConfig | ReportConfig) -> list[str]:
    """The keys that were set to something."""
    before = plain(asdict(default))
    return [key for key, value in values.items() if value != before[key] and key not in ("output_dir", "seed")]


def infer(composed: DictConfig) -> None:
    """One run; prints what came of it."""
    values: Any = OmegaConf.to_container(composed, resolve=True)
    about_report = {entry.name: values.pop(entry.name) for entry in fields(ReportConfig)}
    try:
        report = report_config(about_report)
        if report.report:
            from ipt.evaluation.report import run_report

            if others := changed(values, InferConfig()):
                raise UserError(
                    f"{', '.join(others)}: not with report, which asks nothing and reads what runs have left"
                )
            print(run_report(report, Path(values["output_dir"] or "outputs/report"), values["seed"]))
            return
        if others := changed(about_report, ReportConfig()):
            raise UserError(
                f"{', '.join(others)}: these are for a page, name the runs that it is about with report=[RUN,RUN]"
            )
        values["output_dir"] = values["output_dir"] or f"outputs/infer/{values['mode']['name']}"
        config = infer_config(values)
        if config.mode.fit:
            config = replace(config, mode=fitted(config.mode))
            print(f"imagining below a probability of {config.mode.threshold:.3f}", file=sys.stderr)
        # torch takes seconds to import; by now the settings are known to go together
        if config.image:
            from ipt.inference.own import answer_pictures

            answer_pictures(config)
        else:
            from ipt.evaluation.metrics import summary
            from ipt.inference.prediction import read_run
            from ipt.inference.run import answer_dataset

            counts = answer_dataset(config)
            print(", ".join(f"{name} {value}" for name, value in counts.items()))
            print(summary(read_run(config.output_dir)))
            if sum(counts["errors"].values()) == counts["samples"]:
                stop(f"no sample could be answered; {config.output_dir}/predictions.jsonl says why")
    except UserError as error:
        stop(str(error))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake ends with one line and exit code 2."""
    register()
    COMMAND.run(infer, arguments, text_fields(InferConfig) | text_fields(ReportConfig))


if __name__ == "__main__":
    main()
