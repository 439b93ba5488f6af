"""VITMATTE: image and trimap to alpha, by ViTMatte from transformers or, where that is not here, the embedded network.

ViTMatte (Yao et al., Information Fusion 2024, arXiv 2305.15272) is a vision transformer with a detail decoder. Nothing
here knows where a trimap comes from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidmatte.errors import ModelError
from vidmatte.model.compact.inference import Expectation, WindowLabels, coarse_matte
from vidmatte.model.compact.predictor import CompactModel, CompactPredictor
from vidmatte.model.compact.window import crop_alpha, window_around
from vidmatte.model.memory import memory_errors
from vidmatte.model.pretrained import Pretrained, load_pretrained, read_json

FILES = ("config.json", "preprocessor_config.json", "model.safetensors")
"""What a folder of a ViTMatte holds."""
_STRIDE = 32
_TILE = 1024
"""Longest side, in pixels, of what the network sees at once; its attention grows with the fourth power of it."""
_OVERLAP = 192
"""Of neighbouring tiles, in pixels, over which one fades into the other."""
_CONTEXT = 64
"""Known pixels around the unknown ones that the network sees as well."""
_REVISIONS = 2
_VITMATTE = Pretrained(
    "ViTMatte", "VitMatteConfig", "VitMatteForImageMatting", "vitmatte", "vitmatte"
)

Box: TypeAlias = tuple[int, int, int, int]
"""Top, bottom, left, right."""


@dataclass(frozen=True)
class VitMatte:
    """A loaded ViTMatte: call it with an image and a trimap.

    Images of any size take bounded memory: only the surroundings of what is unknown are looked at, and where these are
    larger than a tile (1024 pixels) in tiles that overlap and fade into each other. A tile in which no object or no
    background is known is seen within twice the region at half the resolution, and so on, until both are in sight.
    """

    net: nn.Module
    """(N, 4, h, w) to an object with `alphas` (N, 1, h, w), for sides that are multiples of 32."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    """Of the colours that the network was trained with."""
    device: torch.device
    precision: torch.dtype = torch.float32
    tile: int = _TILE

    @classmethod
    def from_folder(
        cls, folder: Path, *, device: torch.device, precision: torch.dtype = torch.float32
    ) -> VitMatte:
        """Load the files `FILES` of a folder, from this machine alone.

        Raises ModelError when they are missing, damaged or of another network, MissingExtraError without transformers.
        """
        for name in FILES:
            if not (folder / name).is_file():
                raise ModelError(
                    f"{folder}: has no {name}; a ViTMatte is a folder with {', '.join(FILES)}"
                )
        colours = read_json(folder / "preprocessor_config.json")
        net = _load_net(folder).to(device)
        return cls(
            net,
            mean=_three(colours, "image_mean", folder),
            std=_three(colours, "image_std", folder),
            device=device,
            precision=precision,
        )

    def __call__(self, rgb: Tensor, trimap: Tensor) -> Tensor:
        """Alpha of images.

        Args:
            rgb: (N, 3, H, W) 0..1, display-referred.
            trimap: (N, 1, H, W) 1 object, 0 background, anything between is unknown.

        Returns:
            (N, 1, H, W) float32 0..1 on the device of `rgb`; the trimap's own 0 and 1 where it has them.

        Raises:
            ModelError: memory ran out.
        """
        _check(rgb, trimap)
        planes = [
            self._matte(image, known[0])
            for image, known in zip(rgb.float(), trimap.float(), strict=True)
        ]
        return torch.stack(planes)[:, None]

    def _matte(self, rgb: Tensor, trimap: Tensor) -> Tensor:
        """One image (3, H, W) with its trimap (H, W)."""
        unknown = (trimap > 0) & (trimap < 1)
        if not unknown.any():
            return trimap
        total, weight = torch.zeros_like(trimap), torch.zeros_like(trimap)
        for box in _tiles(_around(unknown), self.tile):
            inside = _slices(box)
            if unknown[inside].any():
                share = _fade(box, trimap)
                total[inside] += share * self._look(rgb, trimap, box)
                weight[inside] += share
        return torch.where(unknown, total / weight.clamp(min=1e-4), trimap)

    def _look(self, rgb: Tensor, trimap: Tensor, box: Box) -> Tensor:
        """Alpha of a box, seen in a region around it that holds known object and known background, if there is one."""
        region, picture = box, self._picture(rgb, trimap, box)
        while not _tells_both(picture[:, 3]):
            larger = _twice(region, trimap.shape)
            if larger == region:
                # There is none in all of the image: then nothing is won by seeing less of the detail.
                region, picture = box, self._picture(rgb, trimap, box)
                break
            region, picture = larger, self._picture(rgb, trimap, larger)
        alpha = self._run(picture)
        size = region[1] - region[0], region[3] - region[2]
        if alpha.shape[-2:] != size:
            alpha = F.interpolate(alpha, size=size, mode="bilinear", align_corners=False)
        top, left = box[0] - region[0], box[2] - region[2]
        return alpha[0, 0, top : top + box[1] - box[0], left : left + box[3] - box[2]].to(
            rgb.device
        )

    def _picture(self, rgb: Tensor, trimap: Tensor, region: Box) -> Tensor:
        """(1, 4, h, w) colours and trimap of a region, at the size of a tile at most."""
        inside = _slices(region)
        picture = torch.cat([rgb[(slice(None), *inside)], trimap[(None, *inside)]])[None].to(
            self.device
        )
        scale = self.tile / max(picture.shape[-2:])
        if scale < 1:
            smaller = [max(1, round(side * scale)) for side in picture.shape[-2:]]
            picture = F.interpolate(picture, size=smaller, mode="bilinear", antialias=True)
            # What is known stays so only where all of it is.
            known = picture[:, 3:]
            picture[:, 3:] = 0.5 * ((known > 1e-4).float() + (known > 1 - 1e-4).float())
        return picture

    def _run(self, picture: Tensor) -> Tensor:
        """Alpha (1, 1, h, w) of a picture, by one pass of the network."""
        height, width = picture.shape[-2:]
        mean, std = (
            torch.tensor(values, device=self.device)[None, :, None, None]
            for values in (self.mean, self.std)
        )
        picture = torch.cat([(picture[:, :3] - mean) / std, picture[:, 3:]], 1)
        # Zeros after normalisation, on the right and below, as in training.
        picture = F.pad(picture, (0, -width % _STRIDE, 0, -height % _STRIDE))
        with self._inference(f"ViTMatte on {width}x{height} pixels"):
            alpha: Tensor = self.net(picture).alphas.float()[..., :height, :width]
        return alpha

    @contextmanager
    def _inference(self, what: str) -> Iterator[None]:
        autocast = torch.autocast(
            self.device.type, self.precision, enabled=self.precision != torch.float32
        )
        with memory_errors(what), torch.inference_mode(), autocast:
            yield


def finish_with_compact(model: CompactModel, rgb: Tensor, trimap: Tensor) -> Tensor:
    """Alpha of images from the embedded network, for where there is no ViTMatte: `VitMatte.__call__`'s arguments.

    The trimap's known areas are the marks of the image, which is its own reference, seen in a window around the object;
    the network looks again with its own answer as the expected alpha, and a guided filter brings it to full size. Hair
    and other fine detail come out softer than from ViTMatte.
    """
    _check(rgb, trimap)
    planes = [_finish_one(model, rgb[n : n + 1], trimap[n : n + 1]) for n in range(len(rgb))]
    return torch.cat(planes).to(rgb.device)


def _finish_one(model: CompactModel, rgb: Tensor, trimap: Tensor) -> Tensor:
    rgb, trimap = rgb.float().cpu(), trimap.float().cpu()
    unknown = (trimap > 0) & (trimap < 1)
    if not unknown.any():
        return trimap
    frame = model.shrink(rgb).numpy()
    height, width = frame.shape[:2]
    object_share, unknown_share = (
        F.interpolate(part.float(), size=(height, width), mode="area")[0, 0].numpy()
        for part in (trimap >= 1, unknown)
    )
    window = window_around(np.asarray(object_share + unknown_share, np.float32))
    size = model.fitted_size(window)
    label, doubt = (
        crop_alpha(np.ascontiguousarray(part), window, size)
        for part in (object_share, unknown_share)
    )
    labels = WindowLabels((label > 0.5).astype(np.float32), (doubt < 0.01).astype(np.float32))
    estimate = model.infer_window(frame, window, [], labels=labels)
    for _ in range(_REVISIONS):
        expected = Expectation(estimate.alpha, np.ones_like(estimate.alpha))
        estimate = model.infer_window(
            frame, window, [estimate.memory], expected=expected, labels=labels
        )
    coarse = coarse_matte(estimate.alpha, estimate.confidence, window, height, width)
    alpha = CompactPredictor(model, ()).finish(rgb, coarse)
    return torch.where(unknown, alpha, trimap)


def _check(rgb: Tensor, trimap: Tensor) -> None:
    n, _, height, width = rgb.shape
    if tuple(trimap.shape) != (n, 1, height, width):
        raise ValueError(f"trimap must be {(n, 1, height, width)}, got {tuple(trimap.shape)}")


def _slices(box: Box) -> tuple[slice, slice]:
    return slice(box[0], box[1]), slice(box[2], box[3])


def _around(unknown: Tensor) -> Box:
    """Box of the unknown pixels with some context."""
    height, width = unknown.shape
    rows, columns = unknown.any(1).nonzero()[:, 0], unknown.any(0).nonzero()[:, 0]
    top, bottom = int(rows[0]) - _CONTEXT, int(rows[-1]) + 1 + _CONTEXT
    left, right = int(columns[0]) - _CONTEXT, int(columns[-1]) + 1 + _CONTEXT
    return max(0, top), min(height, bottom), max(0, left), min(width, right)


def _tiles(box: Box, tile: int) -> Iterator[Box]:
    """Boxes of at most `tile` pixels a side that cover a box, each overlapping the next."""
    for top, bottom in _spans(box[0], box[1], tile):
        for left, right in _spans(box[2], box[3], tile):
            yield top, bottom, left, right


def _spans(first: int, last: int, tile: int) -> Iterator[tuple[int, int]]:
    length = last - first
    if length <= tile:
        yield first, last
        return
    overlap = min(_OVERLAP, tile // 2)
    count = -(-(length - overlap) // (tile - overlap))
    for k in range(count):
        start = first + round(k * (length - tile) / (count - 1))
        yield start, start + tile


def _fade(box: Box, like: Tensor) -> Tensor:
    """Weights of a tile's pixels: 1 inside, falling to its edges."""
    ramps = []
    for first, last in (box[:2], box[2:]):
        place = torch.arange(last - first, dtype=like.dtype, device=like.device) + 0.5
        ramps.append((torch.minimum(place, last - first - place) / _OVERLAP).clamp(0.01, 1))
    return ramps[0][:, None] * ramps[1][None]


