"""Write the table of all rules again, into docs/rules.md or the file given.

    python docs/rules.py

Every line is what `print(fg.rules[name])` prints, which is what runs: nobody types a formula here.
"""

import sys
from pathlib import Path

import fluxgrad as fg

HEAD = """# Every rule

This page is written by `python docs/rules.py`: each line is what `print(fg.rules[name])` prints, and that comes from calling the rule itself.

```python
import fluxgrad as fg

print(fg.rules["tanh"])
print(fg.rules["tanh"].ascii)
print(fg.rules["tanh"].latex)
print(fg.rules["tanh"].source)
```

```text
{example}
```

An **elementwise** rule gives its local fluxions ẏ_x; a **linear** or **fused** one gives what it sends back, L̇_x. The output is y, of a loss L; what a name stands for that is none
of the inputs follows after *where*. [The notation](notation.md#letters) has the letters. Where an input was stretched by broadcasting, the engine adds up what is sent back; a rule need not say so.

At a kink there is no right or wrong: the choice is ours, and the table names it. Where NumPy has a function of the rule's name, that function calls it; of the losses the functions in `fg.losses` do.
"""


def cell(text):
    return text.replace("|", "\\|")  # else it would end there


def page():
    tanh = fg.rules["tanh"]
    example = "\n".join([str(tanh), tanh.ascii, tanh.latex, tanh.source.rstrip(), ""])
    lines = [HEAD.format(example=example), "| rule | value | fluxions | at a kink | kind |", "|---|---|---|---|---|"]
    for name, row in fg.rules.items():
        if not row._builtin:
            continue
        value, _, told = str(row).partition(":  ")
        told, _, parts = told.partition("  where ")
        fluxions = f"`{told}`" + (f" where `{parts}`" if parts else "")
        cells = [f"`{name}`", f"`{value}`", fluxions, row.choice or "", row.kind]
        lines.append(f"| {' | '.join(map(cell, cells))} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_suffix(".md")).write_text(page(), "utf-8")
