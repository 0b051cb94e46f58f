"""The pages tell the truth: their programs run and print what stands below them, their links lead somewhere, their
pictures are what the code draws, and the house is built as its page says.

A ```python block runs after those above it on its page, in one namespace; what it prints is the ```text block that
follows it at once, and where none does, it prints nothing.
"""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
import runpy
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest

import fluxgrad as fg
from fluxgrad.rules.kinds import implementations

ROOT = Path(__file__).parents[1]
RUN = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [*RUN, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
PICTURES = ROOT / "docs" / "pictures"
AGAIN = "the picture is not what the code draws; after a look: python docs/pictures.py"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def fences(page: Path, kind: str) -> list[str]:
    return [body for name, body in FENCE.findall(page.read_text("utf-8")) if name == kind]


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text("utf-8"))


@pytest.fixture
def own_rules() -> Iterator[None]:
    """The rules that a page makes go with it."""
    tables = [(table, dict(table)) for table in (fg.rules, implementations)]
    yield
    for table, before in tables:
        table.clear()
        table.update(before)


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
@pytest.mark.usefixtures("own_rules")
def test_programs_print_what_stands_below_them(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    text = page.read_text("utf-8")
    blocks = list(FENCE.finditer(text))
    assert any(block[1] == "python" for block in blocks)
    names = {"__name__": "__main__"}
    for block, after in zip(blocks, [*blocks[1:], None], strict=True):
        if block[1] != "python":
            continue
        line = text.count("\n", 0, block.start(2))
        expected = after[2] if after and after[1] == "text" and not text[block.end() : after.start()].strip() else ""
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("\n" * line + block[2], str(page), "exec"), names)
        assert printed.getvalue() == expected, f"{page.name}, the program at line {line}"


def test_the_page_of_the_losses_is_not_stale():
    printed = runpy.run_path(str(ROOT / "docs" / "losses.py"))["page"]()
    assert (ROOT / "docs" / "losses.md").read_text("utf-8") == printed, "stale; run: python docs/losses.py"


NUMBER = re.compile(r"-?\d+\.?\d*")


def test_the_curves_of_the_losses_are_what_runs(tmp_path: Path):
    """The same lines to a hundredth of a point: their last digits are the processor's, the rest matplotlib's."""
    runpy.run_path(str(ROOT / "docs" / "losses.py"))["draw"](tmp_path)
    drawn = sorted(tmp_path.iterdir())
    assert [p.name for p in drawn] == sorted(p.name for p in PICTURES.glob("loss-*.svg"))
    for picture in drawn:
        new, old = picture.read_text("utf-8"), (PICTURES / picture.name).read_text("utf-8")
        version = re.compile(r"Matplotlib v[\d.]+")
        if version.search(new)[0] != version.search(old)[0]:  # another one sets its ticks and fonts otherwise
            continue
        curves = [
            [list(map(float, NUMBER.findall(d))) for d in re.findall(r'<path d="([^"]+)"', text)] for text in (new, old)
        ]
        assert [len(curve) for curve in curves[0]] == [len(curve) for curve in curves[1]], picture.name
        np.testing.assert_allclose(
            np.concatenate(curves[0]), np.concatenate(curves[1]), atol=0.01, err_msg=picture.name
        )


def test_the_two_commands_are_one_line_each():
    digits, tests = fences(ROOT / "README.md", "sh")[:2]
    assert digits.count("\n") == tests.count("\n") == 1
    assert digits.endswith("&& python examples/digits.py\n") and tests.endswith("&& pytest\n")


