"""The renderer's shortcuts change nothing: each against the plain way."""

from __future__ import annotations

import os

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("body_cache")


def test_normals_of_some_vertices_are_those_of_all():
    from rendered_people.body import body_model, vertex_normals

    model = body_model()
    wanted = np.zeros(len(model.rest), bool)
    wanted[100:400:7] = True
    full = vertex_normals(model.rest, model.faces)
    np.testing.assert_array_equal(vertex_normals(model.rest, model.faces, wanted)[wanted], full[wanted])
    np.testing.assert_allclose(np.linalg.norm(full, axis=1), 1, atol=1e-5)


def test_a_posed_bone_follows_its_parents():
    from rendered_people.body import body_model
    from rendered_people.poses import about, rotations, sample_pose

    model, rng = body_model(), np.random.default_rng(5)
    shape = model.sample_shape(rng)
    local = rotations(sample_pose(rng), model, shape)
    found = model.pose(shape.bones, local)
    names = {index: name for name, index in model.bone.items()}
    maps = []
    for index, parent in enumerate(model.parents):  # one bone after the other, as 4 x 4 matrices
        turn, about_head = np.eye(4), np.eye(4)
        turn[:3, :3] = local.get(names[index], np.eye(3))
        about_head[:3, 3] = shape.bones[index]
        maps.append((np.eye(4) if parent < 0 else maps[parent]) @ about_head @ turn @ np.linalg.inv(about_head))
    np.testing.assert_allclose(found, np.array(maps)[:, :3], atol=1e-5)
    axis = np.array([1.0, 2.0, -2.0])
    np.testing.assert_allclose(about(axis, 60) @ axis, axis)
    np.testing.assert_allclose(np.trace(about(axis, 60)), 2)


def test_rendering_leaves_the_process_its_cores():
    from rendered_people import render

    before = os.sched_getaffinity(0)
    render._device.__wrapped__()
    assert os.sched_getaffinity(0) == before
