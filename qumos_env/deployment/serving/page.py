"""The gateway's pages: HTML files without a build step and without anything from elsewhere.

They are the same for everybody and hold nothing of the model; what they show they ask for, with the key that is typed in where one is
needed, which is kept for the tab alone.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path
from typing import Literal

from starlette.responses import HTMLResponse

PageName = Literal["page", "operations"]
_INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.S)


@cache
def page(name: PageName = "page") -> str:
    """The page with health, card and form, or that of the API's operations."""
    return (Path(__file__).parent / f"{name}.html").read_text(encoding="utf-8")


@cache
def page_headers(name: PageName) -> dict[str, str]:
    """A page that loads nothing, is loaded into nothing, and runs its own script alone."""
    allowed = {"script": "", "style": ""}
    for kind, text in _INLINE.findall(page(name)):
        allowed[kind] += f" 'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
    policy = (
        f"default-src 'none'; style-src{allowed['style']}; script-src{allowed['script']}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return {
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": "no-store",
    }


def page_response(name: PageName) -> HTMLResponse:
    """The page as an answer."""
    return HTMLResponse(page(name), headers=page_headers(name))
