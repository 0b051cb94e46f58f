"""Colours, widths and fonts of every picture, and how wide a text will be: all in one place."""

from __future__ import annotations

import unicodedata

LIGHT = {
    "paper": "#ffffff",
    "card": "#f6f8fb",
    "frame": "#64748b",
    "ink": "#0f172a",
    "quiet": "#526077",
    "plus": "#0072B2",
    "minus": "#D55E00",
    "zero": "#6b7280",
    "mixed": "#475569",
    "wild": "#86198f",
    "none": "#7b8798",
    "plus text": "#005f96",
    "minus text": "#b34700",
}
DARK = {
    "paper": "#111827",
    "card": "#1e293b",
    "frame": "#7f8fa6",
    "ink": "#f1f5f9",
    "quiet": "#a3b1c6",
    "plus": "#1f8fd0",
    "minus": "#e8711a",
    "zero": "#8b95a5",
    "mixed": "#a9b5c7",
    "wild": "#e879f9",
    "none": "#7f8fa6",
    "plus text": "#63b8ee",
    "minus text": "#ff9d57",
}
LINES = {
    "minus": {"stroke-dasharray": "6 3"},
    "zero": {"stroke-dasharray": ".1 4", "stroke-linecap": "round"},
    "none": {"stroke-dasharray": "9 3 1.5 3"},
}
"""Sign without colour: + solid, − dashed, exactly zero round dots, a constant dashes and dots in turn."""

FONT = "Helvetica Neue,Helvetica,Arial,Liberation Sans,sans-serif"
SERIF = "Georgia,DejaVu Serif,Times New Roman,serif"
SIZE, SMALL, TINY = 13, 11, 9
LINE = 18
PAD_X, PAD_Y = 10, 6
HEAD = 48  # so many letters of a name and what it is made of stand on a card
SUBSCRIPT, SPOKEN = 8, 20  # a longer name stands in no subscript; in no title's either

ZERO, NONE = 2.0, 1.1
"""How thick the lines of an exact zero and of a constant are."""

WIDTHS = {"op": (1.0, 5.0), "neuron": (0.8, 5.0), "dense": (0.4, 3.2), "layer": (1.0, 5.0)}
"""Thinnest and thickest edge: the 5th and the 95th percentile of the picture's own |L̇|."""

SPAN = 0.5
"""The decades that lie between the two at the least, so that like sizes look alike."""

PAGE = 900
"""How wide a network is drawn, unless it has many layers: what a README shows."""

WIDE = 1000
"""A graph that would come out wider than this runs downwards."""

OPERATIONS = 60
FAN = 16
"""Of so many operands of one operation, at the most, each has its own mark."""

WIDEST = 1600
"""A graph that would be wider even downwards is drawn with fewer operations."""

COMPACT = 24
USES = 3
"""In a compact picture, a leaf that is used more often is drawn again at each use: long lines would cover it all."""

NO_LOSS = "; where no loss is given it is mse_loss. For labels give loss=fg.losses.cross_entropy"

WEIGHTS = 250
UNITS = 100
LABELLED = 40
"""Of more weights, not each has its number in view."""

CROSSED = 4
"""A number there covers so many weaker lines at the most."""

LAYERS = 12
"""So many columns of units a page holds."""

NEURONS = 300
"""A network of more units than that is drawn by layers."""

LISTED = 100
"""So many boxes the layer view draws, in two columns from half of that."""

ROOMY, ROOMY_RADIUS = 84, 27.0
"""Where a unit has so many pixels to itself it is so large: its name and value stand inside, its L̇ below."""

_NARROW = {" ": 0.28, "i": 0.23, "j": 0.23, "l": 0.23, "t": 0.29, "f": 0.29, "r": 0.34, "I": 0.28}
_NARROW |= dict.fromkeys(".,:;|'!·", 0.28) | dict.fromkeys("()[]{}-/", 0.34) | dict.fromkeys("mMW@%", 0.9)
_NARROW |= dict.fromkeys("w", 0.74) | dict.fromkeys("+−=×<>~", 0.6) | dict.fromkeys("→…", 1.0) | {"‖": 0.55}


def width(text: str, size: float = SIZE) -> float:
    """About how many pixels a text takes, on the wide side: fonts differ, and the viewer's are not known."""
    total = 0.0
    for c in text:
        if c in _NARROW:
            total += _NARROW[c]
        elif unicodedata.combining(c):
            continue
        elif unicodedata.east_asian_width(c) in "WF":
            total += 1.05
        else:
            total += 0.72 if c.isupper() else 0.58
    return total * size * 1.04


def contrast(one: str, other: str) -> float:
    """WCAG's contrast ratio of two colours, 1 to 21.

    >>> round(contrast("#0072B2", "#ffffff"), 2)
    5.19
    """

    def luminance(colour: str) -> float:
        parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        r, g, b = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)
