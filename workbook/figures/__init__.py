# ruff: noqa: F401, I001
"""Every picture of the workbook. Each function takes arrays or tables and returns a matplotlib ``Figure``.

Nothing here trains or reads a data set. Diagrams of networks are files: ``notebooks/figures/*.svg``.
"""

from workbook.figures.model import embeddings, kernel_rows, map_grid, offset_targets, stage_outputs
from workbook.figures.people import Picture, corrections, picture_grid
from workbook.figures.scores import (
    claim_intervals, gradient_ratios, joint_states, learning_curves, paper_beside_ours, part_frequencies,
    scores_by_stages, training_curves,
)  # fmt: skip
from workbook.figures.style import png_bytes, save_all, show, show_source
