"""The notebooks: executed by papermill, and the checks below their exercises."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from tqdm.auto import tqdm

from mula_lib.files import MulaError
from workbook.datasets import REPOSITORY, VARIABLES, Source
from workbook.experiments import Profile
from workbook.jobs import in_processes
from workbook.runs import RUNS
from workbook.tables import CROWD_TABLES

NOTEBOOKS = REPOSITORY / "notebooks"
EXECUTED = RUNS / "notebooks"
TIMEOUT = 6 * 3600  # seconds a cell may take; nothing is trained in it


def execute_notebooks(
    profile: Profile, sources: Sequence[Source], seeds: Sequence[int], tables: Sequence[int] = (), jobs: int = 1
) -> None:
    """Execute every notebook, or only those of ``tables``; executed copies go to ``runs/notebooks/<profile>``.

    A notebook gets that one of ``sources`` which its tables are of, one person an image or several; it is left out
    where there is none. It trains nothing. Raises :class:`MulaError`, which names notebook and cell, if one fails.
    """
    import papermill

    # all but the real data sets are found by name
    paths = {each.name: str(each.root.resolve()) if each.name in VARIABLES else None for each in sources}
    several = next(([each.name, paths[each.name]] for each in sources if each.anatomy.crowds), [])
    chosen = []
    for notebook in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")):
        its = _tables_of(notebook)
        crowds = bool(its & set(CROWD_TABLES))
        source = next((each for each in sources if each.anatomy.crowds == crowds), None)
        if source is None or (tables and not its & set(tables)):
            continue
        given = {"profile": profile.name, "dataset": source.name, "data_path": paths[source.name], "seeds": list(seeds)}
        given |= {"crowds": several} if "crowds" in papermill.inspect_notebook(str(notebook)) else {}
        chosen.append((notebook, EXECUTED / profile.name / notebook.name, given | {"train": False}))
    failed = []
    with tqdm(total=len(chosen), desc="notebooks", unit="notebook") as bar:
        for index, error in in_processes(_execute, chosen, min(jobs, len(chosen)) or 1):
            bar.update()
            bar.set_postfix_str(chosen[index][0].stem)
            failed += [error] if error else []
    if failed:
        raise MulaError("\n".join(sorted(failed)))


def _tables_of(notebook: Path) -> set[int]:
    """``07_tables5_6_pascal`` -> 5, 6."""
    found = re.search(r"tables?([\d_]*\d)", notebook.stem)
    return set(map(int, found[1].split("_"))) if found else set()


def _execute(notebook: Path, output: Path, given: dict[str, object], attempts: int = 3) -> str | None:
    """Execute one notebook; returns what went wrong, in a line."""
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    output.parent.mkdir(parents=True, exist_ok=True)
    how = {"kernel_name": "python3", "cwd": str(NOTEBOOKS), "execution_timeout": TIMEOUT, "progress_bar": False}
    how["extra_arguments"] = ["--IPKernelApp.log_level=ERROR"]  # ipykernel warns of unencrypted loopback traffic
    try:
        papermill.execute_notebook(str(notebook), str(output), given, **how)  # writes after every cell
        return None
    except PapermillExecutionError as error:
        why = f", cell {error.exec_count}: {error.ename}: {error.evalue}"
    except CellTimeoutError:
        why = f": a cell took more than {TIMEOUT} s"
    except DeadKernelError:
        why = ": its kernel was killed, perhaps for memory; run again: it resumes"
    except RuntimeError as error:  # it did not start: another kernel took a port that was free a moment ago
        if attempts > 1:
            return _execute(notebook, output, given, attempts - 1)
        why = f": {error}"
    return f"{notebook.name}{why} (executed copy: {output})"


def check(test: Callable[[], object]) -> None:
    """Run ``test`` of a reader's own code and print in a line whether it passed; raises nothing.

    :class:`NotImplementedError` means that the exercise has not been begun; any other error is shown as what is wrong.
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
