"""Picture.save: every kind of file from the one drawing, what a notebook is given, and names that LaTeX would run."""

from __future__ import annotations

import io
import os
import re
import shutil
import struct
import subprocess
import sys
import unicodedata
import xml.etree.ElementTree as ET
import zlib
from functools import partial
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import typst

import fluxgrad as fg
from fluxgrad.picture import save, style
from fluxgrad.picture.tikz import _ABOVE, _BELOW, _TEX, SVG, looks, tex, tikz

SUFFIXES = [".html", ".pdf", ".png", ".tex", ".svg", ".dot"]
X, Y = np.array([[0.5, -1.0], [1.0, 0.2]]), np.array([[1.0], [0.0]])


def leaf(value, name=None):
    return fg.Tensor(value, requires_grad=True, name=name)


def op():
    w, x, s = leaf(0.5, "w"), leaf(-1.2, "x"), leaf(0.0, "s")
    W = leaf(np.array([[1.0, -2.0], [0.5, 3.0]]), "W_σ")
    with np.errstate(divide="ignore"):
        return fg.draw(np.tanh(w * x) * 3.0 - np.sum(W * W) + np.sqrt(s) + x * 0.0, view="op")


def network(view, widths=(3, 1)):
    return fg.draw_network(fg.nn.MLP(2, [*widths], seed=0), X, Y, view=view)


PICTURES = {
    "op": op,
    "neuron": partial(network, "neuron"),
    "dense": partial(network, "neuron", (30, 20, 1)),
    "layer": partial(network, "layer"),
    "scopes": partial(network, "op"),
}
every_picture = pytest.mark.parametrize("make", PICTURES.values(), ids=PICTURES)


def elements(picture, kind):
    return [g for g in ET.fromstring(picture.svg).iter(f"{SVG}g") if kind in g.get("class", "").split()]


def size(picture):
    root = ET.fromstring(picture.svg)
    return int(root.get("width")), int(root.get("height"))


# ----- Files -----


def test_the_suffix_says_what_is_written(tmp_path):
    picture = op()
    starts = {".html": b"<!DOCTYPE html>", ".pdf": b"%PDF-", ".png": b"\x89PNG", ".tex": b"% Wiggle-flow of L: L = "}
    for suffix in SUFFIXES:
        for name in (f"p{suffix}", f"P{suffix.upper()}"):
            picture.save(tmp_path / name)
        one, other = ((tmp_path / name).read_bytes() for name in (f"p{suffix}", f"P{suffix.upper()}"))
        assert one == other and one.startswith(starts.get(suffix, b""))
        assert suffix in (".png", ".pdf") or b"\r" not in one
    assert (tmp_path / "p.tex").read_text("utf-8") == tikz(picture.svg)
    picture.save(str(tmp_path / "by name.svg"))
    assert (tmp_path / "by name.svg").read_text("utf-8") == picture.svg


@pytest.mark.parametrize("name", ["p.bmp", "p", "p.svg.gz", ".svg", "p."])
def test_another_suffix_is_refused_with_those_that_there_are(tmp_path, name):
    with pytest.raises(ValueError, match=re.escape(f"{name!r} ends in none")) as error:
        op().save(tmp_path / name)
    assert all(suffix in str(error.value) for suffix in SUFFIXES) and not list(tmp_path.iterdir())


def test_the_page_holds_the_picture_and_loads_nothing(tmp_path):
    picture = fg.draw(leaf(2.0, "<b>&") * 3.0)
    picture.save(tmp_path / "p.html")
    text = (tmp_path / "p.html").read_text("utf-8")
    assert picture.svg in text and "<title>Wiggle-flow of L: L = 6</title>" in text and 'charset="utf-8"' in text
    assert not re.search(r"(?:src|href)=|@import|url\(|<b>", text)


