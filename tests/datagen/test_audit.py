"""The audit finds every give-away that is planted, and passes sets that have none."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datagen.audit.__main__ import AuditConfig, main
from datagen.audit.balance import elimination, fact_counts, letter_shares, near_duplicates, scenes_in_two_splits
from datagen.audit.baselines import BASELINES, borrow, evaluate, project
from datagen.audit.folds import FOLDS, assign_folds, validations
from datagen.audit.items import Item, Picture, perceptual_hash, to_item
from datagen.audit.report import audit, audit_items, bars
from datagen.verify import Mismatch
from ipt.common import cli
from ipt.common.images import encode_image
from ipt.common.seeding import generator
from ipt.samples.sample import SampleImage
from ipt.samples.store import seal, write_shard
from tests.synthetic import make_sample, picture

OBJECTS = tuple(f"object {number}" for number in range(24))
BY_NAME = {baseline.name: baseline for baseline in BASELINES}


@pytest.fixture
def few_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that look at no figure of a baseline: the time of a fit is that of its columns."""
    monkeypatch.setattr("datagen.audit.baselines.HASHED_FEATURES", 2**12)


def made_up_picture(rng: np.random.Generator) -> Picture:
    return Picture("map", rng.normal(size=20).astype(np.float32), int(rng.integers(2**63)), str(rng.integers(2**63)))


def path_tracing(seed: int, count: int = 1000, even: bool = True) -> list[Item]:
    """Four options of 24 objects, ten questions per scene; answers are held even by object and letter, or drawn."""
    rng = generator(seed, "items")
    due, letters = dict.fromkeys(OBJECTS, 0.0), np.zeros(4)
    items = []
    for number in range(count):
        options = [OBJECTS[index] for index in rng.choice(len(OBJECTS), 4, replace=False)]
        letter = int(rng.integers(4))
        if even:
            for option in options:
                due[option] += 0.25
            right = max(options, key=lambda option: due[option])
            due[right] -= 1
            letter = int(np.argmin(letters))
            letters[letter] += 1
            options.remove(right)
            options.insert(letter, right)
        items.append(
            Item(
                id=f"{seed}-{number}",
                task="pt",
                split="train",
                scene=f"toy/{number // 10}",
                question=f"What is on the {('left', 'right')[int(rng.integers(2))]}?",
                question_type="forward",
                choices=tuple(options),
                answer=letter,
                rationale="Look at the map.",
                caption="A room.",
                facts={"room": "kitchen"},
                views=(made_up_picture(rng),),
                imagination=made_up_picture(rng),
            )
        )
    return items


def excess(name: str, items: list[Item]) -> Any:
    return evaluate(BY_NAME[name], items, project(items))


@pytest.mark.long
@pytest.mark.parametrize("even", [True, False])
@pytest.mark.parametrize("name", ["option_priors", "question_only", "images_shuffled"])
def test_clean_sets_are_at_chance_whether_balanced_or_drawn(name: str, even: bool) -> None:
    estimates = [excess(name, path_tracing(seed, even=even)) for seed in range(4)]
    assert abs(np.mean([estimate.value for estimate in estimates])) < 0.02  # standard error 0.007
    assert sum(estimate.includes(0) for estimate in estimates) >= 3
    assert all(estimate.high - estimate.low < 0.08 for estimate in estimates)


@pytest.mark.parametrize("name", ["option_priors", "images_shuffled"])
def test_a_clean_set_passes(name: str) -> None:
    assert excess(name, path_tracing(0, 400)).includes(0)


def first_option_letter(item: Item, rng: np.random.Generator) -> Item:
    return with_answer(item, 0) if rng.random() < 0.3 else item


def with_answer(item: Item, index: int) -> Item:
    return replace(item, answer=index)


def furniture_is_right(item: Item, rng: np.random.Generator) -> Item:
    """As in the published set: some objects are answers twice as often as others."""
    large = [index for index, choice in enumerate(item.choices) if int(choice.split()[1]) < 12]
    return with_answer(item, int(rng.choice(large))) if large and rng.random() < 0.5 else item


def never_right(item: Item, rng: np.random.Generator) -> Item:
    possible = [index for index, choice in enumerate(item.choices) if int(choice.split()[1]) % 2]
    return with_answer(item, int(rng.choice(possible))) if possible else item


def side_tells(item: Item, rng: np.random.Generator) -> Item:
    low = [
        index for index, choice in enumerate(item.choices) if (int(choice.split()[1]) < 12) == ("left" in item.question)
    ]
    return with_answer(item, int(rng.choice(low))) if low else item


def named(field: str) -> Callable[[Item, np.random.Generator], Item]:
    def name_the_answer(item: Item, rng: np.random.Generator) -> Item:
        return replace(item, **{field: f"{getattr(item, field)} There is {item.choices[item.answer]}."})

    return name_the_answer


