"""A network of the size of RobustVideoMatting, to compare speeds with: nothing is downloaded.

The architecture is that of Lin et al., "Robust High-Resolution Video Matting with Temporal
Guidance" (WACV 2022), with MobileNetV3-Large (Howard et al., ICCV 2019) as published: an encoder at
a quarter of the size, a recurrent decoder, and a guided filter for the full size. The weights are
random: the time does not depend on them, and the matte means nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DOWNSAMPLE = 0.25
"""Share of a frame's side that the network sees, as the paper's authors advise for HD."""


class _Bottleneck(NamedTuple):
    kernel: int
    inner: int
    channels: int
    squeezes: bool
    hard: bool
    stride: int
    dilation: int


_BOTTLENECKS = (
    _Bottleneck(3, 16, 16, False, False, 1, 1),
    _Bottleneck(3, 64, 24, False, False, 2, 1),
    _Bottleneck(3, 72, 24, False, False, 1, 1),
    _Bottleneck(5, 72, 40, True, False, 2, 1),
    _Bottleneck(5, 120, 40, True, False, 1, 1),
    _Bottleneck(5, 120, 40, True, False, 1, 1),
    _Bottleneck(3, 240, 80, False, True, 2, 1),
    _Bottleneck(3, 200, 80, False, True, 1, 1),
    _Bottleneck(3, 184, 80, False, True, 1, 1),
    _Bottleneck(3, 184, 80, False, True, 1, 1),
    _Bottleneck(3, 480, 112, True, True, 1, 1),
    _Bottleneck(3, 672, 112, True, True, 1, 1),
    _Bottleneck(5, 672, 160, True, True, 1, 2),
    _Bottleneck(5, 960, 160, True, True, 1, 2),
    _Bottleneck(5, 960, 160, True, True, 1, 2),
)
_TAPS = (1, 3, 6)
"""Bottlenecks after which the decoder's shortcuts leave, at 1/2, 1/4 and 1/8."""
_LAST = 960
_CONTEXT = 128
_DECODER = (80, 40, 32, 16)


def _conv(inner: int, outer: int, kernel: int = 3, **options: int) -> nn.Sequential:
    padding = kernel // 2 * options.get("dilation", 1)
    # Batch normalisation is folded into the convolution, as for use.
    return nn.Sequential(nn.Conv2d(inner, outer, kernel, padding=padding, **options), nn.ReLU())


class _Squeeze(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        few = max(8, channels // 4 // 8 * 8)
        self.layers = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, few, 1),
            nn.ReLU(),
            nn.Conv2d(few, channels, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.layers(x)


class _InvertedResidual(nn.Module):
    def __init__(self, before: int, shape: _Bottleneck) -> None:
        super().__init__()
        activation = nn.Hardswish if shape.hard else nn.ReLU
        padding = shape.kernel // 2 * shape.dilation
        layers: list[nn.Module] = []
        if shape.inner != before:
            layers += [nn.Conv2d(before, shape.inner, 1), activation()]
        layers += [
            nn.Conv2d(
                shape.inner,
                shape.inner,
                shape.kernel,
                shape.stride,
                padding,
                shape.dilation,
                shape.inner,
            ),
            activation(),
        ]
        if shape.squeezes:
            layers.append(_Squeeze(shape.inner))
        layers.append(nn.Conv2d(shape.inner, shape.channels, 1))
        self.layers = nn.Sequential(*layers)
        self.adds = shape.stride == 1 and before == shape.channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return x + y if self.adds else y


class _Recurrent(nn.Module):
    """A convolutional GRU on the second half of the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.gates = nn.Conv2d(2 * half, 2 * half, 3, padding=1)
        self.candidate = nn.Conv2d(2 * half, half, 3, padding=1)
        self.state: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        kept, y = x.chunk(2, 1)
        state = torch.zeros_like(y) if self.state is None else self.state
        reset, update = self.gates(torch.cat([y, state], 1)).sigmoid().chunk(2, 1)
        candidate = self.candidate(torch.cat([y, reset * state], 1)).tanh()
        self.state = (1 - update) * state + update * candidate
        return torch.cat([kept, self.state], 1)


class ReferenceNetwork(nn.Module):
    """Mattes frames one after the other, with a state."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.Hardswish())
        before = (16, *(shape.channels for shape in _BOTTLENECKS))
        self.blocks = nn.ModuleList(
            _InvertedResidual(channels, shape)
            for channels, shape in zip(before, _BOTTLENECKS, strict=False)
        )
        self.last = nn.Sequential(nn.Conv2d(160, _LAST, 1), nn.Hardswish())
        self.context = _conv(_LAST, _CONTEXT, 1)
        self.scale = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(_LAST, _CONTEXT, 1))
        shortcuts = (40, 24, 16, 3)
        inputs = (_CONTEXT, *_DECODER[:3])
        self.memories = nn.ModuleList(map(_Recurrent, (_CONTEXT, *_DECODER[:3])))
        self.ups = nn.ModuleList(
            _conv(channels + shortcut + 3 * (number < 3), outer)
            for number, (channels, shortcut, outer) in enumerate(
                zip(inputs, shortcuts, _DECODER, strict=True)
            )
        )
        self.leave = _conv(_DECODER[-1], _DECODER[-1])
        self.project = nn.Conv2d(_DECODER[-1], 4, 1)
        self.filter = nn.Sequential(
            nn.Conv2d(24, 16, 1), nn.ReLU(), nn.Conv2d(16, 16, 1), nn.ReLU(), nn.Conv2d(16, 4, 1)
        )

    def forward(self, rgb: Tensor) -> Tensor:
        """Return foreground and alpha (1, 4, H, W) of a frame (1, 3, H, W) 0-1."""
        small = F.interpolate(
            rgb, scale_factor=DOWNSAMPLE, mode="bilinear", recompute_scale_factor=False
        )
        x = self.stem(small)
        maps = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number + 1 in _TAPS:
                maps.append(x)
        # The first bottleneck's map is at 1/2, that of the third at 1/4, that of the sixth at 1/8.
        half, quarter, eighth = maps
        x = self.last(x)
        x = self.context(x) * self.scale(x).sigmoid()
        for up, memory, shortcut in zip(
            self.ups, self.memories, (eighth, quarter, half, small), strict=True
        ):
            x = F.interpolate(memory(x), size=shortcut.shape[-2:], mode="bilinear")
            seen = [x, shortcut]
            if shortcut is not small:
                seen.append(F.adaptive_avg_pool2d(small, shortcut.shape[-2:]))
            x = up(torch.cat(seen, 1))
        x = self.leave(x)
        return self._at_full_size(rgb, small, x, self.project(x))

    def _at_full_size(self, rgb: Tensor, small: Tensor, hidden: Tensor, found: Tensor) -> Tensor:
        """Apply the deep guided filter of the paper."""
        fine = torch.cat([rgb, rgb.mean(1, keepdim=True)], 1)
        coarse = torch.cat([small, small.mean(1, keepdim=True)], 1)
        mean_x = F.avg_pool2d(coarse, 3, 1, 1)
        mean_y = F.avg_pool2d(found, 3, 1, 1)
        joint = F.avg_pool2d(coarse * found, 3, 1, 1) - mean_x * mean_y
        variance = F.avg_pool2d(coarse * coarse, 3, 1, 1) - mean_x * mean_x
        a = self.filter(torch.cat([joint, variance, hidden], 1))
        b = mean_y - a * mean_x
        size = rgb.shape[-2:]
        return F.interpolate(a, size=size, mode="bilinear") * fine + F.interpolate(
            b, size=size, mode="bilinear"
        )
