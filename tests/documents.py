"""What README and docs tell users to type, read from the pages, and how each command is kept short when a test runs it."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = (
    "README.md",
    *(
        f"docs/{name}.md"
        for name in (
            "generate",
            "real_data",
            "train",
            "reinforce",
            "evaluate",
            "play",
            "faithfulness",
            "extend",
            "simulators",
            "small_scale",
            "painter",
            "benchmarks",
            "scale",
        )
    ),
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PROGRAMS = ("python", "make", "torchrun", "accelerate", "pip", "pytest")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: one command of a shell block, or a whole Python block."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str) -> list[Block]:
    """Commands and Python programs of a page, in order; lines of a shell block that no program begins are its output."""
    text = (ROOT / page).read_text()
    found = []
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start(2)) + 1
        if match[1] == "python":
            found.append(Block(page, line, "python", match[2]))
            continue
        joined = re.sub(r"\\\n\s*", " ", match[2])
        commands = [entry for entry in joined.splitlines() if entry.split(" ")[0] in PROGRAMS]
        found += [Block(page, line, "shell", command) for command in commands]
    return found


@dataclass(frozen=True)
class Rule:
    """How commands that match ``pattern`` are run: with ``settings`` in place of their own, or not at all, for a stated reason.
    Of a Python program, ``settings`` are pieces of its text and what stands there instead. ``ends``: the right exit codes."""

    pattern: str
    settings: dict[str, str] = field(default_factory=dict)
    skipped: str = ""
    ends: tuple[int, ...] = (0,)


#: A model of two steps writes what it likes: texts are cut, and pictures take two steps.
ASKED = {"mode.text.max_tokens": "24", "mode.draw.timesteps": "3"}
STUDIED = {
    "trainer.steps": "2",
    "plan.questions": "4",
    "plan.workers": "1",
    "plan.tasks.pet.seeds": "1",
    "plan.tasks.pet.rows.train": "24",
    "plan.tasks.pet.rows.test": "8",
    "plan.timesteps": "2",
    "~plan.tasks.pt": "",
    "~plan.tasks.mvc": "",
    "~plan.contrasts": "",
    **{
        f"~plan.arms.{name}": ""
        for name in ("ipt_0", "ipt_1", "ipt_late_vit", "label_only_compute", "text_cot", "caption")
    },
    **{f"~plan.arms.{name}": "" for name in ("mixed", "permuted", "flow_off")},
}

#: Rollouts of a few questions, the first of which is written.
PLAYED = {
    "trainer.steps": "2",
    "grpo.questions": "4",
    "grpo.imaginations": "2",
    "grpo.draw.timesteps": "3",
}

#: The first rule whose pattern is found in a command holds.
RULES = (
    Rule(r"^make ", skipped="these are what runs the tests, and CI"),
    Rule(r"^pip ", skipped="installs"),
    Rule(r"-m pytest", skipped="it is part of this suite"),
    Rule(r"--help"),
    Rule(r"habitat_python|backend=(ai2thor|procthor|hm3d)", skipped="needs a simulator; tests/datagen has stand-ins"),
    Rule(
        r"messytable|scannetpp|matterport|vst|photos|my-plans|iphone",
        skipped="needs the user's pictures; tests have them made up",
    ),
    Rule(r"furniture=sweethome3d", skipped="needs Debian's package; tests/datagen/embedded/models makes libraries"),
    Rule(r"-m ipt\.(app|serve) ", skipped="serves until it is interrupted; tests/app and tests/serve ask it"),
    Rule(r"base_url=http://127", skipped="needs the server; tests/serve has one"),
    Rule(r"doctor", ends=(0, 1)),  # 1: a simulator is missing
    # 1: so few questions are not balanced; blocks, because blind baselines want five scenes
    Rule(r"-m datagen\.audit data=\[data/pet,", {"data": "[data/pet,data/pet-blocks]"}, ends=(0, 1)),
    Rule(r"-m datagen\.audit", ends=(0, 1)),
    Rule(r"-m datagen .*task=drawing", {"num_samples": "96", "image_size": "64"}),
    Rule(r"-m datagen .*blocks .*split=(val|test)", {"num_samples": "4", "image_size": "64", "workers": "1"}),
    Rule(
        r"-m datagen .*blocks", {"num_samples": "16", "image_size": "64", "workers": "1", "task.samples_per_scene": "2"}
    ),
    Rule(r"-m datagen .*shard=", {"num_samples": "8", "image_size": "64"}),
    Rule(r"-m datagen .*task=mvc", {"num_samples": "1", "image_size": "64"}),
    Rule(r"-m datagen ", {"num_samples": "2", "image_size": "64", "workers": "1"}),
    Rule(r"renderer=ray", {"size": "128"}),
    Rule(r"dry_run=true|trainer=debug"),
    Rule(r"study=small_scale", STUDIED),
    Rule(r"study=grpo", skipped="takes hours; tests/study has its runs composed"),
    Rule(r"train\.py -m ", {"trainer.steps": "2", "seed": "0"}),
    Rule(
        r"train\.py .*evaluation\.",
        {
            "trainer.steps": "2",
            "evaluation.questions": "2",
            "evaluation.limit": "2",
            "evaluation.text.max_tokens": "24",
        },
    ),
    Rule(r"train\.py .*experiment=grpo .*model\.init=", PLAYED),
    Rule(r"train\.py ", {"trainer.steps": "2"}),
    Rule(r"quality\.drawn ", {"draw.timesteps": "3"}),
    Rule(r"few_labels/pe?t-", skipped="needs checkpoints of a study; the commands before ask those of a small one"),
    Rule(r"rewriter\.", skipped="needs an endpoint; tests/faithfulness has a stand-in"),
    Rule(
        r"-m ipt\.faithfulness ",
        {**ASKED, "limit": "4", "preset": "quick", "imaginations": "2", "replicates": "200"},
    ),
    Rule(r"infer\.py .*report="),
    Rule(r"infer\.py .*image=", ASKED),
    Rule(r"infer\.py ", {**ASKED, "limit": "4"}),
    Rule(
        r"Engine\(",
        {
            "import ModeSettings": "import DrawSettings, ModeSettings, TextSettings",
            "n=4": "n=4, text=TextSettings(max_tokens=24), draw=DrawSettings(timesteps=3)",
        },
    ),
)


def rule(block: Block) -> Rule:
    """The rule of a command, by default to run it as it is printed."""
    return next((known for known in RULES if re.search(known.pattern, block.text)), Rule(""))


def program(block: Block) -> str:
    """The text of a Python program, shortened by its rule."""
    text = block.text
    for piece, other in rule(block).settings.items():
        assert text.count(piece) == 1, f"{block}: '{piece}' stands in it {text.count(piece)} times"
        text = text.replace(piece, other)
    return text


def arguments(block: Block) -> list[str]:
    """The words of a command, shortened by its rule; comments are left out."""
    words = shlex.split(block.text, comments=True)
    changed = rule(block).settings
    kept = [word for word in words if word.partition("=")[0] not in changed]
    return [*kept, *(f"{key}={value}" if value else key for key, value in changed.items())]
