"""The authors' checkpoints: converted networks against a forward pass written from the description of theirs alone."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mula_lib.anatomy import LIP
from mula_lib.checkpoint import load_model, read_facts
from mula_lib.data.targets import gaussian_heatmaps, heatmap_sigma
from mula_lib.files import CheckpointError
from mula_lib.inference import Testing, predict_maps
from mula_lib.models.losses import Targets
from mula_lib.models.network import build_model
from mula_lib.models.released import JOINTS, convert, convert_file, load_official, main, released_config

PREFIX = "module.front_end_net."
# from LIP's order: channel k of their maps is LIP's joint ORDER[k]
ORDER = [9, 8, 12, 11, 10, 13, 14, 15, 2, 1, 0, 3, 4, 5, 7, 6]
VGG_LAYERS = {
    0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256), 12: (256, 256), 14: (256, 256),
    17: (256, 512), 19: (512, 512), 21: (512, 512), 23: (512, 512), 25: (512, 512), 27: (512, 512),
}  # fmt: skip


class Random:
    """Random tensors by the authors' names, sized so that activations neither vanish nor explode."""

    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)
        self.state = {}

    def conv(self, name, inputs, outputs, size, bias=True):
        spread = (2 / (inputs * size**2)) ** 0.5
        self.state[f"{name}.weight"] = torch.randn(outputs, inputs, size, size, generator=self.generator) * spread
        if bias:
            self.state[f"{name}.bias"] = torch.randn(outputs, generator=self.generator) * 0.1

    def norm(self, name, channels):
        for key, low, high in (("weight", 0.5, 1.5), ("bias", -0.2, 0.2), ("running_mean", -0.2, 0.2),
                               ("running_var", 0.5, 1.5)):  # fmt: skip
            self.state[f"{name}.{key}"] = torch.rand(channels, generator=self.generator) * (high - low) + low

    def pre_activation(self, name, inputs, outputs):
        half = outputs // 2
        self.norm(f"{name}.conv1x1.0", inputs)  # there, used or not
        self.conv(f"{name}.conv1x1.2", inputs, outputs, 1, bias=False)
        for index, (before, after, size) in {0: (inputs, half, 1), 3: (half, half, 3), 6: (half, outputs, 1)}.items():
            self.norm(f"{name}.res_block.{index}", before)
            self.conv(f"{name}.res_block.{index + 2}", before, after, size, bias=False)


def hourglass_state(stages, seed=0, width=256):
    """A state dict of their hourglass network, by their names."""
    made = Random(seed)
    for task, maps in (("pose", 17), ("parsing", 20)):
        encoder = f"{task}_encoder"
        made.conv(f"{encoder}.basic_block.0", 3, 64, 7)
        made.norm(f"{encoder}.basic_block.1", 64)
        block = f"{encoder}.basic_block.3"
        made.conv(f"{block}.conv1x1.0", 64, 128, 1, bias=False)
        made.norm(f"{block}.conv1x1.1", 128)
        for index, (before, after, size) in {0: (64, 64, 1), 3: (64, 64, 3), 6: (64, 128, 1)}.items():
            made.conv(f"{block}.res_block.{index}", before, after, size, bias=False)
            made.norm(f"{block}.res_block.{index + 1}", after)
        for index, (before, after, size) in {0: (128, 64, 1), 3: (64, 64, 3), 6: (64, 128, 1)}.items():
            made.conv(f"{encoder}.res_block.{index}", before, after, size, bias=False)
            if index < 6:
                made.norm(f"{encoder}.res_block.{index + 1}", after)
        made.pre_activation(f"{encoder}.res_pre_act", 128, width)
        for t in range(stages):
            for k in range(1, 10):
                made.pre_activation(f"{encoder}.hg_list.{t}.srb{k}.0", width, width)
            made.norm(f"{encoder}.hg_list.{t}.bn", width)
            made.conv(f"{encoder}.conv1x1_1_list.{t}", width, width, 1)
            made.norm(f"{encoder}.bn.{t}", width)
            made.conv(f"{encoder}.conv_pred_list.{t}", width, maps, 1)
            for key in ("weight", "bias"):
                made.state[f"{task}_classifier.{t}.{key}"] = made.state[f"{encoder}.conv_pred_list.{t}.{key}"]
            if t + 1 < stages:
                made.conv(f"{encoder}.conv1x1_2_list.{t}", width, width, 1)
                made.conv(f"{encoder}.conv_remap_list.{t}", maps, width, 1)
            for index in (0, 2, 4):
                made.conv(f"{task}_param_adapter_list.{t}.{index}", width, width, 3)
            made.conv(f"{task}_conv1x1_U_list.{t}", width, width, 1)
            made.conv(f"{task}_conv1x1_V_list.{t}", width, width, 1)
            made.norm(f"{task}_bn_list.{t}", width)
    return made.state


