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

An **elementwise** rule gives its local fluxions ẏ_x; a **linear** or **fused** one gives what it sends back, L̇_x. The output is called y, or L if the rule is a loss. Other names are
defined after *where*, or in [the notation](notation.md#letters), which has the letters and the signs; [the architecture](architecture.md#three-kinds-of-row) has the three kinds. Where an input was stretched by broadcasting, the engine adds up what is sent back; a rule need not say so.

At a kink there is no right or wrong: the choice is ours, and the table names it. Most rules have the name of the NumPy function that calls them (`inv`, `pinv`, `det`, `solve` and `norm`: in `np.linalg`). Those of `relu`, `sigmoid`, `softplus`, `gelu`, `logsumexp`, `softmax` and `log_softmax` are called as `fg.relu` and so on, and losses by the functions in `fg.losses`.
The rest are called by other things: `affine` by `fg.nn.Linear`, `getitem` by `x[i]`, `astype` by `x.astype(…)`, `logabsdet` by `np.linalg.slogdet`; `scatter` is the way back of `x[i]`, and `share` that of `np.maximum` and its kin.
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