def anchors(page: Path) -> set[str]:
    """What GitHub calls the headings."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@every_page
def test_links_lead_somewhere(page: Path):
    for words, target in re.findall(r"\[([^]]+)\]\(([^)\s]+)\)", prose(page)):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        there = page.parent / file if file else page
        assert there.exists(), f"[{words}]({target})"
        assert not anchor or anchor in anchors(there), f"[{words}]({target}): no such heading"


@every_page
def test_names_and_files_exist(page: Path):
    text = page.read_text("utf-8")
    for name in re.findall(r"\bfg\.([a-z][\w.]*\w)", text, re.I):
        attrgetter(name)(fg)
    for file in re.findall(r"`(?:python )?([\w/.]+\.(?:py|md|svg|toml))`", text):
        where = [ROOT, page.parent, ROOT / "fluxgrad", ROOT / "fluxgrad" / "rules", PICTURES]
        assert any((folder / file).exists() for folder in where), file


def test_pictures_are_what_one_command_draws(tmp_path: Path):
    """One neuron is the same everywhere; of the trained network last digits differ from machine to machine."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    subprocess.run(
        [sys.executable, ROOT / "docs" / "pictures.py", tmp_path],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, check=True, timeout=120,
    )  # fmt: skip
    drawn = {p.name: p.read_text("utf-8") for p in tmp_path.iterdir()}
    shown = {name: (PICTURES / name).read_text("utf-8") for name in ("neuron.svg", "digits-flow.svg")}
    assert drawn.keys() == shown.keys()
    for svg in (*drawn.values(), *shown.values()):
        assert ET.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
    assert words(drawn["neuron.svg"]) == words(shown["neuron.svg"]), AGAIN
    if find_spec("pygraphviz"):  # another Graphviz may lay it out otherwise
        assert drawn["neuron.svg"] == shown["neuron.svg"], AGAIN


def test_the_gallery_is_what_one_command_draws(tmp_path: Path):
    """Small graphs are the same everywhere; of what was trained the last digits differ from machine to machine."""
    gallery = runpy.run_path(str(ROOT / "docs" / "gallery.py"))
    assert (ROOT / "docs" / "gallery.md").read_text("utf-8") == gallery["PAGE"], "stale; run: python docs/gallery.py"
    drawn = {name: picture.svg for name, picture in gallery["pictures"]().items()}
    for name, svg in drawn.items():
        kept = (PICTURES / f"{name}.svg").read_text("utf-8")
        assert ET.fromstring(kept).tag == ET.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
        if name in ("fork", "surprise", "fused"):
            assert words(svg) == words(kept), AGAIN.replace("pictures.py", "gallery.py")
    assert drawn["deep-sigmoid"].count("vanishes") and drawn["deep-relu"].count("reaches every layer")
    assert drawn["xor-too-large"].count("unit dead") > drawn["xor-right"].count("unit dead")


def words(svg: str) -> list[str]:
    return [part.text for part in ET.fromstring(svg).iter() if part.text and not part.tag.endswith("style")]


def test_every_picture_is_shown_with_words():
    shown = [
        picture for page in RUN for picture in re.findall(r"!\[([^]]*)\]\((?:docs/)?pictures/([^)]+)\)", prose(page))
    ]
    assert {name for _, name in shown} == {p.name for p in PICTURES.iterdir()}
    assert all(len(words) > 20 for words, _ in shown)


def test_the_row_in_the_readme_is_the_row_in_the_code():
    (row,) = re.findall(r"^    (\w+ = elementwise.*)$", prose(ROOT / "README.md"), re.M)
    assert f"\n{row}\n" in (ROOT / "fluxgrad" / "rules" / "elementwise.py").read_text("utf-8")


def rooms() -> dict[str, set[str]]:
    """The rooms of the package, and on which others each stands: what its files import."""
    found: dict[str, set[str]] = {}
    for file in (ROOT / "fluxgrad").rglob("*.py"):
        room = file.relative_to(ROOT / "fluxgrad").with_suffix("").parts[0]
        if room == "__init__":
            continue
        below = found.setdefault(room, set())
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            below |= {name.split(".")[1] for name in modules if name.startswith("fluxgrad.")}
        below.discard(room)
    return found


def test_the_house_is_built_as_its_page_says():
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    table = page.partition("## The rooms")[2].partition("\n## ")[0]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("| `")]
    actual = rooms()
    told = {room.strip("`"): set(re.findall(r"`(\w+)`", below)) & actual.keys() for room, _, below in lines}
    assert told == actual, "a room, or what it stands on, is not as docs/architecture.md has it"
