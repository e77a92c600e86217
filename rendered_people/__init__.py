"""Rendered people: data sets in LIP's and PASCAL-Person-Part's layouts that need no download.

Bodies are posed, dressed, lit and photographed by ray casting; every pixel's part and every joint is known. Reading a
rendered tree needs neither the body model nor the ray caster: both are imported when something is rendered.
"""

from rendered_people.dataset import (
    CrowdConfig,
    PeopleConfig,
    PhotoConfig,
    ensure_people,
    fingerprint,
    part_frequencies,
    render_dataset,
)

__all__ = ["CrowdConfig", "PeopleConfig", "PhotoConfig", "ensure_people", "fingerprint", "part_frequencies"]
__all__ += ["render_dataset"]
