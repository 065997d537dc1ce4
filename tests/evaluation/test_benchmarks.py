"""Small files in the form of the published evaluation sets: the right questions come out, and wrong files are refused."""

from __future__ import annotations

import base64
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ipt.common import cli
from ipt.common.files import CorruptFile, read_json
from ipt.common.images import encode_image
from ipt.evaluation.benchmarks.__main__ import BenchmarkConfig, main
from ipt.evaluation.benchmarks.catalog import BENCHMARKS
from ipt.evaluation.benchmarks.published import (
    HABITAT_KINDS,
    PET_KINDS,
    PT_VARIANTS,
    count_options,
    drawn,
    drawn_by_stratum,
)
from ipt.evaluation.metrics import averages
from ipt.samples.sample import SpatialSample
from ipt.samples.store import SampleReader
from tests.synthetic import picture

IMAGE = encode_image(picture(1, 8))
CELL = {"bytes": IMAGE, "path": None}


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def read(name: str, source: Path) -> list[SpatialSample]:
    return list(BENCHMARKS[name].read(source, name))


def pet_row(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "question_no_arrow": f"Will lamp {number} be closer?",
        "answer": "AB"[number % 2],
        "answer_choices": json.dumps(["Further", "Closer"]),
        "marked_image_no_arrow": CELL,
        "new_perspective": CELL,
        "scene_name": f"House_{number // 2}",
        **changes,
    }


def pt_row(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "topdown_image": CELL,
        "ego_images": [CELL, CELL],
        "sideview_image": CELL,
        "question": "At <image_1>, after <image_2> and <image_3>: what is on your left?",
        "choices": ["a bed", "a lamp", "a sink", "a sofa"],
        "answer": "ABCD"[number % 4],
        "scene_id": f"FloorPlan{number}",
        **changes,
    }


def mvc_row(number: int) -> dict[str, Any]:
    frames = {f"frame_{view}": CELL if view < 3 else None for view in range(8)}
    question = f"How many chairs are in area {number}? A) 1 B) 2 C) 3 D) 4"
    return {"question": question, "answer": "B", "movement_type": "rotation", "topdown_map": CELL, **frames}


def test_perspective_taking_takes_its_sub_categories_from_its_splits(tmp_path: Path) -> None:
    for kind in PET_KINDS:
        write(tmp_path / "data" / f"{kind}-00000-of-00001.parquet", [pet_row(number) for number in range(4)])
    samples = read("pet_ai2thor", tmp_path)
    assert Counter(sample.question_type for sample in samples) == dict.fromkeys(PET_KINDS, 4)
    assert {sample.answer_text for sample in samples} == {"Closer", "Further"}
    assert len({sample.id for sample in samples}) == 24 and all(sample.has_imagination for sample in samples)


def test_habitat_is_the_draw_of_the_published_code(tmp_path: Path) -> None:
    for kind in HABITAT_KINDS:
        write(tmp_path / f"{kind}-00000-of-00001.parquet", [pet_row(number) for number in range(60)])
    samples = read("pet_habitat", tmp_path)
    assert len(samples) == BENCHMARKS["pet_habitat"].size
    random.seed(42)  # as there: anew for every split
    expected = {f"Will lamp {number} be closer?" for number in random.sample(list(range(60)), 50)}
    for kind in HABITAT_KINDS:
        assert {sample.question for sample in samples if sample.question_type == kind} == expected


def test_path_tracing_has_its_variants_as_sub_categories_and_real_ones_have_no_side_view(tmp_path: Path) -> None:
    for variant in (*PT_VARIANTS, "td_ego_side"):
        changes = {} if variant == "td_ego_dir" else {"ego_images": None, "question": "What is on your left?"}
        write(tmp_path / "ai2thor" / variant / "val-00000-of-00001.parquet", [pt_row(n, **changes) for n in range(5)])
    samples = read("pt_ai2thor", tmp_path / "ai2thor")
    assert [sample.question_type for sample in samples] == [variant for variant in PT_VARIANTS for _ in range(5)]
    assert [image.role for image in samples[0].images] == ["map", "ego_1", "ego_2"] and len(samples[5].images) == 1
    assert samples[3].answer_text == "a sofa" and samples[3].provenance.scene_id == "FloorPlan3"
    for variant in ("td_path", "td_path_arrow"):
        row = {"image": CELL, "question": "What is on your left?", "choices": ["a bed", "a lamp"], "answer": "a lamp"}
        write(tmp_path / "real" / f"{variant}-00000-of-00001.parquet", [row] * 2)
    real = read("pt_real", tmp_path / "real")
    assert [sample.answer for sample in real] == ["B"] * 4 and not any(sample.has_imagination for sample in real)


