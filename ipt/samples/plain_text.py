"""One form for what models write, so that the rules of `ipt.samples.answers` meet every letter and bracket in one spelling.

Unicode's compatibility form (NFKC: full-width and circled letters, full-width punctuation), then what it leaves: Chinese
punctuation and brackets, curly quotes, the minus sign, characters without width, and the tokens with which models end a text.
"""

# ruff: noqa: RUF001 (signs that look alike are what is told apart here)
from __future__ import annotations

import re
import unicodedata

CHINESE = "\u4e00-\u9fff"
SPELLINGS = str.maketrans(
    {
        **dict.fromkeys("【「『《〔〖", "("),
        **dict.fromkeys("】」』》〕〗", ")"),
        **dict.fromkeys("\u2018\u2019", "'"),
        **dict.fromkeys("\u201c\u201d", '"'),
        **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u200e\u200f", None),
        "\u3002": ". ",
        "\uff0c": ", ",
        "\uff1a": ": ",
        "\uff1b": "; ",
        "\u2212": "-",
    }
)
END = re.compile(
    r"<\|(?:im_end|im_start|endoftext|end_of_text|eot_id|eot|end|end▁of▁sentence)\|>|</?s>|<(?:eos|end_of_turn|pad)>"
)
BORDER = re.compile(rf"(?<=[A-Za-z0-9)])(?=[{CHINESE}])|(?<=[{CHINESE}])(?=[A-Za-z0-9(])")


def plain_text(text: str) -> str:
    """``text`` in the one form; Latin letters and digits stand apart from Chinese ("选B" is "选 B")."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text.translate(SPELLINGS))
        text = BORDER.sub(" ", text)
    return END.sub("\n", text)
