"""Self-contained HTML pages: text is escaped unless it is :class:`Html`, pictures and plots are inlined, nothing is fetched.

Pages carry a content security policy that allows data images, inline styles and the page's own script (by hash) only, so
that a page made from hostile data cannot run or load anything.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
from collections.abc import Iterable, Sequence
from typing import Any

STYLE = """
:root { --ink: #1c2430; --soft: #5b6675; --line: #dde2e8; --back: #f5f6f8; --card: #fff; --good: #1a7f4b; --bad: #b3261e;
        --accent: #2457a6; }
* { box-sizing: border-box; }
body { margin: 0; font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; color: var(--ink);
       background: var(--back); }
header, main { max-width: 1240px; margin: 0 auto; padding: 1rem 1.25rem; }
h1 { font-size: 1.5rem; margin: .4rem 0; } h2 { font-size: 1.15rem; margin: 1.8rem 0 .6rem; }
h3 { font-size: 1rem; margin: 0 0 .4rem; }
p { margin: .4rem 0; } .soft { color: var(--soft); } .good { color: var(--good); } .bad { color: var(--bad); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1rem 1.1rem; margin: 1rem 0; }
.row { display: flex; flex-wrap: wrap; gap: .8rem; }
figure { margin: 0; max-width: 100%; } figcaption { color: var(--soft); font-size: .82rem; }
img, svg { max-width: 100%; height: auto; border-radius: 6px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; } .wide { overflow-x: auto; }
th, td { text-align: left; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 600; }
button, select { font: inherit; padding: .25rem .7rem; border: 1px solid var(--line); border-radius: 6px;
                 background: var(--card); color: inherit; cursor: pointer; }
summary { cursor: pointer; color: var(--accent); } pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .82rem; }
@media (max-width: 640px) {
  header, main { padding: .7rem .8rem; } .card { padding: .8rem; }
  table { font-size: .87rem; } th, td { padding-right: .5rem; }
  .wide td:first-child, .wide th:first-child { position: sticky; left: 0; background: var(--card);
                                               box-shadow: inset 0 -1px var(--line); }
}
"""
#: Share of its size at which the letters of a plot can still be read.
LEGIBLE = 0.7
VOID_TAGS = frozenset({"img", "meta", "br", "input"})
MEDIA_TYPES = ((b"\x89PNG", "image/png"), (b"\xff\xd8", "image/jpeg"), (b"RIFF", "image/webp"))


class Html(str):
    """Markup that may enter a page as it is; any other string is text and gets escaped."""

    __slots__ = ()


def text(value: object) -> Html:
    """``value`` as page text: escaped, unless it already is markup."""
    return value if isinstance(value, Html) else Html(html.escape(str(value)))


def join(parts: Iterable[object]) -> Html:
    """Parts one after another, each escaped unless it is markup."""
    return Html("".join(text(part) for part in parts))


def tag(name: str, /, *children: object, **attributes: str | bool) -> Html:
    """An element; ``class_`` stands for class and ``data_x`` for data-x; True is a bare attribute, False none."""
    written = []
    for key, value in attributes.items():
        attribute = key.rstrip("_").replace("_", "-")
        if value is True:
            written.append(f" {attribute}")
        elif value is not False:
            written.append(f' {attribute}="{html.escape(value)}"')
    opening = f"<{name}{''.join(written)}>"
    return Html(opening if name in VOID_TAGS else f"{opening}{join(children)}</{name}>")


def page(title: str, body: Iterable[object], style: str = "", script: str = "", talks: bool = False) -> str:
    """A complete document; ``style`` and ``script`` are code of ours, never data. ``talks``: its script may send requests to the
    server that the page came from."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    policy += "; connect-src 'self'" if talks else ""
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Html(STYLE + style)),
    ]
    content = [tag("header", tag("h1", title)), tag("main", *body), tag("script", Html(script))]
    document = tag("html", tag("head", *head), tag("body", *content), lang="en")
    return f"<!doctype html>\n{document}\n"


def data_uri(data: bytes, what: str) -> str:
    """PNG, JPEG or WebP bytes as a data URI; ``ValueError`` naming ``what`` for any others."""
    media = next((media for start, media in MEDIA_TYPES if data.startswith(start)), None)
    if media is None:
        raise ValueError(f"picture '{what}': not PNG, JPEG or WebP bytes")
    return f"data:{media};base64,{base64.b64encode(data).decode()}"


def picture(data: bytes, caption: str, **attributes: str | bool) -> Html:
    """An inlined image with its caption."""
    image = tag("img", src=data_uri(data, caption), alt=caption, loading="lazy")
    return tag("figure", image, tag("figcaption", caption), **attributes)


def plot(figure: Any, caption: str) -> Html:
    """A matplotlib figure as inline SVG, which shrinks to `LEGIBLE` of its size on narrow screens and then scrolls sideways."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    _, _, drawing = buffer.getvalue().partition("<svg ")
    least = LEGIBLE * float(drawing.partition('width="')[2].partition("pt")[0])
    drawn = Html(f'<svg style="min-width: {least:.0f}pt" {drawing}')
    return tag("figure", tag("div", drawn, class_="wide"), tag("figcaption", caption))


def table(header: Sequence[object], rows: Iterable[Sequence[object]]) -> Html:
    """A table that scrolls sideways on narrow screens."""
    head = tag("tr", *(tag("th", cell) for cell in header))
    body = [tag("tr", *(tag("td", cell) for cell in row)) for row in rows]
    return tag("div", tag("table", tag("thead", head), tag("tbody", *body)), class_="wide")


def card(title: str, *children: object) -> Html:
    """A titled section."""
    return tag("section", tag("h3", title), *children, class_="card")


#: Menus that hide cards of a page: a card (``article``) stays while its ``data-`` values are those chosen in every menu. The
#: choice is kept in the page's address, so that a filtered page can be bookmarked or sent.
MENU_STYLE = """
nav { position: sticky; top: 0; z-index: 1; display: flex; flex-wrap: wrap; gap: .6rem 1rem; align-items: center;
      padding: .6rem 0; background: var(--back); border-bottom: 1px solid var(--line); }
@media (max-width: 640px) { nav { position: static; } }
"""
MENU_SCRIPT = """
const cards = [...document.querySelectorAll("article")];
const filters = [...document.querySelectorAll("nav select")];
const count = document.getElementById("count");
function filter() {
  let shown = 0;
  for (const card of cards) {
    card.hidden = filters.some(one => one.value && card.dataset[one.name] !== one.value);
    shown += !card.hidden;
  }
  count.textContent = `${shown} of ${cards.length} shown`;
}
function restore() {
  const chosen = new URLSearchParams(location.hash.slice(1));
  for (const one of filters) {
    const wanted = chosen.get(one.name) ?? "";
    one.value = [...one.options].some(option => option.value === wanted) ? wanted : "";
  }
  filter();
}
filters.forEach(one => one.addEventListener("change", () => {
  filter();
  const chosen = filters.filter(each => each.value).map(each => [each.name, each.value]);
  history.replaceState(null, "", "#" + new URLSearchParams(chosen));
}));
window.addEventListener("hashchange", restore);
restore();
"""


def menu(name: str, values: Iterable[str], label: str = "") -> Html:
    """A menu of the values of ``data-<name>`` (a lower-case word), in order."""
    options = [tag("option", value, value=value) for value in sorted(set(values))]
    return tag("label", f"{label or name} ", tag("select", tag("option", "all", value=""), *options, name=name))


def shown_count() -> Html:
    """Where the script writes how many cards are shown."""
    return tag("span", id="count", class_="soft")
