"""Rendered people: data sets in LIP's and PASCAL-Person-Part's layouts that need no download.

Bodies are posed, dressed, lit and photographed by ray casting; every pixel's part and every joint is known. Reading a
rendered tree needs neither the body model nor the ray caster: both are imported when something is rendered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rendered_people.dataset import (
    CrowdConfig,
    PeopleConfig,
    ensure_people,
    fingerprint,
    part_frequencies,
    render_dataset,
)

if TYPE_CHECKING:
    from rendered_people.crowd import Crowd, render_crowd
    from rendered_people.person import Person, render_person

__all__ = [
    "Crowd",
    "CrowdConfig",
    "PeopleConfig",
    "Person",
    "ensure_people",
    "fingerprint",
    "part_frequencies",
    "render_crowd",
    "render_dataset",
    "render_person",
]


def __getattr__(name: str):
    if name in ("Person", "render_person"):
        from rendered_people import person

        return getattr(person, name)
    if name in ("Crowd", "render_crowd"):
        from rendered_people import crowd

        return getattr(crowd, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
