"""One self-contained HTML page: markup, data, a fixed script and a style sheet, and nothing loaded from outside.

The script is named to the browser by its hash, so no other runs, whatever stands in the data; and the data is text to it.
"""

from __future__ import annotations

import html
import json
import os
from base64 import b64encode
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from fluxgrad.picture import style


def part(name: str) -> str:
    """A script or a style sheet of this folder."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def page(title: str, body: str, data: Any, script: str, css: str = "") -> str:
    """The page as text. The script finds the data, parsed from JSON, in the element with the id "data".

    `title` is text and `body` is markup; `css` comes after the style of every page (page.css), whose colours are those of
    the pictures: --paper, --card, --frame, --ink, --quiet, --plus, --minus, --zero, --mixed, --plus-text, … in light and
    in dark; its fonts are --sans and --serif. Raises ValueError for data that JSON has no word for, and for a script that would end its own element.

    >>> text = page("Two", "<p>two</p>", {"x": "</script>"}, "document.title")
    >>> '{"x":"\\\\u003c/script\\\\u003e"}' in text
    True
    """
    if "</script" in script.lower() or "<!--" in script:
        raise ValueError("page: the script holds </script or <!--, which would end it")
    told = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for sign in "<>&\u2028\u2029":
        told = told.replace(sign, f"\\u{ord(sign):04x}")
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'; base-uri 'none'; form-action 'none'"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{_colours()}\n{part('page.css')}{css}</style>\n</head>\n"
        f'<body>\n{body}\n<script type="application/json" id="data">{told}</script>\n'
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


class Page:
    """A page: `.html` is its text, `.save(path)` writes it; a notebook shows it in a frame of its own."""

    def __init__(self, title: str, height: int = 640) -> None:
        self._title, self._height = title, height

    @cached_property
    def html(self) -> str:
        """The page as text: one file that needs no other, the same bytes for the same graph."""
        raise NotImplementedError

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the page to a file. Raises ValueError for a suffix other than .html."""
        path = Path(path)
        if path.suffix.lower() != ".html":
            raise ValueError(f"a page is saved as .html; {path.name!r} does not end in it")
        path.write_text(self.html, encoding="utf-8", newline="\n")

    def _repr_html_(self) -> str:
        """A frame that holds the page, so that several in one notebook share no name, style or key."""
        return (
            f'<iframe title="{html.escape(self._title)}" sandbox="allow-scripts" srcdoc="{html.escape(self.html)}" '
            f'style="width:100%;height:{self._height}px;border:0"></iframe>'
        )

    def __repr__(self) -> str:
        return f"<{self._title}>"


def _colours() -> str:
    """The colours and fonts of the pictures as CSS variables."""
    light, dark = (
        "".join(f"--{name.replace(' ', '-')}:{colour};" for name, colour in theme.items())
        for theme in (style.LIGHT, style.DARK)
    )
    return f":root{{{light}--sans:{style.FONT};--serif:{style.SERIF}}}\n@media(prefers-color-scheme:dark){{:root{{{dark}}}}}"
