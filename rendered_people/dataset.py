"""Rendering a data set: in parallel, resumable, the same pictures with any number of processes.

The tree is LIP's own (see ``tree.py``), or for crowds PASCAL-Person-Part's (``crowd_tree.py``), plus ``people.json``,
which says what recipe made it and, written last, which splits are complete.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import cv2
import numpy as np
from tqdm.auto import tqdm

from mula_lib.anatomy import LIP, PASCAL
from mula_lib.files import ConfigError, DataError, locked, read_json, usable_cores, write_json
from rendered_people.crowd_tree import CrowdTree
from rendered_people.tree import SPLITS, PeopleTree, Tree

if TYPE_CHECKING:
    import pandas

RECIPE_FILE = "people.json"
_BATCH = 4  # pictures a worker takes at a time
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True)
class PeopleConfig:
    """Numbers of pictures, pixels of the longer edge, and the seed."""

    train: int = 4000
    val: int = 500
    size: int = 160
    seed: int = 0

    kind: ClassVar[str] = "people"
    recipe: ClassVar[dict[str, int]] = {"recipe": 1}  # raise whenever any picture changes

    def __post_init__(self) -> None:
        if self.train < 0 or self.val < 0 or self.train + self.val == 0:
            raise ConfigError(f"train={self.train}, val={self.val}: give at least one picture, and no negative number")
        if not 32 <= self.size <= 2048:
            raise ConfigError(f"size={self.size}: the longer edge must be 32 to 2048 pixels")
        if self.seed < 0:
            raise ConfigError(f"seed={self.seed}: a seed is zero or more")


@dataclass(frozen=True)
class CrowdConfig(PeopleConfig):
    """The same for pictures of no, one or several people."""

    train: int = 1000
    val: int = 250

    kind: ClassVar[str] = "crowds"
    recipe: ClassVar[dict[str, int]] = {"crowd_recipe": 1}


@dataclass(frozen=True)
class PhotoConfig(PeopleConfig):
    """One person a picture as photographs show them, or nobody."""

    train: int = 5000
    val: int = 300

    kind: ClassVar[str] = "photos"
    recipe: ClassVar[dict[str, int]] = {"photo_recipe": 1}


def fingerprint(config: PeopleConfig) -> str:
    """Hex digest of the recipe's version and the config: two trees with the same one hold the same pictures."""
    text = json.dumps({**config.recipe, **asdict(config)}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def ensure_people(config: PeopleConfig, base: Path = Path("data"), splits: Iterable[str] = SPLITS) -> Path:
    """The data set's folder below ``base``; whatever ``splits`` ("train", "val") lack is rendered first.

    The folder is the same whatever ``splits`` are: a later call adds the other one to it.
    """
    return render_dataset(Path(base) / f"{config.kind}-{fingerprint(config)[:12]}", config, splits)


def render_dataset(
    root: Path, config: PeopleConfig, splits: Iterable[str] = SPLITS, *, workers: int | None = None
) -> Path:
    """Render ``splits`` of the data set into ``root`` and return it; the same files with any number of workers.

    Resumable: complete pictures are not rendered again, and if all are complete, this returns at once. ``workers``
    defaults to the usable cores. Raises DataError if ``root`` holds something else.
    """
    root, tree = Path(root), _tree(root, config.kind)
    counts = {split: getattr(config, split) for split in splits}

    def is_rendered() -> bool:
        return counts.keys() <= _complete_splits(root, config) and all(map(tree.is_there, counts, counts.values()))

    if not is_rendered():
        with locked(root.parent / f".{root.name}.lock", f"the pictures in {root}"):
            if not is_rendered():  # unless another process did it meanwhile
                _render_missing(tree, config, counts, workers or usable_cores())
    return root


def _render_missing(tree: Tree, config: PeopleConfig, counts: dict[str, int], workers: int) -> None:
    """Render what is missing of ``counts`` pictures a split; the caller holds the lock."""
    complete = _complete_splits(tree.root, config)
    _write_recipe(tree.root, config, complete - counts.keys())
    for split in counts:
        tree.clear(split)
    everything = [(split, index) for split, count in counts.items() for index in range(count)]
    missing = [key for key in everything if not tree.is_done(*key)]
    if missing:
        from rendered_people.body import body_model

        body_model()  # build the table once, before the workers ask for it
    what = f"rendering {config.kind} ({', '.join(counts)})"
    done = len(everything) - len(missing)
    for _ in tqdm(_rendered(tree.root, config, missing, workers), what, len(everything), initial=done, unit="image"):
        pass
    for split, count in counts.items():
        tree.finish(split, count)
    _write_recipe(tree.root, config, complete | counts.keys())


def _tree(root: Path, kind: str) -> Tree:
    return (CrowdTree if kind == "crowds" else PeopleTree)(root)


def _write_recipe(root: Path, config: PeopleConfig, complete: set[str]) -> None:
    (version,) = config.recipe.values()
    content = {"recipe": version, "config": asdict(config), "fingerprint": fingerprint(config),
               "complete": {split: split in complete for split in SPLITS}}  # fmt: skip
    write_json(root / RECIPE_FILE, content)


def _complete_splits(root: Path, config: PeopleConfig) -> set[str]:
    """Which splits of exactly this data set are complete in ``root``; DataError if it holds something else."""
    path = root / RECIPE_FILE
    if not path.exists():
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise DataError(f"{root} is not empty and holds no {RECIPE_FILE}: give an empty or a new folder")
        return set()
    fix = f"delete {root} and render it again, or give another folder"
    stored = read_json(path, "the recipe of a rendering", ("fingerprint", "complete"), fix=fix)
    if stored["fingerprint"] != fingerprint(config):
        raise DataError(f"{root} holds another rendering ({stored.get('config')}); {fix}")
    complete = stored["complete"]
    if isinstance(complete, bool):  # a tree from before splits were rendered one at a time
        complete = dict.fromkeys(SPLITS, complete)
    return {split for split in SPLITS if complete.get(split)}


def part_frequencies(root: Path) -> pandas.DataFrame:
    """For each part, the share (0..1) of the training images in ``root`` that contain it, and its share of pixels."""
    import pandas

    crowds = (Path(root) / "SegmentationPart").is_dir()
    anatomy, tree = (PASCAL if crowds else LIP), _tree(root, "crowds" if crowds else "people")
    first = tree.path(tree.mask, "train")
    masks = sorted(first.parent.glob(f"train_*{first.suffix}"))
    if not masks:
        raise DataError(f"{root} holds no training masks: render the data set first (python -m rendered_people)")
    images, pixels = np.zeros(len(anatomy.parts)), np.zeros(len(anatomy.parts))
    for path in masks:
        mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        counts = np.bincount(mask.ravel(), minlength=len(anatomy.parts))[: len(anatomy.parts)]
        images += counts > 0
        pixels += counts / mask.size
    shares = {"images": images / len(masks), "pixels": pixels / len(masks)}
    return pandas.DataFrame(shares, index=pandas.Index(anatomy.parts, name="part"))


def _rendered(root: Path, config: PeopleConfig, missing: list[tuple[str, int]], workers: int) -> Iterator[None]:
    """Render ``missing``, (split, index) each; yields as each picture is done."""
    render, workers = partial(_render, root, config), min(workers, -(-len(missing) // _BATCH))
    if workers <= 1:
        yield from map(render, missing)
        return
    context = multiprocessing.get_context("spawn")  # a fork after torch or OpenCV began threads may hang
    with ProcessPoolExecutor(workers, context, initializer=_start_worker) as pool:
        try:
            with _starting_workers():
                done = pool.map(render, missing, chunksize=_BATCH)
            yield from done  # on Ctrl-C, pictures in progress are finished and none started
        except BrokenProcessPool as error:
            raise DataError(f"a process rendering {root} was killed, perhaps out of memory; run it again") from error


@contextmanager
def _starting_workers() -> Iterator[None]:
    """Processes started within have one thread each and leave Ctrl-C, which a terminal sends to all, to this one."""
    environment, mask = os.environ.copy(), signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.environ.update(_ONE_THREAD)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(environment)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _start_worker() -> None:
    cv2.setNumThreads(1)
    parent = multiprocessing.parent_process()  # if it is killed, a worker would wait for its next batch for ever
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def _render(root: Path, config: PeopleConfig, key: tuple[str, int]) -> None:
    """Render picture ``key``, (split, index), into the tree ``root``."""
    from rendered_people import pictures

    kinds = {"people": pictures.render_person, "photos": pictures.render_photo, "crowds": pictures.render_crowd}
    _tree(root, config.kind).write(*key, kinds[config.kind](config.seed, *key, config.size))