def test_multiview_counting_keeps_the_frames_that_are_there(tmp_path: Path) -> None:
    write(tmp_path / "train-00000-of-00001.parquet", [mvc_row(number) for number in range(3)])
    samples = read("mvc_ai2thor", tmp_path)
    assert [len(sample.images) for sample in samples] == [3] * 3
    assert samples[2].choices == ("1", "2", "3", "4") and samples[2].question == "How many chairs are in area 2?"


def published_options(gt: int, row: int) -> list[int]:
    """Facts of the published evaluation: distractors within 3 of the count, between 1 and 8, under the seed 42 + row."""
    rng = random.Random(42 + row)
    pool = [x for x in range(max(1, gt - 3), min(8, gt + 3) + 1) if x != gt]
    if len(pool) < 3:
        pool = [x for x in range(1, 9) if x != gt]
    options = [*rng.sample(pool, 3), gt]
    rng.shuffle(options)
    return options


def test_counting_draws_rows_and_options_as_the_published_code_does(tmp_path: Path) -> None:
    rows = [
        {"question": f"How many cups? {n}", "gt_answer": str(n % 11 + 1), "images": [CELL] * (2 + n % 3)}
        for n in range(230)
    ]
    write(tmp_path / "train-00000-of-00001.parquet", rows)
    samples = read("mvc_scannet", tmp_path)
    random.seed(42)
    chosen = sorted(random.sample(list(range(230)), 200))
    assert [sample.question for sample in samples] == [f"How many cups? {number}" for number in chosen]
    for sample, number in zip(samples, chosen, strict=True):
        assert sample.choices == tuple(map(str, published_options(number % 11 + 1, number)))
        assert sample.answer_text == str(number % 11 + 1)
    write(tmp_path / "test-00000-of-00001.parquet", [{**row, "question": "Test?"} for row in rows[:4]])
    assert {sample.question for sample in read("mvc_messytable", tmp_path)} == {"Test?"}


def test_sat_is_its_perspective_category(tmp_path: Path) -> None:
    encoded = base64.b64encode(IMAGE).decode()
    lines = ["index\timage\tquestion\tA\tB\tC\tanswer\tcategory"]
    for number in range(6):
        image = encoded if number % 2 else str([encoded, encoded])
        category = "perspective" if number < 4 else "counting"
        lines.append(f"{number}\t{image}\tLeft or right?\tleft\tright\t\t{'right' if number == 1 else 'A'}\t{category}")
    (tmp_path / "SAT_circular.tsv").write_text("\n".join(lines))
    samples = read("pet_sat", tmp_path)
    assert [len(sample.images) for sample in samples] == [2, 1, 2, 1]
    assert [sample.answer for sample in samples] == ["A", "B", "A", "A"]
    assert samples[0].choices == ("left", "right")


def mindcube_source(folder: Path, rows: int) -> None:
    settings = ["among"] * 6 + ["around"] * 3 + ["rotation"]
    lines = [
        {
            "id": f"{settings[n % 10]}_group{n // 5}_q{n}",
            "images": ["other/views/1.png", "other/views/2.png"],
            "question": f"Case {n}: what is behind you? A. A lamp B. Directly the door C. Sofa",
            "gt_answer": "B",
        }
        for n in range(rows)
    ]
    (folder / "raw").mkdir(parents=True)
    (folder / "other" / "views").mkdir(parents=True)
    for name in "12":
        (folder / "other" / "views" / f"{name}.png").write_bytes(IMAGE)
    (folder / "raw" / "MindCube_tinybench.jsonl").write_text("\n".join(map(json.dumps, lines)))


def test_mindcube_is_drawn_by_setting(tmp_path: Path) -> None:
    mindcube_source(tmp_path, 1050)
    samples = read("mindcube", tmp_path)
    assert len({sample.id for sample in samples}) == 200
    assert Counter(sample.question_type for sample in samples)["among"] in (120, 121)
    assert samples[0].answer_text == "Directly the door" and len(samples[0].images) == 2
    assert samples[0].provenance.scene_id.startswith("among_group")


