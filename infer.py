"""``python infer.py checkpoint=RUN data=FOLDER mode=imagination``: answer a dataset, or a question about one's own pictures
(``image=room.jpg question="..." choices="[left,right]"``).

What the answer may see, sizes, prompts and codec come from the checkpoint. ``mode`` is a Hydra group (``conf/mode/``); ``--help``
lists every key. The same command continues an interrupted run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ipt.common.hydra_command import SILENT, Command, plain, stop
from ipt.inference.config import InferConfig, infer_config

COMMAND = Command("infer", Path(__file__).resolve().parent / "conf", ("mode",))


def register() -> None:
    """File the defaults of the dataclasses: the code is the one place where they are written. Groups override them."""
    keys: Any = OmegaConf.to_container(OmegaConf.create(plain(asdict(InferConfig()))))
    keys["output_dir"] = "outputs/infer/${mode.name}"
    COMMAND.register({"defaults": ["_self_", {"mode": "answer_only"}, *SILENT], **keys})


def infer(composed: DictConfig) -> None:
    """One run; prints what came of it."""
    values: Any = OmegaConf.to_container(composed, resolve=True)
    try:
        config = infer_config(values)
        # torch takes seconds to import; by now the settings are known to go together
        if config.image:
            from ipt.inference.own import answer_pictures

            print(answer_pictures(config))
        else:
            from ipt.inference.run import answer_dataset

            counts = answer_dataset(config)
            print(f"{config.output_dir}: " + ", ".join(f"{name} {value}" for name, value in counts.items()))
    except (ValueError, OSError, RuntimeError) as error:
        stop(str(error))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake ends with one line and exit code 2."""
    register()
    COMMAND.run(infer, arguments)


if __name__ == "__main__":
    main()
