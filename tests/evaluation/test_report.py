"""The report: every figure of the runs is there, every piece of data is text, and filters hide what they should."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from threading import Thread

import pytest
from hydra.core.global_hydra import GlobalHydra

import infer as command
from ipt.common.images import decode_image
from ipt.common.local_server import HOST
from ipt.evaluation.comparison import compare
from ipt.evaluation.metrics import evaluate
from ipt.evaluation.report import write_report
from ipt.evaluation.report.choice import choose, flip, outcome, without_imagination
from ipt.evaluation.report.figures import MAX_POINTS, compute, training_curves
from ipt.evaluation.report.serve import make_server
from ipt.evaluation.settings import QualityConfig
from ipt.inference.prediction import Run
from tests.evaluation.simulated import prediction, write_run
from tests.evaluation.worlds import answered, truth, world
from tests.waiting import HANGS

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LIKENESS = QualityConfig(probe=False)
EVIL = "</script><script>document.title='taken'</script><img src=x onerror=alert(1)>\"'><b>"


class Reader(HTMLParser):
    """What a browser would see: elements, their attributes, and texts."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.articles: list[dict[str, str | None]] = []
        self.sources: list[str] = []
        self.content = ""
        self.feed(markup)

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(name)
        found = dict(attributes)
        if name == "article":
            self.articles.append(found)
        self.sources += [value or "" for key, value in attributes if key in ("src", "href", "xlink:href", "data")]

    def handle_data(self, data: str) -> None:
        self.content += data


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """24 questions: without imagination two of three are right; with it, other two; and with the truth all."""
    folder = tmp_path_factory.mktemp("runs")
    samples, data = world(folder / "data", 24), folder / "data"
    return [
        answered(folder / "plain", data, samples, "answer_only", lambda n: n % 3 > 0),
        answered(folder / "imagined", data, samples, "imagination", lambda n: n % 3 < 2, truth),
        answered(folder / "given", data, samples, "gt_imagination", lambda n: True),
    ]


