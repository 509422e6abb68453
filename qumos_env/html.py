"""Self-contained HTML pages: text, tables and pictures in one file."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape

# Readable on light and on dark screens, and on those of a phone; pictures keep the white that they were drawn on.
_STYLE = """
:root { color-scheme: light dark; --ink: #22303c; --paper: #fff; --line: #d5dce2; --soft: #f4f6f8; --dim: #5f6f7c; --link: #1f5f99 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #dbe3ea; --paper: #14191e; --line: #39434c; --soft: #1f262d; --dim: #9aa8b4; --link: #8fc1ee }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper) }
body { max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0 }
td, th { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid var(--line) }
td:first-child, th:first-child, td.text, th.text { text-align: left } tr.winner { font-weight: 600 } tr.reference { color: var(--dim) }
tr.winner td.text:last-child { font-weight: 400 }
a { color: var(--link) } img { max-width: 100%; background: #fff } h2 { margin-top: 2rem }
pre { background: var(--soft); padding: .8rem; overflow-x: auto } .wide { overflow-x: auto }
details { border-bottom: 1px solid var(--line); padding: .3rem 0 } summary { cursor: pointer; padding: .2rem 0 }
@media print { ::details-content { content-visibility: visible } }
"""


def page(title: str, parts: Iterable[str], style: str = "") -> str:
    """A whole page of HTML ``parts``; ``title`` is plain text, ``style`` are further rules of CSS."""
    phone = "<meta name='viewport' content='width=device-width, initial-scale=1'>"
    head = f"<head><meta charset='utf-8'>{phone}<title>{escape(title)}</title><style>{_STYLE}{style}</style></head>"
    return f"<!doctype html><html lang='en'>{head}<body>{''.join(parts)}</body></html>\n"


def table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], text_columns: Sequence[int] = (), classes: Iterable[str] | None = None
) -> str:
    """A table of plain-text cells; ``text_columns`` stand left, ``classes`` are those of the rows."""

    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=text' if column in text_columns else ''}>{escape(cell)}</{tag}>" for column, cell in enumerate(row)
        )

    found = list(rows)
    kinds = [""] * len(found) if classes is None else list(classes)
    body = "".join(f"<tr{f' class={kind}' if kind else ''}>{cells('td', row)}</tr>" for kind, row in zip(kinds, found, strict=True))
    return f"<table><tr>{cells('th', headings)}</tr>{body}</table>"


def folded(summary: str, parts: Iterable[str], name: str = "") -> str:
    """HTML ``parts`` behind the HTML line ``summary``; a link to ``#name`` unfolds them."""
    anchor = f" id='{escape(name)}'" if name else ""
    # Browsers unfold what a link leads into, not what it leads to.
    return f"<details><summary>{summary}</summary><div class=wide{anchor}>{''.join(parts)}</div></details>"


def image(png: bytes, description: str = "") -> str:
    """A picture inside the page; ``description`` is read to those who cannot see it."""
    return f"<p><img alt='{escape(description)}' src='data:image/png;base64,{base64.b64encode(png).decode()}'></p>"
