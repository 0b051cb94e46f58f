"""The examples and the benchmark, run as a reader runs them: from another folder, with no `dot` on the PATH."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(folder: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = [p for p in os.get_exec_path() if shutil.which("dot", path=p) is None]
    modules = filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
    settings = {"PATH": os.pathsep.join(path), "PYTHONPATH": os.pathsep.join(modules), "PYTHONIOENCODING": "utf-8"}
    settings |= {"http_proxy": "http://localhost:9", "https_proxy": "http://localhost:9"}  # where nobody answers
    return subprocess.run(
        [sys.executable, ROOT / script, *arguments], cwd=folder, env={**os.environ, **settings},
        capture_output=True, encoding="utf-8", timeout=180,
    )  # fmt: skip


def test_digits(tmp_path: Path):
    done = run(tmp_path, "examples/digits.py")
    assert done.returncode == 0, done.stderr
    assert "load_digits" in done.stdout
    assert float(re.search(r"^test accuracy (0\.\d+)$", done.stdout, re.M)[1]) >= 0.96
    assert {p.name for p in tmp_path.iterdir()} == {"digits-flow.svg", "digits-curve.svg"}
    for picture in tmp_path.iterdir():
        assert picture.name in done.stdout
        assert ET.fromstring(picture.read_text("utf-8")).tag == "{http://www.w3.org/2000/svg}svg"
    assert "accuracy=0.9" in done.stderr and "loss=0." in done.stderr  # the progress bar


def robust(said: str):
    clean, few, many = (
        dict(zip(("MSE", "MAE", "Huber"), row, strict=True)) for row in table(said, r"^ +\d+% of .* spoilt:")
    )
    assert clean["Huber"] < clean["MSE"] + 0.5 and clean["Huber"] < clean["MAE"]
    assert few["Huber"] < few["MSE"] / 2 and abs(few["Huber"] - few["MAE"]) < 2
    assert many["MAE"] < many["Huber"] < many["MSE"] / 2
    mse, mae, huber = (int(share) for share in re.findall(r"(\d+)%", said.partition("the spoilt 10%: ")[2])[:3])
    assert mse > 50 > 2 * huber and abs(mae - 10) <= 1


def imbalance(said: str):
    names = "cross-entropy", "weighted", "focal"
    shares = [int(share) for share in re.findall(r"sent +(\d+)% of the signal", said)]
    plain, weighted, focal = (table(said, rf"^ +{name} +on the test images:")[0] for name in names)
    assert 3 * shares[2] < shares[0] and 3 * shares[2] < shares[1]
    assert focal[0] > weighted[0] and focal[0] > plain[0] + 0.01  # average precision
    assert weighted[1] < min(plain[1], focal[1])  # precision
    assert weighted[2] > focal[2] > plain[2]  # recall
    better, of = re.search(r"in (\d) of the (\d) splits", said).groups()
    assert 2 * int(better) > int(of)


def calibration(said: str):
    rows = table(said, r"^ +smoothing")
    random, clean = rows[:5], rows[5:]
    assert [row[0] for row in random] == [row[0] for row in clean] == [0, 0.05, 0.1, 0.2, 0.3]
    accuracy, confidence, error = zip(*(row[1:] for row in random), strict=True)
    assert confidence[0] > accuracy[0] + 0.1 and confidence[-1] < accuracy[-1] - 0.1  # too sure, too modest
    assert error[1] < error[0] / 2 and error[-1] > error[0]
    accuracy, confidence, error = zip(*(row[1:] for row in clean), strict=True)
    assert error[0] == min(error) < 0.05 and accuracy[-1] > accuracy[0]


def distillation(said: str):
    teacher = float(re.search(r"the teacher's is (0\.\d+)$", said, re.M)[1])
    rows = table(said.replace("T²", "T"), r"^ +student of +\d+ images:")
    gains = [distilled - alone for alone, distilled, _ in rows]
    assert len(rows) == 5 and min(gains) > 0 and max(gains) == gains[0] > 0.05
    assert all(distilled < teacher for _, distilled, _ in rows)
    assert all(without < distilled for _, distilled, without in rows[:2])


def contrast(said: str):
    untrained, pca, trained, pixels = (row[0] for row in table(said, r"^ +.*   (?=0\.\d+$)"))
    assert untrained < pca < trained - 0.1 and trained < pixels


def table(said: str, start: str) -> list[list[float]]:
    """The figures on each line that starts so."""
    lines = re.findall(rf"{start}(.*)$", said, re.M)
    assert lines, said
    return [[float(figure) for figure in re.findall(r"\d+(?:\.\d+)?", line)] for line in lines]


@pytest.mark.parametrize(
    "claim", [robust, imbalance, calibration, distillation, contrast], ids=lambda claim: claim.__name__
)
def test_losses(claim, tmp_path: Path):
    """Each example of a loss keeps what it says, by the figures that it prints."""
    name = claim.__name__
    done = run(tmp_path, f"examples/{name}.py")
    assert done.returncode == 0, done.stderr
    assert "data set: scikit-learn's load_" in done.stdout and "\nSo " in done.stdout
    assert f"wrote {name}.svg: " in done.stdout
    assert [p.name for p in tmp_path.iterdir()] == [f"{name}.svg"]
    assert ET.fromstring((tmp_path / f"{name}.svg").read_text("utf-8")).tag == "{http://www.w3.org/2000/svg}svg"
    assert "100%" in done.stderr and re.search(r"(loss|accuracy)=\S", done.stderr)  # the progress bar
    claim(done.stdout)


def test_steps(tmp_path: Path):
    """It starts, and engine and hand agree; its figures are another command's business."""
    assert "--rounds" in run(tmp_path, "benchmarks/steps.py", "--help").stdout
    done = run(tmp_path, "benchmarks/steps.py", "--only", "fluxgrad", "--rounds", "1")
    assert done.returncode == 0, done.stderr
    assert {"T1", "T2", "T3", "T4", "T5", "bytes"} == json.loads(done.stdout).keys()
