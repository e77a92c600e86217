"""Rendered people: a data set in LIP's layout that needs no download.

Bodies are posed, dressed, lit and photographed by ray casting; every pixel's part and every joint is known. Reading a
rendered tree needs neither the body model nor the ray caster: both are imported when something is rendered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mula_lib.data.people.dataset import PeopleConfig, ensure_people, fingerprint, part_frequencies, render_dataset

if TYPE_CHECKING:
    from mula_lib.data.people.person import Person, render_person

__all__ = [
    "PeopleConfig",
    "Person",
    "ensure_people",
    "fingerprint",
    "part_frequencies",
    "render_dataset",
    "render_person",
]


def __getattr__(name: str):
    if name in ("Person", "render_person"):
        from mula_lib.data.people import person

        return getattr(person, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
