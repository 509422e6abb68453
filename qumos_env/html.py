"""Self-contained HTML pages: text, tables and pictures in one file."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #22303c; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0 } td, th { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #d5dce2 }
td:first-child, th:first-child, td.text, th.text { text-align: left } tr.winner { font-weight: 600 } tr.reference { color: #8795a1 }
img { max-width: 100% } pre { background: #f4f6f8; padding: .8rem; overflow-x: auto } h2 { margin-top: 2rem }
"""


def page(title: str, parts: Iterable[str]) -> str:
    """A whole page of HTML ``parts``; ``title`` is plain text."""
    head = f"<head><meta charset='utf-8'><title>{escape(title)}</title><style>{_STYLE}</style></head>"
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


def image(png: bytes, description: str = "") -> str:
    """A picture inside the page; ``description`` is read to those who cannot see it."""
    return f"<p><img alt='{escape(description)}' src='data:image/png;base64,{base64.b64encode(png).decode()}'></p>"
