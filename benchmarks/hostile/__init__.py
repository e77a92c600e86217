"""Hostile and broken inputs, thousands of them: each ends in a right sample or in one clear line naming the file.

``python -m benchmarks.hostile [--cases N] [--seed S] [--kind KIND]``. A module of :data:`MODULES` registers the kinds
of input that it knows; :mod:`benchmarks.hostile.harness` says how.
"""

MODULES = ("tables", "masks", "images", "mats", "trees", "commands", "checkpoints", "records", "parameters")
