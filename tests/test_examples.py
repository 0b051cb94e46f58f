"""The example and the benchmark, run as a reader runs them: from another folder, with no `dot` on the PATH."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(folder: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = [p for p in os.get_exec_path() if shutil.which("dot", path=p) is None]
    modules = filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
    settings = {"PATH": os.pathsep.join(path), "PYTHONPATH": os.pathsep.join(modules), "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(
        [sys.executable, ROOT / script, *arguments], cwd=folder, env={**os.environ, **settings},
        capture_output=True, encoding="utf-8", timeout=60,
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


def test_steps(tmp_path: Path):
    """It starts, and engine and hand agree; its figures are another command's business."""
    assert "--rounds" in run(tmp_path, "benchmarks/steps.py", "--help").stdout
    done = run(tmp_path, "benchmarks/steps.py", "--only", "fluxgrad", "--rounds", "1")
    assert done.returncode == 0, done.stderr
    assert {"T1", "T2", "T3", "T4", "T5", "bytes"} == json.loads(done.stdout).keys()
