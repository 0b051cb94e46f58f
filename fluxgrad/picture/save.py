"""Files made from a picture's SVG: PNG and PDF by Typst, whose fonts serve where the machine has none."""

from __future__ import annotations

import copy
import xml.etree.ElementTree as ET
from typing import Literal

from fluxgrad.picture.tikz import looks

NEEDED = "a picture is saved as .png or .pdf by Typst: pip install 'fluxgrad[save]' (or pip install typst)"

_PAGE = b"""#set document(title: sys.inputs.title, date: none)
#set page(width: auto, height: auto, margin: 0pt, fill: white)
#image(bytes(sys.inputs.svg), format: "svg", alt: sys.inputs.story)
"""


def typeset(svg: str, title: str, story: str, form: Literal["png", "pdf"]) -> bytes:
    """The picture on white paper: as a PNG of twice its pixels, or as a PDF of lines and letters.

    The same bytes for the same SVG, on machines with the same fonts and the same Typst.

    Raises ImportError, with what to install, where Typst is not there.
    """
    try:
        import typst
    except ImportError:
        raise ImportError(NEEDED) from None
    words = {"title": title, "story": story, "svg": _apart(svg) if form == "pdf" else svg}
    # CSS puts 96 pixels in an inch. The words are data to the page, never Typst's own markup.
    made: bytes = typst.compile(_PAGE, format=form, ppi=2 * 96, sys_inputs=words)
    return made


def _apart(svg: str) -> str:
    """The picture for a PDF: without the texts that show when pointed at, and of each that has a halo first the halo
    and then the letters, since in a PDF the halo of a letter would cover the letter before."""
    root = ET.fromstring(svg)
    haloed = {mark for mark, look in looks(root).items() if "paint-order" in look}
    for group in root.iter():
        marks: list[ET.Element] = []
        for mark in group:
            if mark.get("opacity") != "0":
                marks.append(mark)
                if mark in haloed:
                    marks.append(copy.deepcopy(mark))
                    marks[-2].set("style", "fill:none")
                    marks[-1].set("style", "stroke:none")
        group[:] = marks
    return ET.tostring(root, encoding="unicode")