@every_picture
def test_a_png_has_two_pixels_for_each_on_white(make, tmp_path):
    picture = make()
    picture.save(tmp_path / "p.png")
    wide, tall = struct.unpack(">II", (tmp_path / "p.png").read_bytes()[16:24])
    assert (wide, tall) == tuple(2 * n for n in size(picture))
    pixels = np.round(matplotlib.image.imread(tmp_path / "p.png") * 255).astype(int)
    if pixels.shape[2] == 4:
        assert (pixels[..., 3] == 255).all()
    seen = {"#{:02x}{:02x}{:02x}".format(*c) for c in np.unique(pixels[..., :3].reshape(-1, 3), axis=0)}
    assert (pixels[0, 0, :3] == 255).all() and (pixels[-1, -1, :3] == 255).all()
    assert {style.LIGHT[c].lower() for c in ("card", "plus", "minus")} <= seen
    assert not {style.DARK["paper"], style.DARK["card"]} & seen


def streams(data):
    """The streams of a PDF, unpacked where they are packed."""
    for m in re.finditer(rb"stream\r?\n(.*?)\r?\nendstream", data, re.DOTALL):
        try:
            yield zlib.decompress(m[1])
        except zlib.error:
            yield m[1]


@every_picture
def test_a_pdf_has_lines_and_letters_of_the_same_size(make, tmp_path):
    picture = make()
    picture.save(tmp_path / "p.pdf")
    data = (tmp_path / "p.pdf").read_bytes()
    whole = data + b"\n".join(streams(data))
    assert not re.search(rb"/Subtype\s*/Image", whole) and re.search(rb"/FontFile[23]?\b", whole)
    box = re.search(rb"/MediaBox\s*\[\s*0 0 ([\d.]+) ([\d.]+)", whole)
    assert [float(n) for n in box.groups()] == pytest.approx([0.75 * n for n in size(picture)], abs=0.01)
    assert b"/Title" in whole and not re.search(rb"/CreationDate", whole)


def test_a_pdf_draws_a_text_with_a_halo_twice_and_a_hidden_one_never():
    svg = network("neuron", (30, 20, 1)).svg
    before, after = (list(ET.fromstring(s).iter(f"{SVG}text")) for s in (svg, save._apart(svg)))
    look = looks(ET.fromstring(svg))
    haloed = [t for t in look if "paint-order" in look[t] and t.get("opacity") != "0"]
    hidden = [t for t in before if t.get("opacity") == "0"]
    assert haloed and hidden and len(after) == len(before) - len(hidden) + len(haloed)
    for look in ("fill:none", "stroke:none"):
        assert sum(t.get("style") == look for t in after) == len(haloed)


def test_words_are_data_to_typst(tmp_path):
    L = leaf(2.0, '"); #panic("run") \\ #read("x") $') * 1.0
    L.name = "#panic()"
    for suffix in (".png", ".pdf"):
        fg.draw(L).save(tmp_path / f"p{suffix}")
        assert (tmp_path / f"p{suffix}").stat().st_size > 5000


def test_letters_are_drawn_where_the_machine_has_no_font(monkeypatch):
    monkeypatch.setattr(typst, "compile", partial(typst.compile, ignore_system_fonts=True))
    svg = op().svg
    whole, bare = (
        matplotlib.image.imread(io.BytesIO(save.typeset(text, "", "", "png")))
        for text in (svg, re.sub(r"<text .*?</text>", "", svg))
    )
    letters = np.abs(whole - bare).max(axis=2) > 0.5
    assert letters.sum() > 40 * len(re.findall(r"<text ", svg))


PROGRAM = """
import numpy as np, fluxgrad as fg, hashlib, pathlib, tempfile
a, b, W = (fg.Tensor(v, requires_grad=True, name=n) for v, n in ((0.7, "a"), (-1.3, None), (np.ones((2, 3)), "W")))
L = np.tanh(a * b) * b + np.sum(W @ np.ones(3)) * a
net = fg.draw_network(fg.nn.MLP(2, [3, 1], seed=0), np.array([[0.5, -1.0]]), np.array([[1.0]]), view="neuron")
with tempfile.TemporaryDirectory() as folder:
    for picture in (fg.draw(L), net):
        for suffix in ("html", "pdf", "png", "tex", "svg", "dot"):
            path = pathlib.Path(folder, "p." + suffix)
            picture.save(path)
            print(suffix, hashlib.sha256(path.read_bytes()).hexdigest())
"""


