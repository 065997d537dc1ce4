"""Pages: whatever the data holds, the markup is ours and nothing is fetched."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from ipt.common.html import Html, page, picture, plot, table, tag
from ipt.common.images import encode_image
from tests.synthetic import picture as pixels


class Reader(HTMLParser):
    """Collects elements, attributes and text as a browser would see them."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.content = ""
        self.feed(markup)

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(name)
        self.attributes += attributes

    def handle_data(self, data: str) -> None:
        self.content += data


hostile = st.text(st.characters(codec="utf-8", exclude_characters="\r\0")) | st.sampled_from(
    ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</style><b>", "&lt;", "' onload='x"]
)


@given(hostile)
def test_data_is_text_in_elements_and_attributes(data: str) -> None:
    read = Reader(table([data], [[data, tag("b", data, title=data)]]))
    assert read.tags == ["div", "table", "thead", "tr", "th", "tbody", "tr", "td", "td", "b"]
    assert read.content == data * 3
    assert dict(read.attributes)["title"] == data


def test_a_page_runs_its_own_script_and_fetches_nothing() -> None:
    script = "document.title = 'x';"
    figure = Figure()
    figure.subplots().plot([1, 2])
    body = [picture(encode_image(pixels(0)), "a & b"), plot(figure, "two points"), "1 < 2"]
    document = page("Title <1>", body, script=script)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src &#x27;sha256-{digest}&#x27;" in document
    read = Reader(document)
    assert {"svg", "img", "figcaption"} <= set(read.tags)
    sources = [value for name, value in read.attributes if name in ("src", "href", "xlink:href")]
    assert sources and all(value and value.startswith(("data:image/png;base64,", "#")) for value in sources)
    assert not re.search(r"url\((?!#)", document)


def test_a_plot_stays_legible_on_narrow_screens() -> None:
    figure = Figure(figsize=(8, 2))
    figure.subplots().plot([1, 2])
    drawn = plot(figure, "two points")
    width, least = (
        float(re.findall(rf'<svg [^>]*{name}[":= ]+([\d.]+)pt', drawn)[0]) for name in ("width=", "min-width")
    )
    assert 0.65 < least / width < 0.75 and '<figure><div class="wide"><svg ' in drawn


def test_bare_attributes_and_markup() -> None:
    assert tag("option", Html("<i>x</i>"), selected=True, hidden=False, data_kind="a") == (
        '<option selected data-kind="a"><i>x</i></option>'
    )
    with pytest.raises(ValueError, match="'view': not PNG"):
        picture(b"<svg onload=alert(1)>", "view")
