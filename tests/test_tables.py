"""The tables have the paper's rows and numbers, typed here a second time."""

import pytest

from mula_lib.files import ConfigError
from workbook.experiments import EXPERIMENTS, find_experiment
from workbook.tables import TABLES, table_experiments, table_rows


def test_the_tables_have_the_papers_rows_and_numbers():
    assert [row.name for row in table_rows(1)] == [
        "VGG16-FCN", "VGG16-FCN-Add", "VGG16-FCN-Multi", "VGG16-FCN-Concat", "VGG16-FCN-MTL", "VGG16-FCN-Self",
        "VGG16-FCN-LA-Pose", "VGG16-FCN-LA-Parsing", "VGG16-FCN-MuLA",
    ]  # fmt: skip
    assert [(row.paper["PCK"], row.paper["mIoU"]) for row in table_rows(2)] == [
        (78.8, 38.5), (82.2, 43.5), (80.8, 41.3), (82.8, 45.5), (83.1, 45.6), (84.4, 46.9), (85.0, 47.8),
        (85.1, 48.9), (85.4, 49.3),
    ]  # fmt: skip
    slugs = [row.slug for row in EXPERIMENTS]
    assert len(set(slugs)) == len(slugs) == 46
    assert [(row.name, row.paper) for row in table_rows(5)] == [
        ("Chen and Yuille [6]", {"mAP": 21.8}), ("Insafutdinov et al. [11]", {"mAP": 28.6}),
        ("Xia et at. [24]", {"mAP": 39.2}), ("Our baseline (w/o MuLA)", {"mAP": 38.6}), ("Our model", {"mAP": 39.9}),
        ("HG-2×1u", {}), ("HG-2s-1u-MuLA", {}),
    ]  # fmt: skip
    assert [row.paper.get("mIoU") for row in table_rows(6)] == [59.4, 62.4, 64.4, 62.9, 65.1, None, None]
    ours = ["HG-5×1u", "HG-5s-1u-MuLA", "HG-2×1u", "HG-2s-1u-MuLA"]
    assert [each.name for each in table_experiments(5)] == ours
    assert [each.name for each in table_experiments(6)] == ["Attention+SSL", "SS-NAN", "Pose-guided refinement", *ours]
    assert [(row.name, row.paper.get("PCK")) for row in table_rows(3)][:5] == [
        ("Hybrid Pose Machine", 77.2), ("BUPTMM-POSE", 80.2), ("Pyramid Stream Network", 82.1),
        ("Chou et al. [7]", 87.4), ("Our model", 87.5),
    ]  # fmt: skip
    parsing = ("PixelAcc", "MeanAcc", "mIoU")
    assert [(row.name, *(row.paper[name] for name in parsing)) for row in table_rows(4)[:7]] == [
        ("SegNet [1]", 69.0, 24.0, 18.2), ("FCN-8s [13]", 76.1, 36.8, 28.3), ("DeepLabV2 [4]", 82.7, 51.6, 41.6),
        ("Attention [5]", 83.4, 54.4, 42.9), ("Attention+SSL [10]", 84.4, 54.9, 44.7),
        ("SS-NAN [28]", 87.6, 56.0, 47.9), ("Our model", 88.5, 60.5, 49.3),
    ]  # fmt: skip
    for table in TABLES:
        rows = {row.name: row for row in table_rows(table)}
        assert all(rows[row.baseline].experiment is not None for row in rows.values())
        for row in rows.values():  # a row that is only quoted says why, and one of ours says so
            assert row.experiment is not None or row.note.startswith("quoted: ")
            assert row.paper or row.note
    assert find_experiment("HG-2×1u").slug == "hg-2x1u"
    with pytest.raises(ConfigError, match="VGG16-FCN-MuLA"):
        find_experiment("VGG-MuLA")
