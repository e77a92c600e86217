"""MuLA: mutual learning to adapt for joint human parsing and pose estimation (ECCV 2018), as a library.

Exports its main names, the paper's own where it has them; each is imported on first use.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "anatomy": ("ANATOMIES", "LIP", "PASCAL", "Anatomy"),
    "checkpoint": ("load_model", "read_facts", "save_weights"),
    "data.augment": ("Augmentation",),
    "data.images": ("load_image", "load_mask"),
    "data.samples": ("TrainingSamples",),
    "data.targets": ("crowd_targets", "gaussian_heatmaps", "heatmap_sigma"),
    "evaluation": ("CrowdEvaluation", "Evaluation", "evaluate", "load_evaluation"),
    "grouping": ("find_candidates", "group_candidates", "partition"),
    "inference": ("Prediction", "Testing", "crowd_candidates", "decode", "peaks", "predict", "predict_maps"),
    "metrics.parsing": ("class_iou", "confusion_matrix", "parsing_scores"),
    "metrics.people": ("average_precision", "match_people", "people_scores", "reference_lengths"),
    "metrics.pose": ("pckh", "pckh_hits"),
    "models.adaptation": ("AdaptationConfig", "DynamicConv2d", "ParameterAdapter"),
    "models.joint": ("JointModel",),
    "models.losses": ("Targets", "parsing_loss", "pose_loss", "supervise"),
    "models.network": ("ImageConvention", "ModelConfig", "StageOutput", "build_model", "forward_gflops",
                       "parameter_count"),
    "training": ("Job", "Recipe", "fit"),
}


def lazy_exports(
    package: str, homes: Mapping[str, Sequence[str]], *own: str
) -> tuple[list[str], Callable[[str], object], Callable[[], list[str]]]:
    """``__all__``, ``__getattr__`` and ``__dir__`` of a package that imports ``homes``' names on first use."""
    home_of = {name: home for home, names in homes.items() for name in names}
    every = sorted([*home_of, *own])

    def find(name: str) -> object:
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{home_of[name]}"), name)

    return every, find, lambda: every


__all__, __getattr__, __dir__ = lazy_exports(__name__, _HOMES, "__version__")
