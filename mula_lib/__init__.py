"""MuLA: mutual learning to adapt for joint human parsing and pose estimation (ECCV 2018), as a library.

Exports what notebooks need under the paper's names; each is imported on first use.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "anatomy": ("LIP", "PASCAL", "Anatomy", "find_anatomy"),
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
    "models.losses": ("Targets", "pose_loss", "supervise"),
    "models.network": ("ImageConvention", "ModelConfig", "StageOutput", "build_model"),
    "training": ("Job", "Recipe", "fit"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}
__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