def run(program, **env):
    path = {"PYTHONPATH": str(Path(fg.__file__).parents[1])}
    return subprocess.run([sys.executable, "-c", program], env={**os.environ, **path, **env}, capture_output=True)


def test_same_bytes_in_every_process_and_nothing_on_the_terminal():
    one, other = (run(PROGRAM, PYTHONHASHSEED=seed) for seed in ("0", "4711"))
    assert one.returncode == other.returncode == 0, one.stderr.decode()
    assert one.stdout == other.stdout and len(one.stdout.split()) == 24 and one.stderr == other.stderr == b""


def test_typst_is_loaded_only_for_the_files_that_need_it(tmp_path):
    program = (
        "import sys, fluxgrad as fg; x = fg.Tensor(3.0, requires_grad=True); p = fg.draw(x * x); p.svg; str(p);"
        "p.save('{0}/p.tex'), p.save('{0}/p.html'); assert 'typst' not in sys.modules;"
        "p.save('{0}/p.png'); assert 'typst' in sys.modules"
    )
    done = run(program.format(tmp_path))
    assert done.returncode == 0, done.stderr.decode()


def test_without_typst_one_sentence_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "typst", None)
    for suffix in (".png", ".pdf"):
        with pytest.raises(ImportError, match=r"pip install 'fluxgrad\[save\]'") as error:
            op().save(tmp_path / f"p{suffix}")
        assert "\n" not in str(error.value) and not list(tmp_path.iterdir())
    for suffix in {*SUFFIXES} - {".png", ".pdf"}:
        op().save(tmp_path / f"p{suffix}")


# ----- Notebooks and terminals -----


def test_a_notebook_gets_html_svg_and_text():
    picture = op()
    bundle = picture._repr_mimebundle_(include=None, exclude=None)
    assert bundle == {"text/html": picture.svg, "image/svg+xml": picture.svg, "text/plain": str(picture)}
    assert picture._repr_html_() == picture._repr_svg_() == picture.svg


def test_printed_it_is_its_numbers():
    x = leaf(3.0, "x")
    assert str(fg.draw(x * x, view="op")).splitlines()[:4] == [
        "Wiggle-flow of L: L = 9",
        "  x = 3, L̇_x = 6; L rises if it rises",
        "  L = 9, L̇_L = 1; by multiply; L rises if it rises",
        "  x → x·x: contributes 3",
    ]
    long = str(network("neuron", (30, 20, 1))).splitlines()
    assert len(long) == 62 and re.fullmatch(r"  … and [\d,]+ more", long[-1])


# ----- TikZ -----


def body(text):
    """What LaTeX reads between begin and end, without the comments."""
    lines = text.partition(r"\begin{tikzpicture}")[2].partition(r"\end{tikzpicture}")[0].splitlines()[1:]
    return [line for line in lines if not line.startswith("%")]


def check_tex(text):
    """What must hold for LaTeX to read a document as it was meant."""
    lines = [line for line in text.splitlines() if not line.startswith("%")]
    code = re.sub(r"\\[a-zA-Z]+|\\[^a-zA-Z]", "", "\n".join(lines))  # without commands and escaped letters
    assert code.isascii() and code.count("$") % 2 == 0
    depth = 0
    for c in code:
        depth += {"{": 1, "}": -1}.get(c, 0)
        assert depth >= 0
    assert depth == 0
    for line in body(text):
        assert line.startswith(("\\node[", "\\path[", "\\path (", "\\fgtext[", "\\fgtext{")), line
        assert line.endswith((";", "}"))
        assert not re.search(r"[%~\"|<>`&#]|[\^_](?!\{)", re.sub(r"\\.", "", line)), line


