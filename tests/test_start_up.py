"""Looking something up must not wait for PyTorch or for a compiler; what is asked for is there."""

from __future__ import annotations

import subprocess
import sys

import pytest

import mula_lib as mula
from workbook.datasets import REPOSITORY


@pytest.mark.parametrize(
    ("modules", "unneeded"),
    [
        ("mula_lib", {"torch", "numba", "pandas", "cv2"}),
        ("mula_lib.anatomy, mula_lib.files", {"torch", "numba", "pandas", "cv2"}),
        ("rendered_people", {"torch", "anny", "embreex", "warp"}),  # which only rendering needs, not reading
    ],
)
def test_what_is_not_needed_is_not_imported(modules, unneeded):
    code = f"import sys, {modules}; print(*{unneeded} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


def test_the_library_gives_the_papers_names():
    assert all(getattr(mula, name) is not None for name in mula.__all__)
    assert {"JointModel", "ParameterAdapter", "DynamicConv2d", "LIP", "predict", "evaluate"} <= set(dir(mula))
    with pytest.raises(AttributeError, match="'mula_lib' has no attribute 'JointModels'"):
        mula.JointModels  # noqa: B018