@pytest.fixture(scope="module")
def report(runs: list[Run], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report([run.folder for run in runs], tmp_path_factory.mktemp("report"), gallery=20, quality=LIKENESS)


def test_page_and_json_hold_the_figures_of_the_runs(runs: list[Run], report: Path) -> None:
    figures, read = json.loads(report.with_name("report.json").read_text()), Reader(report.read_text())
    for found, run in zip(figures["runs"], runs, strict=True):
        (task,) = evaluate(run.predictions).tasks
        assert found["scores"]["tasks"][0]["overall"]["value"] == task.overall.value
        for score in (task.overall, *task.parts.values()):
            assert f"{100 * score.value:.1f} [" in read.content
        assert found["label"] == run.manifest.mode and f"{run.manifest.mode}" in read.content
    expected = compare(runs)
    assert [row["difference"] for row in figures["comparisons"]] == [row.difference for row in expected]
    assert f"{100 * expected[0].difference:+.1f}" in read.content
    assert [len(run["quality"]) for run in figures["runs"]] == [0, 1, 0]
    assert {row["metric"] for row in figures["runs"][1]["quality"][0]["rows"]} == {"PSNR", "SSIM"}
    assert "no figure is a maximum over modes" in read.content
    unsure = figures["selective"]["imagination, pet"]
    assert [(point["imagined"], point["accuracy"]) for point in unsure] == [(0, 2 / 3), (1, 2 / 3)]
    assert "Imagining only where unsure" in read.content and "imagination, pet" in read.content


def test_nothing_is_fetched_and_pictures_are_those_of_the_samples(runs: list[Run], report: Path) -> None:
    read = Reader(report.read_text())
    assert all(source.startswith(("data:image/", "#")) for source in read.sources)
    assert read.tags.count("img") == 20 * 3  # input, truth, imagination
    assert not re.search(r"url\((?!#)", report.read_text())
    assert report.stat().st_size < 2**20


def test_the_gallery_shows_every_combination_and_says_how_many_of_how_many(runs: list[Run], report: Path) -> None:
    gallery = choose(runs, 20, 0)
    counts = {pattern: 0 for pattern in gallery.patterns}
    for shown in gallery.shown:
        counts[shown.outcomes] += 1
    assert len(gallery.patterns) == 3 and min(counts.values()) >= 6 and gallery.total == 24
    assert "20 of 24 samples, drawn with seed 0" in Reader(report.read_text()).content
    assert [s.sample_id for s in choose(runs, 20, 0).shown] == [s.sample_id for s in gallery.shown]
    assert [s.sample_id for s in choose(runs, 20, 1).shown] != [s.sample_id for s in gallery.shown]
    assert not choose(runs, 0, 0).shown and len(choose(runs, 99, 0).shown) == 24


def test_outcomes_and_flips() -> None:
    cases = [
        prediction(right=True),
        prediction(right=False),
        prediction(answer=None),
        prediction(answer=None, error="e"),
    ]
    assert [outcome(case) for case in (*cases, None)] == ["right", "wrong", "invalid", "error", "not asked"]
    assert [flip("wrong", "right"), flip("right", "invalid"), flip("error", "wrong"), flip("right", "right")] == [
        "corrected",
        "broken",
        "wrong in both",
        "right in both",
    ]
    assert flip("not asked", "right") == "not asked"


def test_flips_are_of_one_checkpoint_and_one_dataset(runs: list[Run]) -> None:
    assert without_imagination(runs) == [None, 0, 0]
    other = replace(runs[1], manifest=replace(runs[1].manifest, checkpoint_sha256="another"))
    moved = replace(runs[2], manifest=replace(runs[2].manifest, data_sha256="another"))
    assert without_imagination([runs[0], other, moved]) == [None, None, None]


def test_data_is_text_wherever_it_stands(tmp_path: Path) -> None:
    def written(folder: Path, words: str) -> Path:
        samples = world(folder / "data", 4)
        changes = {"question": words, "sub_category": words, "text": words, "thoughts": (words,), "task": words}
        choices = {"choices": (words, "b"), "expected": 0, "answer": 1}
        run = answered(
            folder / words[:3].replace("/", "."),
            folder / "data",
            samples,
            "imagination",
            lambda n: True,
            truth,
            **changes,
            **choices,
        )
        failed = [replace(p, sample_id=words, answer=None, error=words, scene=words) for p in run.predictions[:1]]
        second = write_run(folder / "second", failed, mode=words, checkpoint=words, data=words, data_sha256=words)
        return write_report([run.folder, second.folder], folder / "report", quality=replace(LIKENESS, limit=0))

    clean, hostile = (written(tmp_path / name, words) for name, words in (("a", "harmless"), ("b", EVIL)))
    first, second = Reader(clean.read_text()), Reader(hostile.read_text())
    glyphs = {"use", "path", "g", "defs"}  # matplotlib draws words with these
    assert [tag for tag in second.tags if tag not in glyphs] == [tag for tag in first.tags if tag not in glyphs]
    assert second.content.count(EVIL) == first.content.count("harmless") > 20


def test_a_report_of_much_data_stays_small(tmp_path: Path) -> None:
    samples = world(tmp_path / "data", 30)
    changes = {"question": "word " * 400_000, "text": "x" * 2_000_000}
    run = answered(tmp_path / "run", tmp_path / "data", samples, "imagination", lambda n: True, truth, **changes)
    page = write_report([run.folder], tmp_path / "report", gallery=5, quality=replace(LIKENESS, limit=0))
    assert page.stat().st_size < 2**19
    assert "(2,000,000 characters)" in page.read_text() and "5 of 30 samples" in page.read_text()


def test_missing_data_and_different_questions_are_said(runs: list[Run], tmp_path: Path) -> None:
    folder = shutil.copytree(runs[1].folder, tmp_path / "moved")
    shutil.rmtree(folder / "images")
    manifest = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**manifest, "data": str(tmp_path / "gone")}))
    page = write_report([folder], tmp_path / "report", quality=LIKENESS)
    content = Reader(page.read_text()).content
    assert "The imaginations of imagination were not judged" in content and "no such folder or shard" in content
    assert "No input pictures" in content and "imagined: no picture" in content and "No flips are marked" in content
    fewer = write_run(tmp_path / "fewer", runs[0].predictions[:5], **{"data_sha256": manifest["data_sha256"]})
    page = write_report([runs[1].folder, fewer.folder], tmp_path / "report", quality=replace(LIKENESS, limit=0))
    assert "the runs answer different samples" in Reader(page.read_text()).content
    with pytest.raises(ValueError, match="LPIPS needs"):
        write_report([folder], tmp_path / "report", quality=replace(LIKENESS, lpips=str(tmp_path)))
    with pytest.raises(ValueError, match="each once"):
        write_report([folder, folder], tmp_path / "report")
    with pytest.raises(ValueError, match="no predictions in"):
        write_report([write_run(tmp_path / "empty", []).folder], tmp_path / "report")


def test_p_values_of_one_page_are_one_family(tmp_path: Path) -> None:
    """Comparisons on two datasets are shown together, so they are adjusted together."""
    runs = []
    for data, gains in (("one", 9), ("two", 12)):
        for mode in ("answer_only", "imagination"):
            made = [prediction(n, n >= gains or mode == "imagination", mode=mode) for n in range(40)]
            runs.append(write_run(tmp_path / f"{data}-{mode}", made, data=data, data_sha256=data))
    first, second = compute(runs, replace(LIKENESS, limit=0), 0).comparisons
    assert (first.p_value, second.p_value) == pytest.approx((2 / 2**9, 2 / 2**12))
    assert (first.adjusted, second.adjusted) == pytest.approx((2 / 2**9, 2 * 2 / 2**12))


