"""Imports point one way: datagen and ipt.* never reach to the right of themselves, and data code never needs torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: What each package may import of this project, besides itself.
ALLOWED = {
    "ipt.common": set(),
    "ipt.samples": {"ipt.common"},
    "ipt.sequence": {"ipt.common", "ipt.samples"},
    "ipt.flow": {"ipt.common"},
    "ipt.imagination": {"ipt.common", "ipt.samples", "ipt.sequence"},
    "ipt.model": {"ipt.common", "ipt.sequence", "ipt.flow"},
    "ipt.inference": {"ipt.common", "ipt.samples", "ipt.sequence", "ipt.imagination", "ipt.flow", "ipt.model"},
    "ipt.reinforcement": {
        "ipt.common",
        "ipt.samples",
        "ipt.sequence",
        "ipt.imagination",
        "ipt.flow",
        "ipt.model",
        "ipt.inference",
    },
    "ipt.training": {
        "ipt.reinforcement",
        "ipt.common",
        "ipt.samples",
        "ipt.sequence",
        "ipt.imagination",
        "ipt.flow",
        "ipt.model",
        "ipt.inference",
    },
    "ipt.evaluation": {"ipt.common", "ipt.samples", "ipt.sequence", "ipt.imagination", "ipt.model", "ipt.inference"},
    "ipt.faithfulness": {
        "ipt.common",
        "ipt.samples",
        "ipt.sequence",
        "ipt.imagination",
        "ipt.model",
        "ipt.inference",
        "ipt.evaluation",
    },
    "ipt.study": {
        "ipt.model",
        "ipt.common",
        "ipt.samples",
        "ipt.imagination",
        "ipt.inference",
        "ipt.training",
        "ipt.evaluation",
    },
    "ipt.serve": {"ipt.common", "ipt.samples", "ipt.model", "ipt.inference", "ipt.evaluation"},
    "ipt.app": {
        "ipt.common",
        "ipt.samples",
        "ipt.sequence",
        "ipt.imagination",
        "ipt.model",
        "ipt.inference",
        "ipt.faithfulness",
        "ipt.study",
    },
    "datagen": {"ipt.common", "ipt.samples"},
}
TORCH_FREE = ("ipt.common", "ipt.samples", "datagen")


def package_of(module: str) -> str | None:
    return next((name for name in ALLOWED if module == name or module.startswith(f"{name}.")), None)


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def sources() -> list[Path]:
    return [path for folder in ("ipt", "datagen") for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_left(path: Path) -> None:
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    here = package_of(module)
    if here is None:
        assert module == "ipt", f"{module} lies in no package of the architecture"
        return
    for name in imports_of(path):
        target = package_of(name)
        assert target is None or target == here or target in ALLOWED[here], f"{module} imports {name}"
        if here in TORCH_FREE:
            assert name.partition(".")[0] not in ("torch", "transformers", "diffusers"), f"{module} imports {name}"


def test_datagen_runs_without_torch() -> None:
    program = (
        "import sys; import datagen.backends.embedded.backend, ipt.samples.sample; "
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
