"""What a notebook is given in its first cell, checked before anything is begun."""

from __future__ import annotations

from mula_lib.files import ConfigError
from workbook.datasets import CROWDS, SINGLE, Source


def find_seeds(seeds: object) -> list[int]:
    """``seeds`` as a list of different whole numbers from 0, at least one; ConfigError for anything else."""
    wrong = f"seeds={seeds!r}: give a list of different whole numbers from 0, such as [0] or [0, 1, 2]"
    if not isinstance(seeds, (list, tuple)) or not seeds:
        raise ConfigError(wrong)
    if any(isinstance(seed, bool) or not isinstance(seed, int) or seed < 0 for seed in seeds):
        raise ConfigError(wrong)
    if len(set(seeds)) != len(seeds):
        raise ConfigError(wrong)
    return list(seeds)


def of_one_person(source: Source) -> Source:
    """``source`` itself, whose images show one person each; ConfigError where they show several."""
    return _of_kind(source, crowds=False)


def of_crowds(source: Source) -> Source:
    """``source`` itself, whose images show several people; ConfigError where they show one."""
    return _of_kind(source, crowds=True)


def _of_kind(source: Source, *, crowds: bool) -> Source:
    if source.anatomy.crowds != crowds:
        wanted, known = ("several people", CROWDS) if crowds else ("one person", SINGLE)
        raise ConfigError(f"dataset={source.name!r}: this needs images of {wanted}: {', '.join(known)}")
    return source