def concluded(item: Item, rng: np.random.Generator) -> Item:
    """A rationale that goes through all options, as ours do, and ends with the right one."""
    walk = " ".join(f"There may be a {item.choices[index]}." for index in rng.permutation(len(item.choices)))
    return replace(item, rationale=f"{walk} So it is the {item.choices[item.answer]}.")


@pytest.mark.parametrize(
    ("plant", "caught", "clean"),
    [
        (first_option_letter, "option_priors", None),
        (furniture_is_right, "option_priors", None),
        (never_right, "option_priors", None),
        (side_tells, "question_only", "option_priors"),
        (named("question"), "question_only", "option_priors"),
        (named("caption"), "caption_leak", "question_only"),
        (named("rationale"), "rationale_leak", "question_only"),
        (concluded, "rationale_leak", "caption_leak"),
    ],
)
def test_a_planted_give_away_is_caught_by_the_baseline_that_sees_it(
    plant: Callable[[Item, np.random.Generator], Item], caught: str, clean: str | None
) -> None:
    rng = generator(0, "plant")
    items = [plant(item, rng) for item in path_tracing(0, 600)]
    assert excess(caught, items).low > 0.02
    if clean is not None:
        assert excess(clean, items).value < 0.04


def colour_tells(item: Item) -> Item:
    """The first picture shows the answer's number: sight is needed, and a stranger's picture does not help."""
    features = np.zeros(20, dtype=np.float32)
    features[int(item.choices[item.answer].split()[1]) % 20] = 5
    return replace(item, views=(replace(item.views[0], features=features),))


def test_pictures_that_are_needed_help_only_if_they_are_the_right_ones() -> None:
    items = [colour_tells(item) for item in path_tracing(0, 600)]
    assert excess("single_view", items).low > 0.3
    assert excess("all_views", items).low > 0.3
    assert excess("images_shuffled", items).value < 0.04
    assert excess("question_only", items).value < 0.04


def test_folds_keep_scenes_together_and_even_sets_even() -> None:
    for even in (True, False):
        items = path_tracing(1, even=even)
        folds = assign_folds(items, generator(0, "folds"))
        assert np.bincount(folds, minlength=FOLDS).tolist() == [200] * FOLDS
        assert len({(item.scene, fold) for item, fold in zip(items, folds, strict=True)}) == 100
        counts = np.zeros((FOLDS, 4))
        np.add.at(counts, (folds, [item.answer for item in items]), 1)
        assert bool(np.abs(counts - 50).max() <= 3) is even
    with pytest.raises(ValueError, match="at least 5 scenes"):
        assign_folds(items[:40], generator(0, "folds"))


def test_a_later_split_is_answered_by_what_the_earlier_ones_tell() -> None:
    one, other = (
        path_tracing(0, 400),
        [replace(item, split="val", scene=f"v{item.scene}") for item in path_tracing(1, 400)],
    )
    assert validations([*other, *one], generator(0, "folds")) == [(list(range(400, 800)), list(range(400)))]
    assert excess("question_only", [*one, *other]).includes(0)
    rng = generator(0, "plant")
    told, told_there = ([side_tells(item, rng) for item in items] for items in (one, other))
    assert excess("question_only", [*told, *told_there]).low > 0.02
    assert excess("question_only", [*told, *other]).value < 0.04


def test_no_split_is_answered_by_what_a_later_one_tells() -> None:
    items = [
        replace(item, split=split, scene=f"{split}/{item.scene}")
        for split, seed in (("test", 0), ("train", 1), ("val", 2))
        for item in path_tracing(seed, 20)
    ]
    test, train, val = list(range(20)), list(range(20, 40)), list(range(40, 60))
    assert validations(items, generator(0, "folds")) == [(train, val), (sorted([*train, *val]), test)]


def test_pictures_are_borrowed_from_other_scenes_alone() -> None:
    items = path_tracing(0, 60)
    for row, lender in zip(range(60), borrow(items, list(range(60)), generator(0, "borrow")), strict=True):
        assert items[row].scene != items[lender].scene
    more = [replace(items[0], views=items[0].views * 3), *items[10:30]]
    assert borrow(more, list(range(21)), generator(0, "borrow"))[0] == 0, "none has as many pictures"


def test_elimination_reproduces_the_published_gap() -> None:
    """62% of questions with one option that is never correct: 37.5% instead of 25% in the authors' audit."""
    items = [
        replace(
            item,
            choices=(*item.choices[:1], *(f"{choice}?" for choice in item.choices[1:2]), *item.choices[2:]),
            answer=0,
        )
        for item in path_tracing(0)
    ]
    found = elimination(items, generator(0, "elimination"))
    assert found["questions_with_eliminable_option"] == 1.0
    assert found["guess_rate"] == pytest.approx(1 / 3)
    assert found["guess_rate"] > found["null_high"]
    assert len(found["never_correct"]) == len(OBJECTS)
    clean = elimination(path_tracing(0), generator(0, "elimination"))
    assert clean["guess_rate"] == 0.25 and clean["never_correct"] == []