def vgg_state(seed=0):
    """A state dict of their VGG network, by their names."""
    made = Random(seed)
    for task, maps in (("pose", 17), ("parsing", 20)):
        for index, (before, after) in VGG_LAYERS.items():
            made.conv(f"{task}_encoder.model.{index}", before, after, 3)
        made.conv(f"{task}_classifier", 512, maps, 1)
        for index in (0, 2, 4):
            made.conv(f"{task}_param_adapter.{index}", 512, 512, 3)
        made.conv(f"{task}_conv1x1_U", 512, 512, 1)
        made.conv(f"{task}_conv1x1_V", 512, 512, 1)
        made.norm(f"{task}_bn", 512)  # there and unused
    return made.state


class Described:
    """Their forward pass as functions of a state dict."""

    def __init__(self, state):
        self.state = state

    def conv(self, x, name, **how):
        return F.conv2d(x, self.state[f"{name}.weight"], self.state.get(f"{name}.bias"), **how)

    def norm(self, x, name):
        names = "weight", "bias", "running_mean", "running_var"
        weight, bias, mean, var = (self.state[f"{name}.{each}"][:, None, None] for each in names)
        return (x - mean) / torch.sqrt(var + 1e-5) * weight + bias

    def pre_activation(self, x, name, *, projected=False):
        y = x
        for index, padding in ((0, 0), (3, 1), (6, 0)):
            y = self.norm(y, f"{name}.res_block.{index}").relu()
            y = self.conv(y, f"{name}.res_block.{index + 2}", padding=padding)
        return y + (self.conv(self.norm(x, f"{name}.conv1x1.0").relu(), f"{name}.conv1x1.2") if projected else x)

    def stem(self, x, encoder):
        x = self.norm(self.conv(x, f"{encoder}.basic_block.0", stride=2, padding=3), f"{encoder}.basic_block.1").relu()
        block, y = f"{encoder}.basic_block.3", x
        for index, padding in ((0, 0), (3, 1), (6, 0)):
            y = self.norm(self.conv(y, f"{block}.res_block.{index}", padding=padding), f"{block}.res_block.{index + 1}")
            y = y.relu() if index < 6 else y
        x = (y + self.norm(self.conv(x, f"{block}.conv1x1.0"), f"{block}.conv1x1.1")).relu()
        x = F.max_pool2d(x, 2)
        y = self.norm(self.conv(x, f"{encoder}.res_block.0"), f"{encoder}.res_block.1").relu()
        y = self.norm(self.conv(y, f"{encoder}.res_block.3", padding=1), f"{encoder}.res_block.4").relu()
        x = x + self.conv(y, f"{encoder}.res_block.6")
        return self.pre_activation(x, f"{encoder}.res_pre_act", projected=True)

    def hourglass(self, x, name):
        kept = []
        for k in range(1, 5):
            x = self.pre_activation(x, f"{name}.srb{k}.0")
            kept.append(x)
            x = F.max_pool2d(x, 2)
        x = self.pre_activation(x, f"{name}.srb5.0")
        for k in range(6, 10):
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True) + kept.pop()
            x = self.pre_activation(x, f"{name}.srb{k}.0")
        return self.norm(x, f"{name}.bn").relu()

    def kernels(self, other, name):
        x = F.max_pool2d(self.conv(other, f"{name}.0", stride=2), 2)
        x = F.max_pool2d(self.conv(x, f"{name}.2", padding=1), 2)
        return self.conv(x, f"{name}.4", padding=1)

    def depthwise(self, x, kernels):
        padding, groups = kernels.shape[-1] // 2, x.shape[1]
        pairs = zip(x.split(1), kernels, strict=True)
        return torch.cat([F.conv2d(one, kernel[:, None], padding=padding, groups=groups) for one, kernel in pairs])

    def hourglass_network(self, image, stages):
        tasks, other = ("pose", "parsing"), {"pose": "parsing", "parsing": "pose"}
        f = {task: self.stem(image, f"{task}_encoder") for task in tasks}
        outputs = []
        for t in range(stages):
            r, predicted = {}, {}
            for task in tasks:
                y = self.hourglass(f[task], f"{task}_encoder.hg_list.{t}")
                y = self.conv(y, f"{task}_encoder.conv1x1_1_list.{t}")
                r[task] = self.norm(y, f"{task}_encoder.bn.{t}").relu()
            for task in tasks:
                kernels = self.kernels(r[other[task]], f"{task}_param_adapter_list.{t}")
                y = self.depthwise(self.conv(r[task], f"{task}_conv1x1_U_list.{t}"), kernels)
                y = self.norm(self.conv(y, f"{task}_conv1x1_V_list.{t}"), f"{task}_bn_list.{t}").relu()
                predicted[task] = self.conv(r[task] + y, f"{task}_classifier.{t}")
            outputs.append(predicted)
            if t + 1 < stages:
                for task in tasks:
                    own = self.conv(r[task], f"{task}_encoder.conv1x1_2_list.{t}")
                    f[task] = f[task] + own + self.conv(predicted[task], f"{task}_encoder.conv_remap_list.{t}")
        return outputs

    def vgg_network(self, image):
        r = {}
        for task in ("pose", "parsing"):
            x = image
            for index in VGG_LAYERS:
                x = F.max_pool2d(x, 2) if index in (5, 10, 17) else x
                x = self.conv(x, f"{task}_encoder.model.{index}", padding=1).relu()
            r[task] = x
        predicted = {}
        for task, other in (("pose", "parsing"), ("parsing", "pose")):
            kernels = self.kernels(r[other], f"{task}_param_adapter")
            y = self.depthwise(self.conv(r[task], f"{task}_conv1x1_U"), kernels)
            y = self.conv(y, f"{task}_conv1x1_V").relu()
            predicted[task] = self.conv(r[task] + y, f"{task}_classifier")
        return [predicted]


