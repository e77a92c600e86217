# ruff: noqa: F401
"""Every picture of the workbook. Each function takes arrays or tables and returns a matplotlib ``Figure``.

Nothing here trains or reads a data set. Diagrams of networks are files: ``notebooks/figures/*.svg``.
"""

from workbook.figures.corrections import Change, corrections
from workbook.figures.data import joint_states, part_frequencies
from workbook.figures.model import embeddings, kernel_rows, map_grid, offset_targets, stage_outputs
from workbook.figures.output import png_bytes, save_all, save_figure, show, show_source
from workbook.figures.people import Picture, picture_grid
from workbook.figures.scores import (
    claim_intervals,
    gradient_shares,
    paper_beside_ours,
    scores_by_stages,
    training_curves,
)