def test_rare_options_alone_are_no_give_away() -> None:
    """60 questions over 24 objects: some object is never correct, and the bar knows that this is chance."""
    found = elimination(path_tracing(3, 60, even=False), generator(0, "elimination"))
    assert found["guess_rate"] > 0.25
    assert found["guess_rate"] <= found["null_high"]


def test_letters_are_compared_among_equally_many_choices() -> None:
    items = path_tracing(0, 40)
    assert letter_shares(items)["deviation"] == 0
    two = [replace(item, choices=item.choices[:2], answer=0) for item in items]
    shares = letter_shares([*items, *two])
    assert shares["shares"]["4"]["A"] == 0.25 and shares["shares"]["2"] == {"A": 1.0, "B": 0.0}
    assert shares["deviation"] == 50


def test_shared_scenes_and_near_duplicates_are_found() -> None:
    items = path_tracing(0, 60)
    assert scenes_in_two_splits(items) == {} and near_duplicates(items)["pairs"] == 0
    moved = replace(items[5], split="test")
    twin = replace(
        items[45],
        split="test",
        views=(replace(items[45].views[0], perceptual_hash=items[5].views[0].perceptual_hash ^ 5),),
    )
    assert scenes_in_two_splits([*items, moved]) == {"toy/0": ["test", "train"]}
    found = near_duplicates([*items[:45], twin, *items[46:]])
    assert (found["pairs"], found["pairs_across_splits"]) == (1, 1)
    assert found["examples"] == [["0-5 (map)", "0-45 (map)"]]


def test_perceptual_hash_ignores_compression_and_tells_pictures_apart() -> None:
    def views(pixels: Any, form: Any) -> int:
        return (
            to_item(make_sample(pixels=pixels)).views[0].perceptual_hash
            if form == "png"
            else to_item(make_sample(images=(SampleImage(encode_image(pixels, "jpeg", 80), "frame_0"),)))
            .views[0]
            .perceptual_hash
        )

    pictures = [picture(seed, 64) for seed in range(12)]
    hashes = [views(pixels, "png") for pixels in pictures]
    assert all((views(pixels, "jpeg") ^ code).bit_count() <= 3 for pixels, code in zip(pictures, hashes, strict=True))
    assert min((a ^ b).bit_count() for i, a in enumerate(hashes) for b in hashes[:i]) > 10
    assert perceptual_hash(np.zeros((32, 32), np.float32)) == 0


def test_facts_are_counted_once_and_identifiers_not_at_all() -> None:
    items = [
        to_item(make_sample(number, facts={"answer_text": "1", "object": {"id": f"o{number}", "size": 1.5}}))
        for number in range(100)
    ]
    counts = fact_counts(items)
    assert counts["answer_text"] == {"1": 25, "2": 25, "3": 25, "4": 25}
    assert set(counts) == {"answer_text", "question_type"}


def write_samples(folder: Path, split: str = "train", first: int = 0) -> Path:
    samples = [make_sample(number, split=split) for number in range(first, first + 80)]
    write_shard(folder / "samples.parquet", samples)
    seal(folder, {})
    return folder


@pytest.mark.usefixtures("few_columns")
def test_folders_are_audited_together_and_the_page_escapes_them(tmp_path: Path) -> None:
    folders = [write_samples(tmp_path / "train"), write_samples(tmp_path / "<b>test", "test", 80)]
    wrong = [Mismatch("sample-00003", "<4>", "5")]
    report = audit(folders, tmp_path / "out", lambda samples: wrong if len(list(samples)) == 160 else [])
    assert json.loads((tmp_path / "out" / "audit.json").read_text()) == json.loads(json.dumps(report))
    assert report["samples"] == 160 and report["tasks"]["mvc"]["facts"]["room"] == {"kitchen": 80, "hall": 80}
    verdicts = {bar["bar"]: bar["passed"] for bar in report["bars"]}
    assert verdicts["no scene in two splits"] is True
    assert verdicts["no answer differs from its recomputation"] is False
    assert report["passed"] is False
    page = (tmp_path / "out" / "audit.html").read_text()
    assert page.count("<svg") >= 4 and "&lt;b&gt;test" in page and "<b>test" not in page and "&lt;4&gt;" in page