def test_all_angles_is_read_with_its_categories(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(IMAGE)
    row = {"question": "How many?", "A": "1", "B": "2", "C": "3", "answer": "C", "category": "counting", "folder": "f"}
    (tmp_path / "egohumans_only.json").write_text(json.dumps([{**row, "image_path": ["a.png"]}] * 2))
    samples = read("all_angles", tmp_path)
    assert [(s.answer_text, s.question_type, s.provenance.scene_id) for s in samples] == [("3", "counting", "f")] * 2


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "missing.png"])
def test_views_are_read_from_within_their_folder_only(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.png").write_bytes(IMAGE)
    row = {"question": "How many?", "A": "1", "B": "2", "answer": "A", "category": "counting", "image_path": [name]}
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "egohumans_only.json").write_text(json.dumps([row]))
    with pytest.raises(CorruptFile, match="row 0, field 'images'"):
        read("all_angles", tmp_path / "data")


def test_missing_parts_columns_and_wrong_cells_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no parquet file"):
        read("mvc_ai2thor", tmp_path)
    with pytest.raises(FileNotFoundError, match="0 files"):
        read("pet_sat", tmp_path)
    write(tmp_path / "a" / "td_path" / "val-00000-of-00001.parquet", [pt_row(0)])
    with pytest.raises(ValueError, match="lacks the parts td_ego_dir, td_path_arrow; its files are: td_path"):
        read("pt_ai2thor", tmp_path / "a")
    write(tmp_path / "b" / "train.parquet", [{"question": "q", "images": [CELL]}])
    with pytest.raises(CorruptFile, match=r"train.parquet lacks the columns gt_answer; it has question, images"):
        read("mvc_scannet", tmp_path / "b")
    write(tmp_path / "c" / "train.parquet", [{"question": "q", "images": [CELL], "gt_answer": "many"}])
    with pytest.raises(CorruptFile, match=r"train.parquet, row 0, field 'gt_answer': expected a number, got 'many'"):
        read("mvc_scannet", tmp_path / "c")


@pytest.mark.parametrize(
    ("name", "file", "content", "told"),
    [
        ("mvc_scannet", "train.parquet", b"text", "is not a whole parquet file"),
        ("all_angles", "egohumans_only.json", b"{}", "expected a JSON list, got {}"),
        ("all_angles", "egohumans_only.json", b"[3]", "row 0: expected named fields, got 3"),
        ("mindcube", "MindCube_tinybench.jsonl", b"[1]\n", "row 0: expected named fields, got"),
        ("mindcube", "MindCube_tinybench.jsonl", b"PAR1\xff", "is no text in UTF-8"),
        ("pet_sat", "SAT_circular.tsv", b"PAR1\xff", "is no text in UTF-8"),
        ("pet_sat", "SAT_circular.tsv", b"a,b\n1,2\n", "lacks the columns image, question"),
        ("photos", "questions.csv", b"PAR1\xff", "is no text in UTF-8"),
        ("photos", "questions.csv", b'images,question\n"a\rb,c\n', "field 'question' is missing"),
        ("photos", "questions.jsonl", b"[1]\n", "row 1: unknown field ''"),
    ],
)
def test_a_file_of_another_kind_is_named(name: str, file: str, content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / file).write_bytes(content)
    with pytest.raises(CorruptFile, match=rf"{file}.*{told}"):
        read(name, tmp_path)


def test_draws_do_not_repeat_and_take_everything_where_there_is_too_little() -> None:
    assert sorted(drawn(30, 50)) == list(range(30)) and len(set(drawn(400, 200))) == 200
    assert sorted(drawn_by_stratum(["a"] * 5 + ["b"] * 3, 200)) == list(range(8))
    rows = drawn_by_stratum(["a"] * 900 + ["b"] * 90 + ["c"], 100)
    assert len(set(rows)) == 100 and 990 in rows
    for count in (1, 8, 12):
        options = count_options(count, 7)
        assert len(set(options)) == 4 and str(count) in options