def _tells_both(trimap: Tensor) -> bool:
    return bool((trimap <= 0).any() and (trimap >= 1).any())


def _twice(region: Box, frame: Sequence[int]) -> Box:
    """A region twice as high and wide around the same centre, as far as the frame goes."""
    top, bottom, left, right = region
    y, x = (bottom - top + 1) // 2, (right - left + 1) // 2
    return max(0, top - y), min(frame[0], bottom + y), max(0, left - x), min(frame[1], right + x)


def _load_net(folder: Path) -> nn.Module:
    def adapt(config: Any) -> None:
        # Files of 2023 leave out what was the default then; the defaults of today are tuples, which do not fit.
        for sizes in ("convstream_hidden_sizes", "fusion_hidden_sizes"):
            setattr(config, sizes, list(getattr(config, sizes)))

    return load_pretrained(folder, _VITMATTE, adapt=adapt)


def _three(settings: dict[str, object], key: str, folder: Path) -> tuple[float, float, float]:
    values = settings.get(key)
    if not (
        isinstance(values, list)
        and len(values) == 3
        and all(isinstance(value, int | float) for value in values)
    ):
        raise ModelError(
            f"{folder}: preprocessor_config.json has no {key} of three numbers; get it again"
        )
    return float(values[0]), float(values[1]), float(values[2])
