"""``python -m mula_lib.data.convert_parts MASKS OUT``: masks of the other release of PASCAL-Person-Part, renumbered.

That release calls 1 lower arm, 2 head, 3 upper leg, 4 torso, 5 lower leg and 6 upper arm. The masks are read from
folder MASKS and written to folder OUT, which takes the place of ``SegmentationPart``; nothing in MASKS is changed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
from tqdm.auto import tqdm

from mula_lib.anatomy import PASCAL
from mula_lib.commands import exit_status
from mula_lib.data.pascal import OTHER_LOOKUP
from mula_lib.data.pictures import load_mask
from mula_lib.files import DataError, shown, visible_names, write_bytes


def convert(masks: Path, out: Path) -> int:
    """Renumber every PNG of folder ``masks`` into folder ``out``; returns how many.

    Raises :class:`DataError` if there are none, one is not a mask of seven ids, or both folders are the same.
    """
    names = visible_names(masks) if masks.is_dir() else []
    paths = [masks / name for name in names if name.endswith(".png")]
    if not paths:
        raise DataError(f"{shown(masks)}: no PNG in this folder; give the folder of part masks")
    if out.resolve() == masks.resolve():
        raise DataError(f"{shown(out)}: the same folder as the masks', whose numbers would be lost; give another one")
    for path in tqdm(paths, desc="renumbering parts", unit="mask", leave=False, disable=None):
        mask = cv2.LUT(load_mask(path, classes=len(PASCAL.parts)), OTHER_LOOKUP)
        write_bytes(out / path.name, cv2.imencode(".png", mask)[1].tobytes(), durable=False)
    return len(paths)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 an error that is the user's to mend, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m mula_lib.data.convert_parts", description=__doc__)
    parser.add_argument("masks", type=Path, help="folder of the other release's masks")
    parser.add_argument("out", type=Path, help="folder to write; it is made if it is not there")
    options = parser.parse_args(arguments)

    def command() -> None:
        print(f"{convert(options.masks, options.out)} masks written to {options.out}")

    return exit_status(command, kept=f"what was written to {options.out} is whole; run the same command again")


if __name__ == "__main__":
    sys.exit(main())