def made_up_report() -> dict[str, Any]:
    """The figures of a set that holds every bar."""
    baseline = {
        "bar": True,
        "holds": True,
        "value": 0.25,
        "low": 0.2,
        "high": 0.3,
        "chance": 0.25,
        "margin": None,
        "why": "",
    }
    task = {
        "letters": {"deviation": 1.9},
        "baselines": {
            "option_priors": baseline,
            "nearest_to_m1": {**baseline, "margin": 0.03, "why": "a reason"},
            "all_views": {**baseline, "bar": False, "holds": False},
        },
        "elimination": {"guess_rate": 0.26, "null_high": 0.26},
        "chance": 0.25,
    }
    done = {"checked": 400, "wrong": 0, "unchecked": 0}
    return {"tasks": {"pt": task}, "scenes_in_two_splits": {}, "recomputed": done}


@pytest.mark.parametrize(
    ("bar", "where", "broken"),
    [
        ("letters within 2 points of uniform", ("tasks", "pt", "letters", "deviation"), 2.1),
        ("striking out never-correct options does not help", ("tasks", "pt", "elimination", "guess_rate"), 0.27),
        ("interval of option_priors includes chance", ("tasks", "pt", "baselines", "option_priors", "holds"), False),
        (
            "nearest_to_m1 does not beat chance by more than 3 points",
            ("tasks", "pt", "baselines", "nearest_to_m1", "holds"),
            False,
        ),
        ("no scene in two splits", ("scenes_in_two_splits",), {"toy/0": ["test", "train"]}),
        ("no answer differs from its recomputation", ("recomputed", "wrong"), 1),
        ("every answer could be recomputed", ("recomputed", "unchecked"), 1),
    ],
)  # fmt: skip
def test_every_bar_fails_when_what_it_forbids_is_there(bar: str, where: tuple[str, ...], broken: object) -> None:
    report = made_up_report()
    holds = {row["bar"]: row["passed"] for row in bars(report)}
    assert all(holds.values()) and len(holds) == 7 and bar in holds
    inner: Any = report
    for name in where[:-1]:
        inner = inner[name]
    inner[where[-1]] = broken
    assert [row["bar"] for row in bars(report) if not row["passed"]] == [bar]


@pytest.mark.usefixtures("few_columns")
def test_what_no_scene_could_be_loaded_for_is_not_wrong_and_not_silent() -> None:
    items = path_tracing(0, 60)
    report = audit_items(items, [Mismatch("0-1", "a", "b"), Mismatch("0-2", "a", None, "scene s: gone")])
    assert report["recomputed"]["checked"] == 59 and report["recomputed"]["wrong"] == 1
    assert report["recomputed"]["unchecked"] == 1 and "scene s: gone" in report["recomputed"]["examples"][1]
    assert report["passed"] is False
    untested = {
        row["bar"]: row["passed"] for row in bars({**report, "recomputed": {"checked": 0, "wrong": 0, "unchecked": 0}})
    }
    assert untested["no answer differs from its recomputation"] is untested["every answer could be recomputed"] is None


@pytest.mark.usefixtures("few_columns")
def test_a_single_shard_is_audited_into_a_folder_beside_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shard = write_samples(tmp_path / "train") / "samples.parquet"
    with suppress(SystemExit):
        cli.run(AuditConfig, main, [f"data={shard}"])
    assert json.loads((tmp_path / "train" / "samples-audit" / "audit.json").read_text())["samples"] == 80
    assert "written: " in capsys.readouterr().out


def test_an_output_that_cannot_be_a_folder_is_refused_before_the_work(tmp_path: Path) -> None:
    folder = write_samples(tmp_path / "train")
    (tmp_path / "file").write_text("taken")
    with pytest.raises(FileExistsError, match="file"):
        audit([folder], tmp_path / "file", lambda samples: pytest.fail("it was read"))


def test_the_same_sample_twice_is_an_error(tmp_path: Path) -> None:
    folder = write_samples(tmp_path / "train")
    with pytest.raises(ValueError, match="160 samples with 80 different ids"):
        audit([folder, folder], tmp_path)


@pytest.mark.usefixtures("few_columns")
def test_the_command_prints_every_bar_and_fails_if_one_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_samples(tmp_path / "train")
    try:
        cli.run(AuditConfig, main, [f"data={folder}"])
        status = 0
    except SystemExit as stop:
        status = stop.code
    printed = capsys.readouterr().out
    report = json.loads((folder / "audit.json").read_text())
    assert status == (0 if report["passed"] else 1)
    assert all(bar["bar"] in printed for bar in report["bars"])
    assert "not tested" in printed


@pytest.mark.usefixtures("few_columns")
def test_a_report_does_not_depend_on_the_order_of_calls() -> None:
    items = path_tracing(0, 60)
    first = audit_items(items)
    evaluate(BASELINES[0], path_tracing(1, 60), {})
    assert audit_items(items) == first
