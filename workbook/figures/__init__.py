"""Every picture of the workbook. Each function takes plain arrays or tables and returns a matplotlib ``Figure``.

Nothing here trains or reads a data set; ``output`` puts a finished figure on the page and on disk.
"""

from workbook.figures.architecture import encoder_layers, mutual_adaptation, parameter_adapter
from workbook.figures.corrections import Change, corrections
from workbook.figures.crowds import embeddings, offset_targets
from workbook.figures.data import heatmap_profiles, joint_states, map_grid, part_frequencies
from workbook.figures.model import kernel_grid, kernels_by_pose, stage_outputs
from workbook.figures.output import png_bytes, save_figure, show, show_source, shown_path
from workbook.figures.people import Picture, picture_grid
from workbook.figures.scores import paper_beside_ours, scores_by_stages, training_curves
from workbook.figures.systems import system_diagrams

__all__ = [
    "Change",
    "Picture",
    "corrections",
    "embeddings",
    "encoder_layers",
    "heatmap_profiles",
    "joint_states",
    "kernel_grid",
    "kernels_by_pose",
    "map_grid",
    "mutual_adaptation",
    "offset_targets",
    "paper_beside_ours",
    "parameter_adapter",
    "part_frequencies",
    "picture_grid",
    "png_bytes",
    "save_figure",
    "scores_by_stages",
    "show",
    "show_source",
    "shown_path",
    "stage_outputs",
    "system_diagrams",
    "training_curves",
]
