"""``python -m rendered_people OUT``: render a data set into a folder and print how often each part occurs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mula_lib.files import exit_status
from rendered_people import CrowdConfig, PeopleConfig, part_frequencies, render_dataset


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 done, 2 an error that is the user's to mend, 130 interrupted."""
    default = PeopleConfig()
    parser = argparse.ArgumentParser(prog="python -m rendered_people", description=__doc__)
    parser.add_argument("out", type=Path, help="folder to write; continued if an earlier run was interrupted")
    parser.add_argument("--crowds", action="store_true", help="several people a picture, in PASCAL's layout")
    counts = "({}; with --crowds {})".format
    parser.add_argument("--train", type=int, help=f"training images {counts(default.train, CrowdConfig.train)}")
    parser.add_argument("--val", type=int, help=f"validation images {counts(default.val, CrowdConfig.val)}")
    parser.add_argument("--size", type=int, default=default.size, help="pixels of the longer edge (%(default)s)")
    parser.add_argument("--seed", type=int, default=default.seed, help="another seed, other people (%(default)s)")
    parser.add_argument("--workers", type=int, default=None, help="processes (one for each processor)")
    options = parser.parse_args(arguments)
    kept = f"what is done is kept in {options.out}; run the same command to go on"
    return exit_status(lambda: _render(options), kept=kept)


def _render(options: argparse.Namespace) -> None:
    kind = CrowdConfig if options.crowds else PeopleConfig
    train, val = (
        given if given is not None else usual
        for given, usual in ((options.train, kind.train), (options.val, kind.val))
    )
    config = kind(train, val, options.size, options.seed)
    render_dataset(options.out, config, workers=options.workers)
    if config.train:
        shares = part_frequencies(options.out).mul(100).round(2)
        print(shares.rename(columns=lambda name: f"% of {name}").to_string())


if __name__ == "__main__":
    sys.exit(main())