@every_picture
def test_tikz_has_a_node_for_each_node_and_a_line_for_each_line(make):
    picture = make()
    text = tikz(picture.svg)
    check_tex(text)
    nodes = [line for line in body(text) if line.startswith("\\node")]
    assert len(nodes) == len(elements(picture, "node"))
    assert [re.search(r"\((n\d+)\) at", line)[1] for line in nodes] == [f"n{k + 1}" for k in range(len(nodes))]
    comments = [line[2:] for line in text.splitlines() if line.startswith("% ")]
    for kind in ("node", "edge"):
        assert {" ".join(g[0].text.split()) for g in elements(picture, kind)} <= set(comments)
    shown = [t for t in ET.fromstring(picture.svg).iter(f"{SVG}text") if t.get("opacity") != "0"]
    assert sum("\\fgtext" in line or "] {" in line for line in body(text)) >= len(shown) - len(nodes)


def test_tikz_has_the_places_colours_widths_and_dashes_of_the_svg():
    picture = op()
    text = tikz(picture.svg)
    moved = next(g.get("transform") for g in ET.fromstring(picture.svg) if g.get("transform"))
    dx, dy = map(float, re.findall(r"[\d.]+", moved))
    drawn = [g.find(f"{SVG}rect") for g in elements(picture, "node")]
    for rect in (r for r in drawn if r is not None):
        x, y, w, h = (float(rect.get(key)) for key in ("x", "y", "width", "height"))
        near = rf"minimum width={0.75 * w:g}bp,minimum height={0.75 * h:g}bp\] \(n\d+\) at \(([\d.]+),([\d.]+)\)"
        assert any(
            (float(a), float(b)) == pytest.approx((x + w / 2 + dx, y + h / 2 + dy), abs=0.06)
            for a, b in re.findall(near, text)
        )
    for g in elements(picture, "edge"):
        sign, width = g.get("class").split()[1], float(g.find(f"{SVG}path").get("stroke-width"))
        line = f"draw=fg{sign},line width={0.75 * width:g}bp"
        dash = style.LINES.get(sign, {}).get("stroke-dasharray", "").split()
        if dash:
            line += f",dash pattern=on {0.75 * float(dash[0]):g}bp off {0.75 * float(dash[1]):g}bp"
        assert line in text
    for name in ("plus", "minus", "ink", "frame", "plustext"):
        value = style.LIGHT[name.replace("text", " text")]
        assert f"\\definecolor{{fg{name}}}{{HTML}}{{{value[1:]}}}" in text
    assert re.search(r"\$\\dot\{L\}_\{w\}\$\\ = ", text)
    assert r"\dot{L}_{\text{\fgname W\_\ensuremath{\sigma}}}" in text and r"\ensuremath{\Vert}" in text


SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "^": r"\textasciicircum{}",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "%": r"\%",
}


def test_what_latex_would_run_is_escaped():
    for c, text in SPECIAL.items():
        assert tex(f"a{c}b") == f"a{text}b"
    assert tex("".join(SPECIAL)) == "".join(SPECIAL.values())
    assert tex("--- ,,") == "-{}-{}- ,{}," and tex(" = 2 ") == r"\ = 2\ "


@pytest.mark.parametrize(
    "text, out",
    [
        *(
            ("σ", r"\ensuremath{\sigma}"),
            ("‖x‖", r"\ensuremath{\Vert}x\ensuremath{\Vert}"),
            ("√", r"\ensuremath{\surd}"),
        ),
        *(("x²", r"x\textsuperscript{2}"), ("x⁻¹", r"x\textsuperscript{\ensuremath{-}}\textsuperscript{1}")),
        *(
            ("x₁₂", r"x\textsubscript{1}\textsubscript{2}"),
            ("Wᵀ", r"W\textsuperscript{T}"),
            ("→", r"\ensuremath{\rightarrow}"),
        ),
        *(("é", r"\ensuremath{\acute{\text{e}}}"), ("ŷ̇", r"\ensuremath{\dot{\hat{\text{y}}}}"), ("ç", r"\c{c}")),
        *(("L̇", r"\ensuremath{\dot{\text{L}}}"), ("½", "1/2"), ("ﬁ", "fi"), ("𝑥", "x"), ("", "")),
        *(("数", r"{\tiny U+6570}"), ("☃", r"{\tiny U+2603}"), ("🙂", r"{\tiny U+1F642}"), ("가", r"{\tiny U+AC00}")),
    ],
)
def test_letters_beyond_ascii(text, out):
    assert tex(text) == out