def prefixed(state):
    return {PREFIX + name: value for name, value in state.items()}


def pictures(count):
    """RGB pictures of 256×256 as this library takes them, and as the authors' network does: BGR, -0.5 to 0.5."""
    rgb = torch.randint(0, 256, (count, 3, 256, 256), dtype=torch.uint8, generator=torch.Generator().manual_seed(7))
    return rgb, rgb.flip(1).float() / 255 - 0.5


def assert_same(stage, described):
    scale = max(described["pose"].abs().max(), described["parsing"].abs().max())
    assert scale > 0.1
    torch.testing.assert_close(stage.parsing, described["parsing"], atol=1e-5 * float(scale), rtol=1e-5)
    torch.testing.assert_close(stage.pose[:, ORDER], described["pose"][:, :16], atol=1e-5 * float(scale), rtol=1e-5)
    torch.testing.assert_close(stage.pose[:, 16], described["pose"][:, 16], atol=1e-5 * float(scale), rtol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("trunk", ["hourglass", "vgg"])
def test_a_converted_network_computes_what_theirs_does(trunk):
    state = hourglass_state(stages=2) if trunk == "hourglass" else vgg_state()
    rgb, theirs = pictures(1 if trunk == "hourglass" else 2)
    described = Described(state)
    expected = described.hourglass_network(theirs, stages=2) if trunk == "hourglass" else described.vgg_network(theirs)
    for stage, theirs in zip(convert(prefixed(state))(rgb), expected, strict=True):
        assert_same(stage, theirs)


@pytest.fixture(scope="module")
def state():
    return hourglass_state(stages=1)


def test_the_joints_are_those_of_lip_in_the_order_of_the_checkpoints():
    assert [LIP.joint(name) for name in JOINTS] == ORDER


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.update({"pose_extra.weight": torch.zeros(1)}), r".*Unexpected key.*pose_extra\.weight"),
        (lambda state: state.pop("pose_encoder.bn.0.weight"), r".*Missing key.*pose\.encoder\.0\.layers\.2\.weight"),
        (
            lambda state: state.update({"pose_conv1x1_V_list.0.weight": torch.zeros(256, 256, 3, 3)}),
            r".*size mismatch for interaction\.0\.to_pose\.dynamic\.U\.weight",
        ),
    ],
)
def test_another_state_dict_is_refused_by_the_names_of_its_keys(state, change, said):
    changed = dict(state)
    change(changed)
    with pytest.raises(CheckpointError, match=f"a.pth.tar: not the authors' network: {said}"):
        convert(changed, "a.pth.tar")


def test_a_state_dict_of_something_else_is_refused():
    with pytest.raises(CheckpointError, match=r"neither the authors' VGG nor their hourglass network.*conv1\.weight"):
        convert({"conv1.weight": torch.zeros(1)})


