"""Tokenizers: exact round trips, no special token out of text, deterministic training."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipt.common.files import CorruptFile
from ipt.imagination.recipe import load_profile
from ipt.samples.questions import TEMPLATES
from ipt.samples.store import SampleReader, write_shard
from ipt.sequence.tokenizer import BYTES, SPECIAL_NAMES, Tokenizer, dataset_texts, load_tokenizer, train_tokenizer
from tests.synthetic import make_sample

TEXTS = [template.text for templates in TEMPLATES.values() for template in templates]
TRAINED = train_tokenizer(TEXTS, 600)


@given(st.text() | st.lists(st.sampled_from([*SPECIAL_NAMES, "<think>", " ", "12", "\n"])).map("".join))
def test_any_text_survives_and_holds_no_special_token(text: str) -> None:
    ids = TRAINED.encode(text)
    assert TRAINED.decode(ids) == text
    assert not set(ids) & set(TRAINED.special.__dict__.values())


def test_a_tag_becomes_one_token_wherever_it_stands() -> None:
    text = "<think>x</think><image_start><image_end><answer>A</answer>"
    trained = train_tokenizer([text, text], 600)
    words = [trained.decode([token]) for token in trained.encode(text)]
    assert words == ["<think>", "x", "</think>", "<image_start>", "<image_end>", "<answer>", "A", "</answer>"]


def test_training_depends_on_the_texts_alone(tmp_path: Path) -> None:
    for number, texts in enumerate((TEXTS, TEXTS[::-1])):
        train_tokenizer(iter(texts), 600).save(tmp_path / str(number))
    first, second = ((tmp_path / str(number) / "tokenizer.json").read_bytes() for number in (0, 1))
    assert first == second
    assert TRAINED.size == 600 and list(TRAINED.special.__dict__.values()) == [0, 1, 2, 3]
    assert len(TRAINED.encode(TEXTS[0])) < len(TEXTS[0]) / 2
    assert len(TRAINED.encode("2026")) == 4


def test_a_saved_tokenizer_is_the_same(tmp_path: Path) -> None:
    TRAINED.save(tmp_path)
    text = "<|im_end|> the chair"
    for copy in (load_tokenizer(tmp_path), pickle.loads(pickle.dumps(TRAINED))):
        assert copy.encode(text) == TRAINED.encode(text) and copy.special == TRAINED.special


def test_a_qwen_folder_without_tokenizer_json_is_read_through_transformers(tmp_path: Path) -> None:
    """``vocab.json``, ``merges.txt`` and ``tokenizer_config.json`` in the layout of Qwen2.5."""
    model = json.loads(TRAINED._backend.to_str())["model"]
    ordinary = {token: number for token, number in model["vocab"].items() if token not in SPECIAL_NAMES}
    shifted = {token: number - len(SPECIAL_NAMES) for token, number in ordinary.items()}
    added = {
        str(len(shifted) + k): {
            "content": name, "special": True, "lstrip": False, "rstrip": False, "normalized": False, "single_word": False,
        }
        for k, name in enumerate(SPECIAL_NAMES)
    }  # fmt: skip
    config = {
        "tokenizer_class": "Qwen2Tokenizer",
        "added_tokens_decoder": added,
        "unk_token": None,
        "eos_token": "<|im_end|>",
    }
    (tmp_path / "vocab.json").write_text(json.dumps(shifted))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in model["merges"]))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    loaded = load_tokenizer(tmp_path)
    assert list(loaded.special.__dict__.values()) == [len(shifted) + k for k in range(4)]
    text = "Is the chair closer? <|im_end|> <answer>B</answer> 42"
    assert loaded.decode(loaded.encode(text)) == text
    assert not set(loaded.encode(text)) & set(loaded.special.__dict__.values())


def test_dataset_texts_cover_what_is_rendered(tmp_path: Path) -> None:
    sample = make_sample(
        question="Zebra <think>?", rationale="Quokka.", caption="Okapi.", choices=("xylo", "phone"), answer="A"
    )
    write_shard(tmp_path / "a.parquet", [sample])
    texts = "\n".join(dataset_texts(SampleReader(tmp_path / "a.parquet"), load_profile()))
    for piece in (
        "Zebra &lt;think>?",
        "<think>Quokka.</think>",
        "Okapi.",
        ") xylo",
        "<answer>A</answer>",
        "as seen from above",
    ):
        assert piece in texts


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no tokenizer: expected tokenizer\.json"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CorruptFile, match=r"tokenizer\.json is not a readable tokenizer"):
        load_tokenizer(tmp_path)
    with pytest.raises(ValueError, match=f"at least {BYTES + 4} tokens, got size 100"):
        train_tokenizer(TEXTS, 100)
    backend = json.loads(TRAINED._backend.to_str())
    backend["added_tokens"] = [token for token in backend["added_tokens"] if "vision" not in token["content"]]
    for name in SPECIAL_NAMES[2:]:
        del backend["model"]["vocab"][name]
    with pytest.raises(ValueError, match=r"has no token <\|vision_start\|>, <\|vision_end\|>"):
        Tokenizer(type(TRAINED._backend).from_str(json.dumps(backend)))