def test_every_form_and_every_sign_of_a_picture_has_its_latex():
    for row in fg.rules.values():
        assert "U+" not in tex(row.form), row.form
    for letter in "−·×√‖→…∂Σσ✕ᵀ∛⌊⌋":
        assert "U+" not in tex(letter)


def test_every_letter_comes_out_in_ascii():
    for code in [*range(32, 0x3000), *range(0x1D400, 0x1D800), 0x1F600, 0xFFFD]:
        c = chr(code)
        if unicodedata.category(c)[0] != "C":
            text = tex(f"a{c}b")
            assert text.isascii() and text.startswith(("a", "\\")) and text.endswith(("b", "}"))


HOSTILE = [
    "\\end{document}\\input{/etc/passwd}",
    "}}}{{{$$$",
    "\\\\ & # ^ _ ~ % $",
    "^^5cinput",
    "%3 \n% \\relax",
    "<script>alert(1)</script>",
    "``quotes'' \"x\" ?` !` -- --- ,, << >>",
    "q" * 10_000,
    "a" + "\u0301" * 5000,
    "\x00\x07\x1b[31m",
    "数据" * 30,
    "  ",
]


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_are_text_in_tikz(name):
    L = leaf(3.0, name) * leaf(2.0, name[:7]) + 1.0
    L.name = name
    text = tikz(fg.draw(L).svg)
    check_tex(text)
    code = "\n".join(body(text))
    assert not re.search(r"\\(?:input|end|relax|write|def|catcode)\b|\^\^", code)
    assert "q" * 40 not in text


def test_a_mark_without_tikz_is_refused():
    for mark in ("<ellipse/>", '<path d="M0,0Q1,1 2,2"/>', '<g transform="rotate(3)"/>'):
        with pytest.raises(ValueError, match="tikz: "):
            tikz(f'<svg xmlns="{SVG[1:-1]}" width="9" height="9"><title>t</title>{mark}</svg>')


# ----- LaTeX itself -----


def every_letter():
    """A picture whose names hold every letter that has LaTeX of its own."""
    letters = [*_TEX, *(f"x{mark}" for mark in (*_ABOVE, *_BELOW)), *"ŷ̇½²₃ᵀé数☃"]
    names = ["".join(letters[k : k + 30]) for k in range(0, len(letters), 30)]
    L = leaf(1.0, "w")
    for name in names:
        L = L + leaf(1.0, name)
    return fg.draw(L, view="op")


def hostile():
    L = leaf(1.0, "\\{}$&#^_~%")
    for name in HOSTILE:
        L = L * leaf(2.0, name)
    return fg.draw(L, view="op")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
@pytest.mark.parametrize("make", [*PICTURES.values(), every_letter, hostile], ids=[*PICTURES, "letters", "hostile"])
def test_latex_sets_it_to_the_same_size(make, tmp_path):
    picture = make()
    picture.save(tmp_path / "p.tex")
    program = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "p.tex"]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, timeout=120)
    said = done.stdout.decode(errors="replace")
    assert done.returncode == 0, said[-2000:]
    assert "Missing character" not in said and "LaTeX Warning" not in said
    data = (tmp_path / "p.pdf").read_bytes()
    box = re.search(rb"/MediaBox\s*\[\s*0 0 ([\d.]+) ([\d.]+)", data + b"\n".join(streams(data)))
    assert [float(n) for n in box.groups()] == pytest.approx([0.75 * n for n in size(picture)], rel=0.02)
