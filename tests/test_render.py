"""The renderer's shortcuts change nothing: each against the plain way."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("body_cache")


def test_a_mesh_is_the_same_however_it_is_handed_over():
    from embreex.mesh_construction import TriangleMesh
    from embreex.rtcore_scene import EmbreeScene

    from rendered_people import render

    rng = np.random.default_rng(0)
    vertices = rng.normal(size=(60, 3)).astype(np.float32) + np.float32([0, 0, 5])
    faces = rng.integers(0, 60, (80, 3))
    directions = np.column_stack([rng.normal(0, 0.2, (300, 2)), np.ones(300)]).astype(np.float32)
    hits = []
    for hand_over in (render._mesh, lambda *mesh: TriangleMesh(*mesh[:2], mesh[2].astype(np.int32))):
        scene = EmbreeScene(render._device())
        mesh = hand_over(scene, vertices, faces)
        hits.append(scene.run(np.zeros_like(directions), directions, output=True))
        del mesh
    assert (hits[0]["primID"] >= 0).sum() > 100
    for name in ("primID", "tfar", "u", "v"):
        np.testing.assert_array_equal(hits[0][name], hits[1][name])


def test_a_release_that_wants_arrays_gets_arrays(monkeypatch):
    from rendered_people import render

    def typed(scene, vertices, faces):
        if faces.dtype != np.int32:
            raise ValueError("Buffer dtype mismatch")
        return faces

    monkeypatch.setattr(render, "TriangleMesh", typed)
    faces = np.array([[0, 1, 2], [2, 1, 3]])
    np.testing.assert_array_equal(render._mesh(None, np.zeros((4, 3), np.float32), faces), faces)


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


def test_rendering_leaves_the_process_its_processors():
    from mula_lib.files import usable_cores
    from rendered_people import render

    before = usable_cores()
    render._device.cache_clear()
    render._device()
    assert usable_cores() == before


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path, monkeypatch):
    from rendered_people import tree

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tree.os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        tree.write_quickly(tmp_path / "mask.png", b"content")
    assert list(tmp_path.iterdir()) == []
