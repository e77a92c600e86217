"""Old name of what is in experiments.py."""

from mula_lib.inference import Testing
from mula_lib.training import PAPER_DROPS, PAPER_EPOCHS, Recipe
from workbook.experiments import *  # noqa: F403
from workbook.experiments import DEMO, PAPER, PROFILES, SMOKE, Profile, find_profile, rehearsal

__all__ = ["DEMO", "PAPER", "PAPER_DROPS", "PAPER_EPOCHS", "PROFILES", "SMOKE", "Profile", "Recipe", "Testing", "find_profile", "rehearsal"]  # noqa: E501
