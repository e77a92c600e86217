"""Old place of what is in datasets.py and results.py."""

from workbook.datasets import of_crowds, of_one_person
from workbook.results import find_seeds

__all__ = ["find_seeds", "of_crowds", "of_one_person"]
