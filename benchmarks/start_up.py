"""How long Python takes to begin: alone, with the package, and with all that a training needs.

python -m benchmarks.start_up
"""

from __future__ import annotations

import subprocess
import sys

from benchmarks.timing import compare, publish
from workbook.datasets import REPOSITORY

PLAIN = "python alone"
WAYS = {
    PLAIN: "pass",
    "import mula_lib": "import mula_lib",
    "import anatomy, profiles": "import mula_lib.anatomy, workbook.profiles",
    "import torch": "import torch",
    "import workbook (all that run_all needs)": "import workbook.cli",
}


def main() -> None:
    """Measure and publish."""
    ways = {
        way: lambda code=code: subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)
        for way, code in WAYS.items()
    }
    publish(compare("start-up", "a new process", ways, plain=PLAIN, runs=5))


if __name__ == "__main__":
    main()
