"""Rendering a whole data set: in parallel, resumable, the same pictures with any number of processes.

The tree is LIP's own (see ``tree.py``), so that LIP's reader reads it, or for crowds PASCAL-Person-Part's
(``crowd_tree.py``), plus ``people.json``, which says what recipe made it and, written last, that it is complete.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from tqdm.auto import tqdm

from mula_lib.anatomy import LIP, PASCAL
from mula_lib.data.pascal import is_pascal
from mula_lib.files import (
    ConfigError,
    DataError,
    end_with_parent,
    environment,
    interrupts_waiting,
    keep_freed_memory,
    locked,
    read_json,
    usable_cores,
    write_text,
)
from rendered_people.crowd_tree import CrowdTree
from rendered_people.tree import Tree

if TYPE_CHECKING:
    import pandas

RECIPE = 1  # raise whenever any picture of a single person changes
CROWD_RECIPE = 1  # the same for crowds
RECIPE_FILE = "people.json"
_BATCH = 4  # pictures a worker takes at a time
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True)
class PeopleConfig:
    """Numbers of pictures, pixels of the longer edge, and the seed of all of it."""

    train: int = 4000
    val: int = 500
    size: int = 160
    seed: int = 0

    def __post_init__(self) -> None:
        if self.train < 0 or self.val < 0 or self.train + self.val == 0:
            raise ConfigError(f"train={self.train}, val={self.val}: ask for at least one picture, and none negative")
        if not 32 <= self.size <= 2048:
            raise ConfigError(f"size={self.size}: the longer edge must be 32 to 2048 pixels")
        if self.seed < 0:
            raise ConfigError(f"seed={self.seed}: a seed is zero or more")


@dataclass(frozen=True)
class CrowdConfig(PeopleConfig):
    """The same for pictures of no, one or several people."""

    train: int = 1000
    val: int = 250


def is_of_crowds(config: PeopleConfig) -> bool:
    """Whether ``config`` is of pictures with several people."""
    return isinstance(config, CrowdConfig)


def fingerprint(config: PeopleConfig) -> str:
    """Hex digest of the recipe's version and the config: two trees with the same one hold the same pictures."""
    recipe = {"crowd_recipe": CROWD_RECIPE} if is_of_crowds(config) else {"recipe": RECIPE}
    text = json.dumps({**recipe, **asdict(config)}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def ensure_people(config: PeopleConfig, base: Path = Path("data")) -> Path:
    """The folder of the data set below ``base``, rendered now if it is not there or not whole."""
    kind = "crowds" if is_of_crowds(config) else "people"
    return render_dataset(Path(base) / f"{kind}-{fingerprint(config)[:12]}", config)


def render_dataset(root: Path, config: PeopleConfig, *, workers: int | None = None, progress: bool = True) -> Path:
    """Render the data set into ``root`` and return it; the same files with any number of workers.

    What an interrupted run left behind is kept: a picture that is there and whole is not rendered again. A finished
    tree returns at once. ``workers`` defaults to the processors at hand. Raises DataError when ``root`` holds
    something else, naming the folder and what to do.
    """
    if workers is not None and workers < 1:
        raise ConfigError(f"workers={workers}: at least one process must render")
    root = Path(root)
    if _is_finished(root, config) and _tree(root, config).is_there(_counts(config)):
        return root
    with locked(root.parent / f".{root.name}.lock", f"the pictures in {root}"):
        _render_missing(root, config, workers, progress)
    return root


def _render_missing(root: Path, config: PeopleConfig, workers: int | None, progress: bool) -> None:
    """Render what is not there; nobody else is rendering it now."""
    tree, counts = _tree(root, config), _counts(config)
    if _is_finished(root, config) and tree.is_there(counts):  # somebody else did it while this process waited
        return
    tree.make()
    if not (root / RECIPE_FILE).exists():
        write_text(root / RECIPE_FILE, _recipe(config, complete=False))
    everything = [(split, index) for split, count in counts.items() for index in range(count)]
    missing = [key for key in everything if not tree.is_done(*key)]
    if missing:
        from rendered_people.body import body_model

        body_model(progress)  # build the table once, before the workers ask for it
    what = "rendering crowds" if is_of_crowds(config) else "rendering people"
    done = len(everything) - len(missing)
    with tqdm(total=len(everything), initial=done, desc=what, unit="image", disable=not progress) as bar:
        for finished in _rendered(root, config, missing, _worker_count(workers, len(missing))):
            bar.update(finished)
    tree.finish(counts)
    write_text(root / RECIPE_FILE, _recipe(config, complete=True))
    tree.tidy()


def _counts(config: PeopleConfig) -> dict[str, int]:
    return {"train": config.train, "val": config.val}


def _tree(root: Path, config: PeopleConfig) -> Tree | CrowdTree:
    return CrowdTree(root) if is_of_crowds(config) else Tree(root)


def part_frequencies(root: Path) -> pandas.DataFrame:
    """Of the training pictures of ``root``: for each part the share (0..1) of images that contain it and of pixels."""
    import pandas

    root, anatomy = Path(root), PASCAL if is_pascal(root) else LIP
    if anatomy.crowds:
        masks = sorted((root / "SegmentationPart").glob("train_*.png"))
    else:
        masks = sorted((root / "TrainVal_parsing_annotations" / "train_segmentations").glob("*.png"))
    if not masks:
        raise DataError(f"{root} holds no training masks: render the data set first (python -m rendered_people)")
    images, pixels = np.zeros(len(anatomy.parts)), np.zeros(len(anatomy.parts))
    for path in masks:
        mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if mask is None:
            raise DataError(f"{path} cannot be read: delete it and render the data set again")
        counts = np.bincount(mask.ravel(), minlength=len(anatomy.parts))[: len(anatomy.parts)]
        images += counts > 0
        pixels += counts / mask.size
    table = {"part": anatomy.parts, "images": images / len(masks), "pixels": pixels / len(masks)}
    return pandas.DataFrame(table).set_index("part")


def _recipe(config: PeopleConfig, *, complete: bool) -> str:
    version = CROWD_RECIPE if is_of_crowds(config) else RECIPE
    content = {"recipe": version, "config": asdict(config), "fingerprint": fingerprint(config), "complete": complete}
    return json.dumps(content, indent=2) + "\n"


def _is_finished(root: Path, config: PeopleConfig) -> bool:
    """Whether ``root`` holds this very data set, whole; DataError if it holds something else."""
    path = root / RECIPE_FILE
    if not path.exists():
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise DataError(f"{root} is in use and holds no {RECIPE_FILE}: give an empty or a new folder")
        return False
    mend = f"delete {root} and render it again"
    stored = read_json(path, "the recipe of rendered pictures", ("fingerprint", "complete"), fix=mend)
    if stored["fingerprint"] != fingerprint(config):
        raise DataError(
            f"{root} holds another rendering ({stored.get('config')}, recipe {stored.get('recipe')}): "
            "give another folder, or delete this one"
        )
    return bool(stored["complete"])


def _worker_count(workers: int | None, jobs: int) -> int:
    return max(min(workers or usable_cores(), -(-jobs // _BATCH)), 1)


def _rendered(
    root: Path, config: PeopleConfig, missing: list[tuple[str, int]], workers: int
) -> Iterator[int]:
    """Render ``missing``; yields the number of pictures of each batch as it is done."""
    batches = [missing[start : start + _BATCH] for start in range(0, len(missing), _BATCH)]
    if workers == 1:
        for batch in batches:
            yield render_batch(root, config, batch)
        return
    with worker_pool(workers) as pool:
        waiting = list(reversed(batches))
        running = set()
        try:
            while waiting or running:
                with interrupts_waiting():  # submitting starts processes
                    while waiting and len(running) < 2 * workers:
                        running.add(pool.submit(render_batch, root, config, waiting.pop()))
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for job in done:
                    yield job.result()
        except BrokenProcessPool as error:
            raise DataError(f"a process that rendered {root} was killed: run again with fewer workers") from error
        finally:  # on Ctrl-C let the pictures in work be finished, begin no more
            pool.shutdown(cancel_futures=True)


@contextmanager
def worker_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes for :func:`render_batch`, each of one thread; the first jobs start them."""
    context = multiprocessing.get_context("spawn")  # a fork after torch or OpenCV began threads may hang
    with environment(_ONE_THREAD), ProcessPoolExecutor(workers, context, initializer=_start_worker) as pool:
        yield pool


def _start_worker() -> None:
    end_with_parent()
    cv2.setNumThreads(1)
    keep_freed_memory()


def render_batch(root: Path, config: PeopleConfig, batch: list[tuple[str, int]]) -> int:
    """Render the pictures ``batch``, (split, index) each, into the tree ``root``; returns how many."""
    if is_of_crowds(config):
        from rendered_people.crowd import render_crowd as render
    else:
        from rendered_people.person import render_person as render
    tree = _tree(root, config)
    for split, index in batch:
        tree.write(split, index, render(config.seed, split, index, config.size))
    return len(batch)
