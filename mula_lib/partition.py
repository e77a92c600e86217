"""From joint candidates to people, in the centroid embedding space (Sec. 4.1, after the pose partition networks [16]).

Every candidate comes with an embedding: its position, moved by the regressed offset to its person's centroid. The
embeddings of one person's joints lie together, however much the people overlap.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage

from mula_lib.anatomy import Anatomy
from mula_lib.candidates import Candidates

REACH = 0.8  # clusters farther apart than this share of a person's size (below) are not joined
FEWEST = 4  # joints of a person
SEED = "neck"
ORDER = ("forehead", "shoulder", "hip", "elbow", "knee", "wrist", "ankle")  # of joining seeded people; heads may seed


@dataclass(frozen=True)
class People:
    """Q people of one image."""

    joints: np.ndarray  # (Q, N, 2) float32, (column, row); nan where a person lacks the joint
    scores: np.ndarray  # (Q, N) float32, 0 where a person lacks the joint


def partition(candidates: Candidates, anatomy: Anatomy) -> People:
    """The people whom :func:`share_out` finds, their joints where their candidates are."""
    members = share_out(candidates, anatomy)
    joints = np.full((len(members), len(anatomy.joints), 2), np.nan, np.float32)
    scores = np.zeros((len(members), len(anatomy.joints)), np.float32)
    for index, person in enumerate(members):
        joints[index, candidates.joint[person]] = candidates.place[person]
        scores[index, candidates.joint[person]] = candidates.score[person]
    return People(joints, scores)


def share_out(candidates: Candidates, anatomy: Anatomy) -> list[list[int]]:
    """Share the candidates out to people: the indices of each person's, at most one of each type of joint.

    1. Embeddings are clustered by centroid linkage, cut at :data:`REACH` times the image's typical person size: the
       median distance of a candidate from its own embedding.
    2. A cluster in which no type of joint occurs twice is a person. Any other is split greedily: a person for each
       neck; then, type by type in :data:`ORDER`, the candidate and the person with the smallest distance between
       the candidate's embedding and the mean embedding of the person so far are joined, until either runs out. A
       forehead that is left over begins a person; other leftovers are dropped.
    3. Whoever has fewer than :data:`FEWEST` joints is dropped.

    People come in the order of their summed scores, highest first.
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
    people = [[one] for one in of_type[SEED]]
    for kind in ORDER:
        for name in (each for each in anatomy.joints if each.split("_")[-1] == kind):
            left = _join(people, of_type[name], candidates.embedding)
            if name == "forehead":
                people += [[one] for one in left]
    return people


def _join(people: list[list[int]], newcomers: list[int], embedding: np.ndarray) -> list[int]:
    """Give each person at most one of ``newcomers``, nearest pairs first; returns who is left over."""
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
