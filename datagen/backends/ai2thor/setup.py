"""What AI2-THOR needs of a machine, how to get it, and what the client's start-up errors mean."""

from __future__ import annotations

import ctypes.util
import importlib.util
import os
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from datagen.backends.base import BackendUnavailable
from datagen.backends.diagnosis import Finding

INSTALL = "pip install 'ai2thor>=5.0,<6'"
RELEASES = Path("~/.ai2thor/releases")
VULKAN = "apt-get install -y libvulkan1 (and the NVIDIA driver; in a container NVIDIA_DRIVER_CAPABILITIES=all)"
MAPPING = "~/.ai2thor/cuda-vulkan-mapping.json"

#: What the client says when it cannot start (a part of it), and what to do about it.
START_ERRORS = {
    "no build exists for": (
        "no player build was found: this machine cannot reach s3-us-west-2.amazonaws.com, or backend.commit_id is wrong. On a "
        "machine with network run python -c \"import ai2thor.controller as c; c.Controller(platform='CloudRendering', "
        'download_only=True)" (about 1 GB) and copy ~/.ai2thor/releases here, or set backend.local_executable'
    ),
    "vulkaninfo": "choosing a GPU needs vulkaninfo: apt-get install -y vulkan-tools, or unset CUDA_VISIBLE_DEVICES",
    "nvidia-smi": "choosing a GPU needs nvidia-smi (the NVIDIA driver); without it unset CUDA_VISIBLE_DEVICES and gpu_device",
    "Could not find a Vulkan device": f"the GPU is not visible to Vulkan: {VULKAN}; delete {MAPPING} afterwards",
    "Vulkan": f"CloudRendering needs Vulkan: {VULKAN}",
    "No valid X display": (
        "platform Linux64 needs an X server with GLX: set backend.x_display, or run without one: backend.platform=CloudRendering"
    ),
    "not NoneType": "platform Linux64 needs an X display: export DISPLAY=:0 or set backend.x_display",
    "Exec format error": "backend.local_executable is not a program for this machine",
}


def explain_start(error: BaseException) -> str | None:
    """The instruction that answers what the client raised before it launched the player, or None if it is not known."""
    if isinstance(error, KeyError):
        return f"gpu_device {error} is not in {MAPPING}, which is out of date: delete that file and run again"
    text = str(error)
    return next((f"AI2-THOR cannot start: {fix}" for part, fix in START_ERRORS.items() if part in text), None)


def require_client() -> str:
    """The version of the installed client; ``BackendUnavailable`` with the command that gets the right one."""
    try:
        found = version("ai2thor")
    except PackageNotFoundError:
        raise BackendUnavailable(f"backend=ai2thor needs the package ai2thor: {INSTALL}") from None
    if not found.startswith("5."):
        raise BackendUnavailable(f"backend=ai2thor is written for ai2thor 5, this is {found}: {INSTALL}")
    return found


def require_executable(path: str) -> None:
    """``BackendUnavailable`` unless ``path`` is a program."""
    if not (Path(path).is_file() and os.access(path, os.X_OK)):
        raise BackendUnavailable(
            f"backend.local_executable={path} is not an executable file; for a downloaded build it is "
            "~/.ai2thor/releases/thor-<platform>-<commit>/thor-<platform>-<commit> (chmod +x)"
        )


def diagnose() -> list[Finding]:
    """What this machine has of AI2-THOR and its CloudRendering platform, for the doctor."""
    try:
        client = Finding("client", True, f"ai2thor {require_client()}")
    except BackendUnavailable as error:
        client = Finding("client", False, str(error), INSTALL)
    builds = sorted(folder.name for folder in RELEASES.expanduser().glob("thor-*") if folder.is_dir())
    download = (
        "python -c \"import ai2thor.controller as c; c.Controller(platform='CloudRendering', download_only=True)\""
    )
    vulkan = ctypes.util.find_library("vulkan")
    display = os.environ.get("DISPLAY")
    prior = importlib.util.find_spec("prior") is not None
    tools = [name for name in ("vulkaninfo", "nvidia-smi") if shutil.which(name) is None]
    return [
        client,
        Finding("player build", bool(builds), ", ".join(builds) or f"none in {RELEASES}", "" if builds else download),
        Finding("libvulkan (CloudRendering)", vulkan is not None, vulkan or "missing", "" if vulkan else VULKAN),
        Finding(
            "GPU choice (gpu_device, CUDA_VISIBLE_DEVICES)",
            not tools,
            f"missing: {', '.join(tools)}" if tools else "vulkaninfo and nvidia-smi found",
            "apt-get install -y vulkan-tools; install the NVIDIA driver" if tools else "",
        ),
        Finding(
            "X display (only for platform=Linux64)",
            display is not None,
            display or "DISPLAY is not set",
            "" if display else "export DISPLAY=:0, or use platform=CloudRendering",
        ),
        Finding(
            "ProcTHOR houses by name (prior)",
            prior,
            "installed" if prior else "missing",
            "" if prior else "pip install prior",
        ),
    ]
