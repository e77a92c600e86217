"""Looking something up must not wait for PyTorch or for a compiler."""

from __future__ import annotations

import subprocess
import sys

import pytest

from workbook.datasets import REPOSITORY


@pytest.mark.parametrize("modules", ["mula_lib", "mula_lib.anatomy, mula_lib.files, workbook.profiles"])
def test_what_needs_no_arithmetic_imports_none(modules):
    code = f"import sys, {modules}; print(*{{'torch', 'numba', 'pandas', 'cv2'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True, capture_output=True, text=True)
    assert done.stdout.split() == []
