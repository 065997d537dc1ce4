"""Run folders: whatever interrupts the writing, what is read back is whole predictions, each once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipt.common.files import CorruptFile
from ipt.inference.prediction import (
    DONE,
    PREDICTIONS,
    Prediction,
    PredictionWriter,
    RunManifest,
    image_name,
    read_run,
)

MANIFEST = RunManifest("model", "a" * 64, "data", "b" * 64, "imagination", {"steps": 8, "guidance": {"text": 4.0}}, 3)


def prediction(number: int = 0, **changes: Any) -> Prediction:
    made = Prediction(f"s/{number}", "pet", "turn", "scene", "test", "imagination", "Where?", ("left", "right"), 1)
    return replace(made, **changes)


def written(folder: Path, *predictions: Prediction) -> None:
    with PredictionWriter(folder, MANIFEST) as writer:
        writer.write(predictions)


@given(
    text=st.text(),
    answer=st.sampled_from([None, 0, 1]),
    votes=st.lists(st.sampled_from([None, 0, 1])),
    share=st.floats(0, 1),
    error=st.none() | st.text(),
)
def test_a_prediction_survives_its_line(
    text: str, answer: int | None, votes: list[int | None], share: float, error: str | None
) -> None:
    answer = None if error is not None else answer
    made = prediction(
        text=text,
        thoughts=(text, text),
        answer=answer,
        votes=tuple(votes),
        probabilities=(share, 1 - share),
        error=error,
    )
    line = made.to_json()
    assert "\n" not in line
    assert Prediction.from_json(line) == made


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"answer": 2}, "answer"),
        ({"expected": -1}, "expected"),
        ({"votes": (0, 2)}, "votes"),
        ({"probabilities": (0.5,)}, "probabilities"),
        ({"probabilities": (0.5, 0.6)}, "probabilities"),
        ({"answer": 0, "error": "bad image"}, "error"),
        ({"schema_version": 2}, "schema_version"),
    ],
)
def test_what_cannot_be_names_its_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=f"'s/0', field '{field}'"):
        prediction(**changes)


@pytest.mark.parametrize("cut", range(1, 40, 7))
def test_a_torn_line_is_redone(tmp_path: Path, cut: int) -> None:
    written(tmp_path, prediction(0), prediction(1))
    path = tmp_path / PREDICTIONS
    path.write_bytes(path.read_bytes()[:-cut])
    assert read_run(tmp_path).predictions == (prediction(0),)
    with PredictionWriter(tmp_path, MANIFEST) as writer:
        assert writer.finished == [prediction(0)]
        writer.write([prediction(1)])
        done = writer.finish(1.5)
    run = read_run(tmp_path)
    assert (run.manifest, run.predictions) == (MANIFEST, (prediction(0), prediction(1)))
    assert run.done == done == {"samples": 2, "answered": 0, "invalid": 2, "errors": {}, "seconds": 1.5}


def test_counts_tell_answers_invalid_texts_and_errors_apart(tmp_path: Path) -> None:
    errors = [prediction(n, error=f"BadImage: sample {n}") for n in (2, 3)]
    with PredictionWriter(tmp_path, MANIFEST) as writer:
        writer.write([prediction(0, answer=1), prediction(1), *errors, prediction(4, error="timeout")])
        done = writer.finish(0)
    assert (done["answered"], done["invalid"], done["errors"]) == (1, 1, {"BadImage": 2, "timeout": 1})


def test_doubles_and_damage_are_errors_with_a_line(tmp_path: Path) -> None:
    written(tmp_path, prediction(0), prediction(0))
    with pytest.raises(CorruptFile, match=r"predictions.jsonl, line 2: sample 's/0' occurs a second time"):
        read_run(tmp_path)
    (tmp_path / PREDICTIONS).write_text(prediction(0).to_json() + "\n{}\n")
    with pytest.raises(CorruptFile, match="line 2: prediction lacks sample_id, task"):
        read_run(tmp_path)


def test_a_folder_of_another_run_is_refused_by_field(tmp_path: Path) -> None:
    written(tmp_path, prediction(0))
    other = replace(MANIFEST, seed=4, settings={"steps": 8, "guidance": {"text": 5.0}})
    with pytest.raises(ValueError, match=r"seed: 3 there, 4 here; settings.guidance.text: 4.0 there, 5.0 here"):
        PredictionWriter(tmp_path, other).__enter__()
    written(tmp_path, prediction(1))
    written_elsewhere = replace(MANIFEST, data="moved", code_revision="later")
    with PredictionWriter(tmp_path, written_elsewhere) as writer:
        assert len(writer.finished) == 2


def test_a_full_disk_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with PredictionWriter(tmp_path, MANIFEST) as writer:
        writer.write([prediction(0)])

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("ipt.inference.prediction.os.fsync", full)
        with pytest.raises(OSError, match="No space left"):
            writer.write([prediction(1)])
    assert read_run(tmp_path).predictions == (prediction(0),)
    assert not (tmp_path / DONE).exists()


def test_a_folder_that_is_no_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has no run.json"):
        read_run(tmp_path)


def test_image_names_stay_in_their_folder_and_differ() -> None:
    ids = ["a", "a/b", "../a", "a b", "ä", "x" * 300, "x" * 299 + "y"]
    names = [image_name(name) for name in ids] + [image_name("a", 0), image_name("a", 1)]
    assert len(set(names)) == len(names)
    assert all(name.startswith("images/") and name.count("/") == 1 and len(name) < 250 for name in names)
