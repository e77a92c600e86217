"""The study of the paper: what is run, kept and shown.

Exports what notebooks need by name; each is imported on first use.
"""

from collections.abc import Callable

from mula_lib import lazy_exports

_HOMES = {
    "claims": ("findings", "measure", "measured_claims", "scores_by_budget", "study_counts", "verdicts"),
    "datasets": ("open_source",),
    "experiments": ("find_experiment", "find_profile"),
    "inspection": (
        "as_batch", "changes", "crowd_joint_targets", "exchanged_kernels", "fully_annotated", "image_gains",
        "joint_targets", "output_shapes", "perfect_candidates", "predicted_kernels", "prediction_rows",
        "stage_predictions", "telling_images", "testing_crop", "truth_picture", "write_kernel_diagnostics",
    ),
    "predictor": ("load_predictor",),
    "results": ("do_table", "find_seeds", "run_label", "searched_rates", "side_by_side", "table_label"),
    "runs": ("Run", "results_folder", "shipped_weights"),
    "tables": ("CONTEXT", "table_experiments", "table_rows"),
}  # fmt: skip
__all__, __getattr__, __dir__ = lazy_exports(__name__, _HOMES, "check")


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