def test_the_command_makes_a_folder_that_knows_how_it_is_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mindcube_source(tmp_path / "source", 40)
    cli.run(BenchmarkConfig, main, ["name=mindcube", f"data={tmp_path / 'source'}", f"output_dir={tmp_path / 'out'}"])
    assert "40 questions; the published evaluation has 200" in capsys.readouterr().err
    reader = SampleReader(tmp_path / "out", verify=True)
    assert len(reader) == 40 and not reader[0].has_imagination
    assert read_json(tmp_path / "out" / "manifest.json")["benchmark"]["name"] == "mindcube"
    assert averages(tmp_path / "out") is True
    with pytest.raises(SystemExit):
        cli.run(BenchmarkConfig, main, ["name=mindcub", "data=x", "output_dir=y"])
    assert "did you mean 'mindcube'" in capsys.readouterr().err


def photo_folder(folder: Path, row: dict[str, Any] | None = None, form: str = "jsonl") -> Path:
    """Three pictures and two questions about them, the second changed by ``row``."""
    folder.mkdir()
    for name in ("a.jpg", "b.png", "c.jpg"):
        pixels = picture(ord(name[0]), 24)
        (folder / name).write_bytes(encode_image(pixels, "png" if name.endswith("png") else "jpeg"))
    first = {
        "images": ["a.jpg"],
        "question": "Closer?",
        "choices": ["Closer", "Further"],
        "answer": "further",
        "task": "pet",
    }
    second = {
        "images": ["a.jpg", "b.png"],
        "question": "How many mugs, each once?",
        "choices": ["1", "2", "3"],
        "answer": "3",
    }
    questions = [{**first, "answer": "Further", "imagination": "c.jpg"}, {**second, **(row or {})}]
    questions[1] = {key: value for key, value in questions[1].items() if value is not None}
    if form == "jsonl":
        text = "".join(f"{json.dumps(question)}\n" for question in questions)
    else:
        head = list(dict.fromkeys(key for question in questions for key in question))
        cells = [
            ["|".join(v) if isinstance(v := question.get(key, ""), list) else v for key in head]
            for question in questions
        ]
        text = "\n".join(",".join(f'"{cell}"' for cell in line) for line in [head, *cells]) + "\n"
    (folder / f"questions.{form}").write_text(text)
    return folder


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_ones_own_photos_become_an_evaluation_set(
    tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = photo_folder(tmp_path / "mine", {"scene": "kitchen", "id": "mugs", "answer": "c"}, form)
    main(BenchmarkConfig("photos", str(folder), str(tmp_path / "set")))
    first, second = SampleReader(tmp_path / "set")
    assert (first.answer_text, first.task, [image.role for image in first.images]) == (
        "Further",
        "pet",
        ["observation"],
    )
    assert first.has_imagination and first.imagination.data == (folder / "c.jpg").read_bytes()
    assert (second.id, second.answer_text, second.provenance.scene_id) == ("mugs", "3", "kitchen")
    assert [image.role for image in second.images] == ["frame_0", "frame_1"] and not second.has_imagination
    assert second.images[1].data == (folder / "b.png").read_bytes() and averages(tmp_path / "set") is False
    assert "2 questions in 1 shards" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"images": ["a.jpg", "d.jpg"]}, r"questions\.jsonl, row 2, field 'images': d\.jpg: no such file"),
        ({"images": ["../set/a.jpg"]}, r"row 2, field 'images': '\.\./set/a\.jpg' lies outside"),
        ({"images": ["broken.jpg"]}, r"row 2, field 'images': broken\.jpg: broken or truncated"),
        ({"answer": "D"}, r"row 2, field 'answer': must be a letter in ABC or one of the choices, got 'D'"),
        ({"choices": ["1", "1", "3"]}, r"row 2: .*field 'choices': must differ"),
        ({"question": None}, r"row 2: field 'question' is missing"),
        ({"task": "sat"}, r"row 2, field 'task': must be one of pet, pt, mvc"),
        ({"colour": "red"}, r"row 2: unknown field 'colour'; valid: images"),
        ({"id": "photos-1"}, r"row 2, field 'id': 'photos-1' is the id of an earlier row"),
    ],
)
def test_a_wrong_question_about_photos_is_named(tmp_path: Path, row: dict[str, Any], told: str) -> None:
    folder = photo_folder(tmp_path / "mine", row)
    (folder / "broken.jpg").write_bytes((folder / "a.jpg").read_bytes()[:-80])
    with pytest.raises(CorruptFile, match=told):
        read("photos", folder)


def test_photos_without_questions_say_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"must hold one of questions\.csv or questions\.jsonl, found 0"):
        read("photos", tmp_path)
