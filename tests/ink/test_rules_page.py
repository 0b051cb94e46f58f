"""docs/rules.md is what the rules print today."""

from __future__ import annotations

import runpy
from pathlib import Path

import fluxgrad as fg

ROOT = Path(__file__).parents[2]


def test_the_table_of_rules_is_not_stale():
    written = (ROOT / "docs" / "rules.md").read_text("utf-8")
    printed = runpy.run_path(str(ROOT / "docs" / "rules.py"))["page"]()
    stale = [line for line in printed.splitlines() if line not in set(written.splitlines())]
    assert written == printed, f"docs/rules.md is stale; run: python docs/rules.py\nwhat is new in it: {stale}"


def test_every_rule_has_its_line():
    lines = (ROOT / "docs" / "rules.md").read_text("utf-8").splitlines()
    for name, row in fg.rules.items():
        if row._builtin:
            (line,) = [line for line in lines if line.startswith(f"| `{name}` |")]
            cells = [cell.strip() for cell in line.replace("\\|", "¦").split("|")[1:-1]]
            assert len(cells) == 5
            assert cells[3:] == [(row.choice or "").replace("|", "¦"), row.kind]
