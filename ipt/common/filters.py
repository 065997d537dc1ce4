"""Menus that hide cards of a page: a card (``article``) stays while its ``data-`` values are those chosen in every menu.

The choice is kept in the page's address, so that a filtered page can be bookmarked or sent.
"""

from __future__ import annotations

from collections.abc import Iterable

from ipt.common.html import Html, tag

STYLE = """
nav { position: sticky; top: 0; z-index: 1; display: flex; flex-wrap: wrap; gap: .6rem 1rem; align-items: center;
      padding: .6rem 0; background: var(--back); border-bottom: 1px solid var(--line); }
"""
SCRIPT = """
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
