"""``python -m rendered_people OUT``: render a data set into a folder and print how often each part occurs."""

import argparse
import sys
from pathlib import Path

from mula_lib.files import exit_status
from rendered_people import CrowdConfig, PeopleConfig, PhotoConfig, part_frequencies, render_dataset


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 done, 2 user error, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m rendered_people", description=__doc__)
    parser.add_argument("out", type=Path, help="folder to write to; interrupted runs resume")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--crowds", action="store_true", help="several people per picture, in PASCAL's layout")
    kind.add_argument("--photos", action="store_true", help="one person or nobody, as photographs show them")
    configs = (PeopleConfig, CrowdConfig, PhotoConfig)
    for split, what in (("train", "training"), ("val", "validation")):
        counts = "{}; with --crowds {}, with --photos {}".format(*(getattr(each, split) for each in configs))
        parser.add_argument(f"--{split}", type=int, help=f"{what} pictures ({counts})")
    parser.add_argument("--size", type=int, help=f"pixels of the longer edge ({PeopleConfig.size})")
    parser.add_argument("--seed", type=int, help=f"another seed, other people ({PeopleConfig.seed})")
    parser.add_argument("--workers", type=int, help="processes (one per core)")
    options = vars(parser.parse_args(arguments))
    out, workers, crowds, photos = (options.pop(name) for name in ("out", "workers", "crowds", "photos"))

    def render() -> None:
        given = {name: value for name, value in options.items() if value is not None}
        config = (CrowdConfig if crowds else PhotoConfig if photos else PeopleConfig)(**given)
        render_dataset(out, config, workers=workers)
        if config.train:
            shares = part_frequencies(out).mul(100).round(2)
            print(shares.rename(columns=lambda name: f"% of {name}").to_string())

    return exit_status(render, kept=f"finished pictures are kept in {out}; run the same command to continue")


if __name__ == "__main__":
    sys.exit(main())