def test_dead_weights_and_counters_change_nothing(state):
    changed = dict(state)
    changed["pose_encoder.hg_list.0.srb1.0.conv1x1.2.weight"] = torch.full((256, 256, 1, 1), 9.0)
    changed["pose_encoder.hg_list.0.bn.num_batches_tracked"] = torch.tensor(3)
    expected, found = (convert(each).state_dict() for each in (state, changed))
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize("zipped", [True, False])  # as PyTorch saves today, and as it did in 2018
def test_a_whole_file_is_converted_and_its_scores_passed_over(state, tmp_path, capsys, zipped):
    file, out = tmp_path / "mula.pth.tar", tmp_path / "mula.safetensors"
    scores = {"best_pck": np.float64(85.4), "pck_avg_list": [np.float64(1.0)], "pck_all_list": [np.ones((1, 18))]}
    content = {"epoch": 250, "state_dict": prefixed(state), "best_miou": np.float32(49.3), **scores}
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    assert main(["convert", str(file), str(out)]) == 0
    assert capsys.readouterr().out == f"{out}: hourglass, 1 stages, 256 channels\n"
    config, facts = read_facts(out)
    assert config == released_config("hourglass", 1)
    assert facts["experiment"] == "HG-1s-1u-MuLA"
    assert facts["converted_from"]["file"] == "mula.pth.tar"
    expected = convert(state).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in load_model(out).state_dict().items())


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_not_run(tmp_path, zipped):
    file = tmp_path / "evil.pth.tar"
    torch.save({"state_dict": {}, "best_pck": Bomb(tmp_path / "ran")}, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"evil.pth.tar: cannot be read safely"):
        load_official(file)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", pickle.dumps([1, 2], protocol=2)])
def test_a_broken_file_is_one_line(tmp_path, complaint, content):
    file = tmp_path / "broken.pth.tar"
    file.write_bytes(content)
    assert f"error: {file}: " in complaint(main(["convert", str(file), str(tmp_path / "out.safetensors")]))
    assert not (tmp_path / "out.safetensors").exists()


def test_a_file_without_tensors_or_no_file_is_refused(tmp_path):
    torch.save({"state_dict": {"a": 1}}, tmp_path / "a.pth.tar")
    with pytest.raises(CheckpointError, match="no dictionary of tensors under 'state_dict'"):
        load_official(tmp_path / "a.pth.tar")
    with pytest.raises(CheckpointError, match="no such file"):
        convert_file(tmp_path / "b.pth.tar", tmp_path / "b.safetensors")


@pytest.fixture(scope="module")
def tiny():
    return build_model(replace(released_config("hourglass", 2), width=16), 0).eval()


@torch.inference_mode()
def test_logits_are_enlarged_corner_to_corner_and_the_background_map_is_left_out(tiny):
    photo = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    maps = predict_maps(tiny, [photo], 64, Testing(scales=(1.0,), mirror=False), LIP)
    stage = tiny(torch.from_numpy(photo).permute(2, 0, 1)[None])[-1]
    enlarged = F.interpolate(stage.parsing, size=(64, 64), mode="bilinear", align_corners=True)
    torch.testing.assert_close(maps.parts, enlarged.softmax(dim=1), atol=1e-5, rtol=0)
    mirrored = predict_maps(tiny, [photo], 64, Testing(scales=(0.8, 1.0), mirror=True), LIP)
    assert maps.joints.shape == mirrored.joints.shape == (1, 16, 64, 64)


def test_the_loss_compares_enlarged_corners_and_a_map_of_the_background(tiny):
    generator = torch.Generator().manual_seed(0)
    batch = {
        "image": torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=generator),
        "mask": torch.randint(0, 20, (2, 64, 64), dtype=torch.uint8, generator=generator),
        "joints": torch.rand(2, 16, 2, generator=generator) * 63,
        "present": torch.rand(2, 16, generator=generator) > 0.3,
    }
    outputs = tiny(batch["image"])
    heatmaps = gaussian_heatmaps(batch["joints"], batch["present"], grid=(16, 16), stride=4, sigma=heatmap_sigma(64, 4))
    targets = torch.cat([heatmaps, 1 - heatmaps.max(dim=1, keepdim=True).values], dim=1)
    expected = 0.0
    for stage in outputs:
        enlarged = F.interpolate(stage.parsing, size=(64, 64), mode="bilinear", align_corners=True)
        expected += F.cross_entropy(enlarged, batch["mask"].long()) + 100 * (stage.pose - targets).square().mean()
    torch.testing.assert_close(tiny.loss(outputs, Targets(batch, 100.0)), expected)
