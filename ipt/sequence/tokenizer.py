"""Text to token ids and back: Qwen2.5's tokenizer where the user has it, else a small BPE trained on the dataset's own text.

Only the layout writes special tokens. `Tokenizer.encode` treats their names, where they occur in a text, as plain text, so no
question can end its own segment or open an image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from ipt.common.errors import MissingFile, UserError
from ipt.common.files import CorruptFile, write_bytes
from ipt.samples.prompts import ANSWER, ANSWER_END, IMAGE_END, IMAGE_START, Profile, describe, escape, think
from ipt.samples.store import SampleReader
from ipt.sequence.segments import SpecialTokens

TOKENIZER_FILE = "tokenizer.json"
SPECIAL_NAMES = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>")
#: Our own tags whole, which so become one token each; digits one by one, as Qwen splits them.
WORDS = r"</?(?:think|think_image|image_start|image_end|latent_start|latent_end|answer)>| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+"
BYTES = 256
#: Texts whose ids are remembered: prompts and answers come again with every sample.
TEXTS_KEPT = 16384


class Tokenizer:
    """A BPE tokenizer with the four special tokens of the sequence layout.

    Raises ``ValueError`` for a backend without them.
    """

    def __init__(self, backend: Backend, source: str = "tokenizer") -> None:
        ids = {name: number for name in SPECIAL_NAMES if (number := backend.token_to_id(name)) is not None}
        if missing := [name for name in SPECIAL_NAMES if name not in ids]:
            raise UserError(f"{source} has no token {', '.join(missing)}; a Qwen2.5 tokenizer or one of ours is needed")
        backend.encode_special_tokens = True
        self._backend = backend
        self._ids = lru_cache(maxsize=TEXTS_KEPT)(self._encode)
        self.special = SpecialTokens(*(ids[name] for name in SPECIAL_NAMES))

    @property
    def size(self) -> int:
        """One more than the largest id: the least vocabulary of a model."""
        return max(self._backend.get_vocab(with_added_tokens=True).values()) + 1

    def encode(self, text: str) -> list[int]:
        """Ids of ``text``, never a special one."""
        return list(self._ids(text))

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._backend.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ``ids``, special tokens by name."""
        text: str = self._backend.decode(list(ids), skip_special_tokens=False)
        return text

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json``, from which `load_tokenizer` reads it and transformers can, too."""
        write_bytes(folder / TOKENIZER_FILE, self._backend.to_str(pretty=True).encode())

    def __getstate__(self) -> str:
        return self._backend.to_str()

    def __setstate__(self, state: str) -> None:
        self.__init__(Backend.from_str(state))  # type: ignore[misc]


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a folder: its ``tokenizer.json``, or Qwen's ``vocab.json`` and ``merges.txt`` through transformers.

    Raises ``FileNotFoundError`` where there is neither and ``CorruptFile`` for an unreadable one.
    """
    file = folder / TOKENIZER_FILE
    if file.is_file():
        try:
            backend = Backend.from_file(str(file))
        except Exception as error:  # the library raises no narrower class
            raise CorruptFile(f"{file} is not a readable tokenizer ({error}); write or download it again") from error
        return Tokenizer(backend, str(file))
    if not (folder / "vocab.json").is_file():
        raise MissingFile(f"{folder} holds no tokenizer: expected {TOKENIZER_FILE}, or vocab.json and merges.txt")
    from transformers import AutoTokenizer

    pretrained = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return Tokenizer(pretrained.backend_tokenizer, str(folder))


def train_tokenizer(texts: Iterable[str], size: int) -> Tokenizer:
    """A byte-level BPE of at most ``size`` tokens. Any text survives encoding and decoding unchanged.

    Deterministic: the same texts, in whatever order, give the same tokens. Special tokens have the ids 0 to 3.
    """
    if size < BYTES + len(SPECIAL_NAMES):
        raise UserError(f"a byte-level tokenizer has at least {BYTES + len(SPECIAL_NAMES)} tokens, got size {size}")
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        special_tokens=list(SPECIAL_NAMES),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return Tokenizer(backend)


def dataset_texts(reader: SampleReader, profile: Profile, words: Iterable[str] = ()) -> Iterator[str]:
    """Every text that the sequences of a dataset hold, piece by piece, and ``words``; pictures are not read."""
    yield from [*profile.systems.values(), *words] * 2  # what occurs once is not merged
    columns = ("task", "question", "choices", "answer", "rationale", "caption")
    for task, question, choices, answer, rationale, caption in zip(*map(reader.column, columns), strict=True):
        layout = profile.layout(task)
        yield escape(question)
        yield from (layout.option.format(letter=answer, choice=escape(choice)) for choice in choices)
        yield from (think(thought) + IMAGE_START for thought in profile.thoughts.get(task, ()))
        yield IMAGE_END
        yield f"{think(rationale)}{describe(caption)}{ANSWER}{answer}{ANSWER_END}"