def test_training_curves_are_those_of_the_checkpoint(tmp_path: Path) -> None:
    lines = [json.dumps({"step": n, "loss": 8 - n / 1000, "data": "x", "skipped": False}) for n in range(1000)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n" + '{"step": 1000, "lo')
    (tmp_path / "validation.jsonl").write_text('{"step": 500, "loss": 7.5, "accuracy": 0.5}\n')
    for place in (tmp_path, tmp_path / "model", tmp_path / "checkpoints" / "step_00000500"):
        curves = training_curves(place)
        assert set(curves) == {"loss", "accuracy"} and curves["accuracy"] == {"validation": [(500.0, 0.5)]}
        points = curves["loss"]["training"]
        assert len(points) == MAX_POINTS and points[0][0] < 3 and points[-1][0] > 996
        assert all(value == pytest.approx(8 - step / 1000) for step, value in points)
    assert training_curves(tmp_path / "a" / "b" / "c") == {}


def test_the_server_is_local_and_serves_two_files(report: Path) -> None:
    server = make_server(report, (report.with_name("report.json"),))
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        assert server.server_address[0] == HOST == "127.0.0.1"
        address = f"http://{HOST}:{server.server_port}"
        for name, file in (("/", report), ("/report.html", report), ("/report.json", report.with_name("report.json"))):
            with urllib.request.urlopen(address + name) as answer:
                assert answer.read() == file.read_bytes()
        foreign = urllib.request.Request(address + "/", headers={"Host": "evil.example:80"})
        for request in (address + "/../../etc/passwd", address + "/run.json", foreign):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(request)
            assert refused.value.code == 404
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_the_command_writes_the_report(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["infer.py"])
    monkeypatch.chdir(ROOT)
    for named in (str(runs[1].folder), f"[{runs[0].folder},{runs[1].folder}]"):
        GlobalHydra.instance().clear()
        command.main([f"report={named}", f"output_dir={tmp_path}", "quality.probe=false", "gallery=3"])
        assert f"{tmp_path / 'report.html'}" in capsys.readouterr().out
    figures = json.loads((tmp_path / "report.json").read_text())
    assert len(figures["runs"]) == 2 and figures["gallery"]["of"] == 24 and len(figures["gallery"]["samples"]) == 3
    GlobalHydra.instance().clear()
    with pytest.raises(SystemExit):
        command.main([f"report={tmp_path / 'none'}"])
    assert "is no run of inference" in capsys.readouterr().err


def browse(page: Path, *arguments: str, fragment: str = "") -> str:
    """What headless Chromium prints about a page. `make setup` installs Python packages, of which none brings a browser: these
    tests run where one is on the PATH (``apt-get install chromium``); what a page says without one, `Reader` tells everywhere."""
    assert CHROMIUM is not None
    fixed = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--user-data-dir={page.parent}/profile",
    ]
    address = f"{page.as_uri()}#{fragment}"
    done = subprocess.run([CHROMIUM, *fixed, *arguments, address], capture_output=True, timeout=HANGS, check=True)
    return done.stdout.decode()


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize(
    ("fragment", "kept"),
    [
        ("", lambda card: True),
        ("run0=wrong", lambda card: card["data-run0"] == "wrong"),
        (
            "kind=distance&flip1=corrected",
            lambda card: (card["data-kind"], card["data-flip1"]) == ("distance", "corrected"),
        ),
    ],
)
def test_filters_show_what_they_say_in_a_browser(report: Path, fragment: str, kept: object) -> None:
    read = Reader(browse(report, "--dump-dom", fragment=fragment))
    shown = ["hidden" not in card for card in read.articles]
    assert shown == [kept(card) for card in read.articles] and any(shown)  # type: ignore[operator]
    assert all(shown) == (not fragment)
    assert f"{sum(shown)} of 20 shown" in read.content


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_screenshot_shows_text_plots_and_pictures(report: Path, tmp_path: Path) -> None:
    browse(report, "--window-size=1200,2600", f"--screenshot={tmp_path / 'page.png'}")
    pixels = decode_image(tmp_path / "page.png")
    assert pixels.shape == (2600, 1200, 3)
    rows = pixels.reshape(-1, 3)
    for colour, least in (((28, 36, 48), 300), ((36, 87, 166), 100), ((255, 255, 255), 10_000)):  # ink, accent, cards
        assert (abs(rows.astype(int) - colour).sum(1) <= 6).sum() > least, colour
    assert (
        (rows[:, 0] < 70) & (rows[:, 1] < 90) & (rows[:, 2] > 200)
    ).sum() > 500  # blocks in pictures, which are blue
