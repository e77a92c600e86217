"""Several people: joint candidates, the local maxima of confidence maps (Sec. 3.2, "NMS"), grouped into people."""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage

from mula_lib.anatomy import Anatomy
from mula_lib.data.targets import PAPER_CROP

SMOOTHING = 3.0  # σ in pixels at a crop of 256
THRESHOLD = 0.1  # of the smoothed map; lower maxima are no candidates
REACH = 0.8  # clusters farther apart than this share of a person's size (below) are not joined
FEWEST = 4  # joints of a person
ORDER = ("forehead", "shoulder", "hip", "elbow", "knee", "wrist", "ankle")  # of joining seeded people; heads may seed


@dataclass(frozen=True)
class Candidates:
    """K candidate joints of one image, in pixels of the crop, highest first within each type."""

    joint: np.ndarray  # (K,) int, which joint
    place: np.ndarray  # (K, 2) float, (column, row)
    embedding: np.ndarray  # (K, 2) float: where the network places the centroid of the candidate's person
    score: np.ndarray  # (K,) float, height of the unsmoothed map

    def __len__(self) -> int:
        return len(self.joint)


def find_candidates(maps: np.ndarray, offsets: np.ndarray) -> Candidates:
    """Local maxima of each map, to a fraction of a pixel.

    Args:
        maps: (N, h, w) float32 confidence on the crop's own pixels.
        offsets: (N, 2, h, w) float32, from each pixel to the person's centroid, x and y in pixels.

    A plateau of equal values is one maximum. The fraction comes from the parabola through the logarithms of a maximum
    and its neighbours, in each direction, which is exact for a Gaussian. nan is never a maximum.
    """
    sigma = SMOOTHING * maps.shape[-1] / PAPER_CROP
    found: list[tuple[np.ndarray, ...]] = []
    for index, (raw, offset) in enumerate(zip(maps, offsets, strict=True)):
        raw = np.nan_to_num(raw.astype(np.float32, copy=False))
        smooth = cv2.GaussianBlur(raw, (0, 0), sigma)
        highest = cv2.dilate(smooth, np.ones((3, 3), np.uint8))  # OpenCV's border never wins
        maxima = ((smooth >= highest) & (smooth > THRESHOLD)).astype(np.uint8)
        middles = cv2.connectedComponentsWithStats(maxima, connectivity=8)[3][1:]  # without the background's
        columns, rows = np.ceil(middles - 0.5).astype(int).T
        order = np.argsort(-smooth[rows, columns], kind="stable")
        rows, columns = rows[order], columns[order]
        place = np.stack([columns + _fraction(smooth, rows, columns, 1), rows + _fraction(smooth, rows, columns, 0)], 1)
        embedding = place + offset[:, rows, columns].T
        found.append((np.full(len(rows), index), place, embedding, raw[rows, columns]))
    return Candidates(*(np.concatenate(each) for each in zip(*found, strict=True)))


def _fraction(smooth: np.ndarray, rows: np.ndarray, columns: np.ndarray, axis: int) -> np.ndarray:
    """Distance of the true maximum from the pixel along ``axis`` (0: rows), in -0.5..0.5; 0 at the border."""
    place, size = (rows, columns)[axis], smooth.shape[axis]
    step = ((place > 0) & (place < size - 1)).astype(int)
    down, right = (step, 0) if axis == 0 else (0, step)
    low, middle, high = (
        np.log(np.maximum(smooth[rows + side * down, columns + side * right], 1e-12)) for side in (-1, 0, 1)
    )
    bend = low - 2 * middle + high
    with np.errstate(divide="ignore", invalid="ignore"):
        fraction = np.where(bend < 0, (low - high) / (2 * bend), 0.0)
    return np.clip(fraction, -0.5, 0.5)


class People(NamedTuple):
    """Q people of one image."""

    joints: np.ndarray  # (Q, N, 2) float32, (column, row); nan where a person lacks the joint
    scores: np.ndarray  # (Q, N) float32, 0 where a person lacks the joint


def partition(candidates: Candidates, anatomy: Anatomy) -> People:
    """The people of :func:`group_candidates`, with joints at their candidates' places."""
    members = group_candidates(candidates, anatomy)
    joints = np.full((len(members), len(anatomy.joints), 2), np.nan, np.float32)
    scores = np.zeros((len(members), len(anatomy.joints)), np.float32)
    for index, person in enumerate(members):
        joints[index, candidates.joint[person]] = candidates.place[person]
        scores[index, candidates.joint[person]] = candidates.score[person]
    return People(joints, scores)


def group_candidates(candidates: Candidates, anatomy: Anatomy) -> list[list[int]]:
    """Group the candidates into people: each person's indices, at most one for each type of joint.

    1. Embeddings are clustered by centroid linkage, cut at :data:`REACH` times the image's typical person size: the
       median distance of a candidate from its own embedding.
    2. A cluster in which no type of joint occurs twice is a person. Any other is split greedily: a person for each
       neck; then, type by type in :data:`ORDER`, the candidate and the person with the smallest distance between
       the candidate's embedding and the mean embedding of the person so far are joined, until either runs out. A
       forehead that is left over begins a person; other leftovers are dropped.
    3. People with fewer than :data:`FEWEST` joints are dropped.

    People are sorted by their summed scores, highest first.
    """
    members = [person for cluster in _clusters(candidates) for person in _people(cluster, candidates, anatomy)]
    members = [person for person in members if len(person) >= FEWEST]
    return sorted(members, key=lambda person: -float(candidates.score[person].sum()))


def _clusters(candidates: Candidates) -> list[np.ndarray]:
    """Indices of the candidates of each cluster."""
    if len(candidates) < 2:
        return [np.arange(len(candidates))] if len(candidates) else []
    size = np.median(np.linalg.norm(candidates.embedding - candidates.place, axis=1))
    tree = linkage(candidates.embedding, method="centroid")
    labels = fcluster(tree, REACH * size, criterion="distance")
    return [np.flatnonzero(labels == label) for label in range(1, labels.max() + 1)]


def _people(cluster: np.ndarray, candidates: Candidates, anatomy: Anatomy) -> list[list[int]]:
    """Split a cluster into people, each a list of candidates."""
    types = candidates.joint[cluster]
    if len(np.unique(types)) == len(types):
        return [cluster.tolist()]
    of_type = {name: cluster[types == index].tolist() for index, name in enumerate(anatomy.joints)}
    people = [[one] for one in of_type["neck"]]
    for kind in ORDER:
        for name in (each for each in anatomy.joints if each.split("_")[-1] == kind):
            left = _join(people, of_type[name], candidates.embedding)
            if name == "forehead":
                people += [[one] for one in left]
    return people


def _join(people: list[list[int]], newcomers: list[int], embedding: np.ndarray) -> list[int]:
    """Give each person at most one of ``newcomers``, nearest pairs first; returns those left over."""
    if not people or not newcomers:
        return newcomers
    centroids = np.array([embedding[person].mean(axis=0) for person in people])
    apart = np.linalg.norm(centroids[:, None] - embedding[newcomers][None], axis=2)
    taken: set[int] = set()
    for _ in range(min(apart.shape)):
        person, newcomer = np.unravel_index(apart.argmin(), apart.shape)
        people[person].append(newcomers[newcomer])
        taken.add(int(newcomer))
        apart[person], apart[:, newcomer] = np.inf, np.inf
    return [one for index, one in enumerate(newcomers) if index not in taken]
