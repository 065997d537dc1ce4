"""The page in headless Chromium: one click, one imagination, one answer, on a desk and on a telephone."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ipt.common.errors import UserError

ROOT = Path(__file__).parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE_MS = 240_000
FLOOR = 0.6, 0.75  # of the first scene's picture


def missing() -> str:
    """What of the needed programs is not here."""
    for name, advice in (("gradio", "pip install '.[app]'"), ("playwright", "pip install playwright")):
        if importlib.util.find_spec(name) is None:
            return f"{name} is not installed: {advice}"
    return "" if CHROMIUM else "no Chromium is installed: apt-get install chromium"


needs_a_browser = pytest.mark.skipif(bool(missing()), reason=missing())


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The playground of the base, as a user starts it."""
    command = [sys.executable, "-m", "ipt.app", "checkpoint=base", "port=0", "device=cpu", "draw.timesteps=4"]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert process.stdout is not None
    line = next((line for line in process.stdout if line.startswith("http://127.0.0.1:")), "")
    assert line, "the playground did not start"
    yield line.split()[0]
    process.terminate()
    process.wait(60)


@pytest.fixture
def page(address: str) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(PATIENCE_MS)
        elsewhere: list[str] = []
        page.on("request", lambda request: elsewhere.append(request.url))
        page.goto(address)
        yield page
        local = ("http://127.0.0.1:", "data:", "blob:", "ws://127.0.0.1:")
        assert [url for url in elsewhere if not url.startswith(local)] == []
        browser.close()


@pytest.mark.long
@needs_a_browser
def test_a_person_clicks_imagines_and_sees_the_truth(page: Any) -> None:
    """The base says that it was never trained to answer; nothing is loaded from elsewhere; a telephone shows it all."""
    assert "never trained to answer" in page.locator("#not-asked").inner_text()
    seen = page.locator("#seen-pet img")
    seen.wait_for()
    box = seen.bounding_box()
    page.mouse.click(box["x"] + FLOOR[0] * box["width"], box["y"] + FLOOR[1] * box["height"])
    page.get_by_text("Now let the model imagine what you cannot see.").first.wait_for()
    page.click("#imagine-pet")
    page.get_by_text("Drawn with seed 0: 32 x 32 pixels").wait_for()
    page.locator("#imagined-pet img").wait_for()
    page.locator("#truth-pet img").wait_for()
    page.set_viewport_size({"width": 420, "height": 900})
    page.wait_for_function("document.documentElement.scrollWidth <= 420")


def test_a_taken_port_is_named() -> None:
    gradio = pytest.importorskip("gradio", reason="gradio is not installed: pip install '.[app]'")
    import socket

    from ipt.app.page import launch

    with socket.create_server(("127.0.0.1", 0)) as taken, gradio.Blocks(analytics_enabled=False) as blocks:
        port = taken.getsockname()[1]
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(UserError, match=f"port {port} of this machine is taken"),
    ):
        launch(blocks, "127.0.0.1", port, False)
