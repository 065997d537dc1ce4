"""Published datasets: small files in their exact schemas are converted, refused where they are wrong, and written again."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ipt.common.cli import parse
from ipt.common.files import CorruptFile, read_json
from ipt.common.images import encode_image
from ipt.imagination.export import SCHEMA, ExportConfig, export
from ipt.imagination.recipe import load_profile
from ipt.samples.answers import split_options
from ipt.samples.official.convert import ConvertConfig, convert
from ipt.samples.prompts import render_prompt
from ipt.samples.sample import SpatialSample
from ipt.samples.store import SampleReader, seal, write_shards
from tests.synthetic import make_sample, picture

PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
PROMPT = "\nFirst line of the instructions.\nSecond line: wrap it in <answer></answer> tags."


def image(number: int) -> bytes:
    return encode_image(picture(number))


def cell(number: int) -> dict[str, Any]:
    return {"bytes": image(number), "path": f"{number}.png"}


def pet_row(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "question_no_arrow": f"If I move to the 'X' and turn left, will the lamp {number} get closer or further?",
        "question_with_arrow": f"If I follow the arrow, will the lamp {number} get closer or further?",
        "answer": "AB"[number % 2],
        "answer_choices": json.dumps(["Further", "Closer"]),
        "question_type": "distance_change_closer",
        "marked_image_no_arrow": cell(10 * number),
        "marked_image_with_arrow": cell(10 * number + 1),
        "new_perspective": cell(10 * number + 2),
        "scene_name": f"House_{number}",
        "trajectory_id": number,
        **changes,
    }


def mvc_row(number: int, frames: int = 4, **changes: Any) -> dict[str, Any]:
    views = {f"frame_{view}": cell(10 * number + view) if view < frames else None for view in range(8)}
    return {
        "question": f"How many chairs are in area {number}? A) 1 B) 2 C) 3 D) 4",
        "answer": "ABCD"[number % 4],
        "query_object": "chair",
        "movement_type": "rotation",
        "scene_name": f"House_{number}",
        "trajectory_id": f"t{number}",
        "question_type": "counting",
        "count": number % 4 + 1,
        "topdown_map": cell(10 * number + 9),
        **views,
        **changes,
    }


def pt_row(number: int, mode: str = "ipt", **changes: Any) -> dict[str, Any]:
    question = (
        f"You walk from waypoint 2 to 1 in <img><|image_1|></img>, seeing <img><|image_2|></img> and <img><|image_3|></img>.\n"
        f"Which object is on your left at M1, case {number}?\n(A) a dish sponge\n(B) a lamp\n(C) a sofa\n(D) a bed"
    )
    answer = f"<answer>{'ABCD'[number % 4]}</answer>"
    outputs = {
        "ipt": ["<think>Looking left from midpoint M1:</think><image_start>", f"<image_end>{answer}"],
        "label_only": [answer],
        "text_cot": [f"<think>The sofa is near, {number}.</think>{answer}"],
    }
    return {
        "image_list": [image(10 * number + view) for view in range(4 if mode == "ipt" else 3)],
        "instruction_list": [f"{PROMPT} ({mode})", question],
        "output_text_list": outputs[mode],
        "num_input_images": 3,
        "question_id": f"ithor_train_{number}",
        "scene_id": f"FloorPlan{number}",
        "side": "left",
        "variant_type": "td_ego_dir",
        **changes,
    }


def write(folder: Path, rows: list[dict[str, Any]], name: str = "train-00000-of-00001.parquet") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    types = {key: PICTURE for row in rows for key, value in row.items() if isinstance(value, dict)}
    types |= {"image_list": pa.list_(pa.binary())}
    columns = {key: pa.array([row[key] for row in rows], types.get(key)) for key in rows[0]}
    pq.write_table(pa.table(columns), folder / name, row_group_size=2)
    return folder / name


def converted(tmp_path: Path, task: str, rows: list[dict[str, Any]], *more: str) -> list[SpatialSample]:
    write(tmp_path / "source", rows)
    convert(
        parse(ConvertConfig, [f"task={task}", f"data={tmp_path / 'source'}", f"output_dir={tmp_path / 'out'}", *more])
    )
    return list(SampleReader(tmp_path / "out", verify=True))


def test_pet_keeps_its_options_in_their_order(tmp_path: Path) -> None:
    rows = [pet_row(0), pet_row(1, answer_choices='["Closer", "Further"]')]
    samples = converted(tmp_path, "pet", rows)
    assert [sample.choices for sample in samples] == [("Further", "Closer"), ("Closer", "Further")]
    assert [sample.answer for sample in samples] == ["A", "B"]
    assert samples[1].question == rows[1]["question_no_arrow"]
    assert [item.data for item in (*samples[1].images, samples[1].imagination)] == [image(10), image(12)]
    assert (samples[1].imagination.role, samples[1].images[0].role) == ("view", "observation")
    assert samples[1].question_type == "distance_change_closer" and samples[1].provenance.scene_id == "House_1"
    assert not (tmp_path / "out" / "prompts.json").exists()


def test_pet_with_the_arrow(tmp_path: Path) -> None:
    (sample,) = converted(tmp_path, "pet", [pet_row(3)], "arrow=true")
    assert "arrow" in sample.question and sample.images[0].data == image(31)


def test_mvc_has_its_frames_and_options(tmp_path: Path) -> None:
    samples = converted(
        tmp_path, "mvc", [mvc_row(number, frames=4 + number) for number in range(3)], "verify=false", "split=test"
    )
    assert [len(sample.images) for sample in samples] == [4, 5, 6]
    assert samples[2].images[5].role == "frame_5" and samples[2].imagination.role == "bev"
    assert samples[1].question == "How many chairs are in area 1?"
    assert samples[1].choices == ("1", "2", "3", "4") and samples[1].answer_text == "2" and samples[1].split == "test"
    assert samples[1].facts["count"] == 2 and samples[1].question_type == "rotation"


def test_pt_gives_samples_and_system_prompts(tmp_path: Path) -> None:
    for mode in ("label_only", "text_cot"):
        write(tmp_path / mode, [pt_row(number, mode) for number in range(4)])
    companions = f"companions=[{tmp_path / 'label_only'},{tmp_path / 'text_cot'}]"
    samples = converted(tmp_path, "pt", [pt_row(number) for number in range(5)], companions)
    assert [image.role for image in samples[0].images] == ["map", "ego_1", "ego_2"]
    assert samples[0].imagination.role == "side_view" and samples[0].imagination.data == image(3)
    assert samples[0].choices == ("a dish sponge", "a lamp", "a sofa", "a bed")
    assert samples[0].question.startswith("You walk from waypoint 2 to 1 in <image_1>, seeing <image_2> and <image_3>.")
    assert [sample.rationale for sample in samples] == [f"The sofa is near, {number}." for number in range(4)] + [""]
    assert samples[0].facts["thought"] == "Looking left from midpoint M1:" and samples[0].facts["side"] == "left"
    profile = load_profile("release", tmp_path / "out")
    for mode in ("ipt", "label_only", "text_cot"):
        assert profile.system("pt", mode) == f"{PROMPT} ({mode})"
    assert profile.thoughts_of("pt") == ("Looking left from midpoint M1:",)
    assert "1 of 5 samples have no reasoning" in read_json(tmp_path / "out" / "manifest.json")["remarks"][0]


def test_the_release_profile_renders_the_rows_again(tmp_path: Path) -> None:
    row = pt_row(2)
    (sample,) = converted(tmp_path, "pt", [row])
    parts = render_prompt(sample, "ipt", load_profile("release", tmp_path / "out"))
    assert [part.text for part in parts if part.image is None] == row["instruction_list"]


def test_one_text_of_prompt_and_question_is_taken_apart(tmp_path: Path) -> None:
    text = f"{PROMPT}\nHow many chairs are there? A) 1 B) 2 C) 3 D) 4"
    row = pt_row(1) | {"instruction_list": [text]}
    (sample,) = converted(tmp_path, "mvc", [row])
    profile = load_profile("release", tmp_path / "out")
    assert sample.question == "How many chairs are there?" and profile.system("mvc", "ipt") == PROMPT
    texts = [part.text for part in render_prompt(sample, "ipt", profile) if part.image is None]
    assert texts == [text]


def test_prompts_that_differ_between_rows_are_reported(tmp_path: Path) -> None:
    odd = pt_row(3) | {"instruction_list": ["Another prompt.", pt_row(3)["instruction_list"][1]]}
    converted(tmp_path, "pt", [pt_row(0), odd, pt_row(1)])
    assert load_profile("release", tmp_path / "out").system("pt", "ipt") == f"{PROMPT} (ipt)"
    assert "1 rows of mode ipt have other system prompts" in read_json(tmp_path / "out" / "manifest.json")["remarks"][0]


def empty_png(width: int, height: int) -> bytes:
    stream = io.BytesIO()
    Image.new("1", (width, height)).save(stream, "PNG")
    return stream.getvalue()


BROKEN = {"bytes": image(1)[:100], "path": None}
MISTAKES = [
    ("pet", pet_row(1, answer="C"), r"row 1: sample 'pet-train-000001', field 'answer': must be one of A, B"),
    ("pet", pet_row(1, answer_choices=None), "row 1, field 'answer_choices': expected a JSON list"),
    ("pet", pet_row(1, answer_choices='["Closer"]'), "field 'answer_choices': expected .* at least two options"),
    ("pet", pet_row(1, answer_choices="Closer"), "field 'answer_choices': is not JSON"),
    ("pet", pet_row(1, question_no_arrow=" "), "row 1, field 'question_no_arrow': expected text"),
    ("pet", pet_row(1, marked_image_no_arrow=BROKEN), "row 1, field 'marked_image_no_arrow': the image: broken or truncated"),
    ("pet", pet_row(1, new_perspective={"bytes": None, "path": "http://x/y.png"}), "field 'new_perspective': .*not followed"),
    ("pet", pet_row(1, new_perspective={"bytes": empty_png(8000, 5000), "path": None}), "8000x5000 pixels, at most"),
    ("mvc", mvc_row(1, question="How many?"), "row 1, field 'question': no answer options"),
    ("mvc", mvc_row(1, frames=0), "row 1, field 'frame_0': expected at least one frame"),
    ("mvc", mvc_row(1, topdown_map={"bytes": b"GIF89a", "path": None}), "field 'topdown_map': the image: not a PNG"),
    ("pt", pt_row(1, output_text_list=["B"]), "row 1, field 'output_text_list': expected"),
    ("pt", pt_row(1, num_input_images=4), "row 1, field 'num_input_images': 4 of 4 images are inputs"),
    ("pt", pt_row(1, instruction_list=["p", "Which object?"]), "field 'instruction_list': no answer options .*answer_choices"),
    ("pt", pt_row(1, image_list=[b"x"] * 4), r"row 1, field 'image_list\[0\]': the image: not a PNG"),
    ("pt", pt_row(1, image_list=[]), "row 1, field 'image_list': expected a list of images"),
    ("pt", pt_row(1, "label_only"), "row 1, field 'image_list': a row of mode label_only has no imagined image"),
]  # fmt: skip


@pytest.mark.parametrize(("task", "row", "message"), MISTAKES)
def test_a_mistake_is_located_by_file_row_and_field(
    tmp_path: Path, task: str, row: dict[str, Any], message: str
) -> None:
    good = {"pet": pet_row, "mvc": mvc_row, "pt": pt_row}[task](0)
    with pytest.raises(CorruptFile, match=rf"train-00000-of-00001\.parquet, .*{message}"):
        converted(tmp_path, task, [good, row])


def test_unknown_schemas_and_tasks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CorruptFile, match=r"train-00000.*unknown schema with the columns prompt, label"):
        converted(tmp_path, "pet", [{"prompt": "a", "label": "b"}])
    with pytest.raises(CorruptFile, match="holds rows of task 'mvc', not of 'pet'"):
        converted(tmp_path, "pet", [mvc_row(0)])
    with pytest.raises(ValueError, match=r"unknown task 'pets'.*did you mean 'pet'"):
        converted(tmp_path, "pets", [pet_row(0)])
    with pytest.raises(FileNotFoundError, match="holds no parquet file"):
        convert(ConvertConfig("pet", str(tmp_path / "nothing"), str(tmp_path / "out")))


def test_a_folder_with_both_schemas_needs_a_choice(tmp_path: Path) -> None:
    write(tmp_path / "source", [pt_row(0) | {"num_input_images": 3}], "chunk_0.parquet")
    with pytest.raises(ValueError, match=r"both schemas .* schema=viewer or schema=interleaved"):
        converted(tmp_path, "mvc", [mvc_row(0)])
    assert len(converted(tmp_path, "mvc", [mvc_row(0)], "schema=viewer")[0].images) == 4


def test_truncated_files_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "source", [pet_row(number) for number in range(4)])
    whole = path.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(CorruptFile, match="train-00000-of-00001"):
            convert(ConvertConfig("pet", str(tmp_path / "source"), str(tmp_path / "out")))


def test_lost_rows_are_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "source", [pt_row(0)])
    info = {f"/their/machine/{path.name}": {"num_row_groups": 1, "num_rows": 2}}
    (tmp_path / "source" / "parquet_info.json").write_text(json.dumps(info))
    with pytest.raises(CorruptFile, match=r"has 1 rows, .*parquet_info\.json says 2"):
        convert(ConvertConfig("pt", str(tmp_path / "source"), str(tmp_path / "out")))


def exported(tmp_path: Path, samples: list[SpatialSample], *more: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    write_shards(tmp_path / "data", "train", samples)
    seal(tmp_path / "data", {})
    export(parse(ExportConfig, [f"data={tmp_path / 'data'}", f"output_dir={tmp_path / 'bagel'}", *more]))
    files = sorted((tmp_path / "bagel").glob("*.parquet"))
    return read_json(tmp_path / "bagel" / "parquet_info.json"), [
        row for path in files for row in pq.read_table(path).to_pylist()
    ]


@pytest.mark.parametrize(("mode", "outputs"), [
    ("label_only", ["<answer>B</answer>"]),
    ("text_cot", ["<think>Frame 0 shows one chair.</think><answer>B</answer>"]),
    ("caption", ["<think_image>A view from above.</think_image><answer>B</answer>"]),
    ("ipt", ["<think>I need the whole area as seen from above.</think><image_start>", "<image_end><answer>B</answer>"]),
])  # fmt: skip
def test_our_samples_in_bagels_schema(tmp_path: Path, mode: str, outputs: list[str]) -> None:
    samples = [make_sample(number) for number in range(5)]
    info, rows = exported(tmp_path, samples, f"imagination={mode}", "rows_per_file=2", "data_dir=/data/ours")
    assert info == {
        f"/data/ours/chunk_{n}.parquet": {"num_row_groups": 1, "num_rows": rows} for n, rows in enumerate((2, 2, 1))
    }
    assert pq.read_schema(tmp_path / "bagel" / "chunk_0.parquet").equals(SCHEMA)
    sample, row = samples[1], rows[1]
    expected = [image.data for image in sample.images] + ([sample.imagination.data] if mode == "ipt" else [])
    assert row["image_list"] == expected and row["num_input_images"] == 2
    assert row["output_text_list"] == outputs
    assert row["instruction_list"][1] == "How many chairs are in this area? (1)\n(A) 1\n(B) 2\n(C) 3\n(D) 4"


def test_what_is_exported_is_read_back(tmp_path: Path) -> None:
    samples = [make_sample(number) for number in range(20)]
    exported(tmp_path, samples, "imagination=ipt")
    convert(ConvertConfig("mvc", str(tmp_path / "bagel"), str(tmp_path / "again")))
    for ours, theirs in zip(samples, SampleReader(tmp_path / "again"), strict=True):
        assert (ours.question, ours.choices, ours.answer) == (theirs.question, theirs.choices, theirs.answer)
        assert [image.data for image in ours.images] == [image.data for image in theirs.images]
        assert ours.imagination.data == theirs.imagination.data


def test_a_sample_that_a_mode_cannot_show_is_located(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"train-00000\.parquet, row 1: sample 'sample-00001', field 'rationale'"):
        exported(tmp_path, [make_sample(0), make_sample(1, rationale="")], "imagination=text_cot")
    with pytest.raises(ValueError, match="unknown imagination 'cot'"):
        export(ExportConfig("data", "out", imagination="cot"))


WORDS = st.text(st.sampled_from("abc ,?'"), min_size=1, max_size=12).map(str.strip).filter(bool)


@given(
    WORDS,
    st.lists(WORDS, min_size=2, max_size=6),
    st.sampled_from([("({}) {}", "\n"), ("{}) {}", " "), ("{}. {}", "\n")]),
)
def test_options_in_any_of_the_formats_are_found(question: str, choices: list[str], format_: tuple[str, str]) -> None:
    option, separator = format_
    text = separator.join(
        [question, *(option.format(letter, choice) for letter, choice in zip("ABCDEF", choices, strict=False))]
    )
    assert split_options(text) == (question, tuple(choices))


def test_text_without_options_stays_whole() -> None:
    for text in ("Is plan A) good?", "Take exit B) or C).", "At M1. A"):
        assert split_options(text) == (text, ())
    assert split_options("Plan A) or B)? A) yes B) no") == ("Plan A) or B)?", ("yes", "no"))


def test_the_commands_run(tmp_path: Path) -> None:
    write(tmp_path / "source", [pt_row(0)])
    program = [sys.executable, "-m", "ipt.samples.official"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [*program, "convert", "task=pt", f"data={tmp_path / 'source'}", f"output_dir={tmp_path / 'out'}"],
        capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip
    assert "1 shards in" in done.stdout and len(SampleReader(tmp_path / "out")) == 1
    failed = subprocess.run([*program, "covert"], capture_output=True, text=True, check=False, env=environment)
    assert failed.returncode == 1 and "convert key=value" in failed.stderr
