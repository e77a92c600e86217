"""The study of the paper: what is run, kept and shown.

Exports what notebooks need by name; each is imported on first use.
"""

import importlib
from collections.abc import Callable

_WHERE = {
    "mula_lib.models.network": ("forward_gflops", "parameter_count"),
    "workbook.claims": ("findings", "judge", "measure", "measured_claims", "study_counts"),
    "workbook.datasets": ("open_source",),
    "workbook.experiments": ("find_experiment", "find_profile"),
    "workbook.inspection": (
        "as_batch", "changes", "crowd_joint_targets", "exchanged_kernels", "fully_annotated", "image_gains",
        "joint_targets", "output_shapes", "perfect_candidates", "predicted_kernels", "prediction_rows",
        "spread_images", "stage_predictions", "telling_images", "testing_crop", "truth_picture",
        "write_kernel_diagnostics",
    ),
    "workbook.predictor": ("load_predictor", "shipped_weights"),
    "workbook.results": (
        "do_table", "find_seeds", "run_label", "searched_rates", "side_by_side", "systems_side_by_side", "table_label",
    ),
    "workbook.runs": ("Run", "results_folder"),
    "workbook.tables": ("CONTEXT", "table_experiments", "table_rows"),
}  # fmt: skip
_MODULE = {name: module for module, names in _WHERE.items() for name in names}
__all__ = sorted([*_MODULE, "check"])


def __getattr__(name: str) -> object:
    if name not in _MODULE:
        raise AttributeError(f"module 'workbook' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE[name]), name)


def __dir__() -> list[str]:
    return __all__


def check(test: Callable[[], object]) -> None:
    """Run ``test`` on a reader's own code and print in one line whether it passed; raises nothing.

    :class:`NotImplementedError` means that the exercise has not been started; any other error is shown as the reason.
    """
    try:
        test()
    except NotImplementedError:
        print("Not done yet: fill in the cell above, run it, and run this one again.")
    except Exception as error:  # whatever a reader's code may raise
        reason = " ".join(str(error).split())[:300]
        print(f"Not right yet: {type(error).__name__}{f': {reason}' if reason else ''}")
    else:
        print("Right!")
