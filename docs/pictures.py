"""Draw the pictures of these pages again, into docs/pictures or the folder given.

    python docs/pictures.py

`neuron.svg` is what the README's program saves, `digits-flow.svg` what the example does.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    program = re.search(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.M | re.S)[1]
    with tempfile.TemporaryDirectory() as place:
        Path(place, "neuron.py").write_text(program, "utf-8")
        for script in ("neuron.py", ROOT / "examples" / "digits.py"):
            subprocess.run([sys.executable, script], cwd=place, check=True)
        for name in ("neuron.svg", "digits-flow.svg"):
            shutil.copy(Path(place, name), folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "pictures")
