"""Alpha from an image and a trimap: ViTMatte of transformers, or else the embedded network.

ViTMatte (Yao et al., Information Fusion 2024, arXiv 2305.15272) is a vision transformer with a
detail decoder. The trimap may come from anywhere.
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
from vidmatte.model.compact.expectation import Expectation
from vidmatte.model.compact.inference import WindowLabels, coarse_matte
from vidmatte.model.compact.predictor import CompactModel, CompactPredictor
from vidmatte.model.compact.window import crop_alpha, window_around
from vidmatte.model.memory import memory_errors
from vidmatte.model.pretrained import Pretrained, load_pretrained, read_json

FILES = ("config.json", "preprocessor_config.json", "model.safetensors")
"""Files in the folder of a ViTMatte."""
# Sides must be multiples of the network's coarsest stride.
_STRIDE = 32
_TILE = 1024
"""Longest side of the network's input in pixels; its attention grows with the fourth power."""
_OVERLAP = 192
"""Width in pixels of the fade between neighbouring tiles."""
_CONTEXT = 64
"""Width in pixels of the known surroundings in the network's view."""
_REVISIONS = 2
_VITMATTE = Pretrained(
    "ViTMatte", "VitMatteConfig", "VitMatteForImageMatting", "vitmatte", "vitmatte"
)

Box: TypeAlias = tuple[int, int, int, int]
"""Top, bottom, left, right."""


@dataclass(frozen=True)
class VitMatte:
    """A loaded ViTMatte, called with an image and a trimap.

    Images of any size take bounded memory. Only the surroundings of unknown pixels are used, and if
    these are larger than a tile (1024 pixels), they are split into tiles that overlap and fade into
    each other. A tile without known object or without known background is seen in a region of twice
    its size at half the resolution, and so on, until it has both.
    """

    net: nn.Module
    """Maps (N, 4, h, w) to an object with `alphas` (N, 1, h, w); sides are multiples of 32."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    """Normalisation of colours in the network's training."""
    device: torch.device
    precision: torch.dtype = torch.float32
    tile: int = _TILE

    @classmethod
    def from_folder(
        cls, folder: Path, *, device: torch.device, precision: torch.dtype = torch.float32
    ) -> VitMatte:
        """Load the files `FILES` of a folder; never uses the network.

        Raises ModelError if they are missing, damaged or of another network, MissingExtraError
        without transformers.
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
        """Return alpha of images.

        Args:
            rgb: (N, 3, H, W) 0..1, display-referred.
            trimap: (N, 1, H, W) 1 object, 0 background, anything between is unknown.

        Returns:
            (N, 1, H, W) float32 0..1 on the device of `rgb`; known pixels keep the trimap's value.

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
        """Return alpha of one image (3, H, W) with its trimap (H, W)."""
        unknown = (trimap > 0) & (trimap < 1)
        # Nothing is unknown: the trimap is the alpha.
        if not unknown.any():
            return trimap
        total = torch.zeros_like(trimap)
        weight = torch.zeros_like(trimap)
        for box in _tiles(_around(unknown), self.tile):
            inside = _slices(box)
            # Tiles over known pixels only are skipped.
            if unknown[inside].any():
                share = _fade(box, trimap)
                total[inside] += share * self._look(rgb, trimap, box)
                weight[inside] += share
        return torch.where(unknown, total / weight.clamp(min=1e-4), trimap)

    def _look(self, rgb: Tensor, trimap: Tensor, box: Box) -> Tensor:
        """Return alpha of a box.

        The network sees a region around it with known object and known background, if there is one.
        """
        region = box
        picture = self._picture(rgb, trimap, box)
        # Without both sure object and sure background in sight, the network has to guess: look
        # wider.
        while not _tells_both(picture[:, 3]):
            larger = _twice(region, trimap.shape)
            if larger == region:
                # The whole image has not both: less detail would not help.
                region = box
                picture = self._picture(rgb, trimap, box)
                break
            region = larger
            picture = self._picture(rgb, trimap, larger)
        alpha = self._run(picture)
        size = region[1] - region[0], region[3] - region[2]
        if alpha.shape[-2:] != size:
            alpha = F.interpolate(alpha, size=size, mode="bilinear", align_corners=False)
        top = box[0] - region[0]
        left = box[2] - region[2]
        return alpha[0, 0, top : top + box[1] - box[0], left : left + box[3] - box[2]].to(
            rgb.device
        )

    def _picture(self, rgb: Tensor, trimap: Tensor, region: Box) -> Tensor:
        """Return colours and trimap (1, 4, h, w) of a region, at most as large as a tile."""
        inside = _slices(region)
        picture = torch.cat([rgb[(slice(None), *inside)], trimap[(None, *inside)]])[None].to(
            self.device
        )
        scale = self.tile / max(picture.shape[-2:])
        if scale < 1:
            smaller = [max(1, round(side * scale)) for side in picture.shape[-2:]]
            picture = F.interpolate(picture, size=smaller, mode="bilinear", antialias=True)
            # A smaller pixel is known only if all of it is.
            known = picture[:, 3:]
            picture[:, 3:] = 0.5 * ((known > 1e-4).float() + (known > 1 - 1e-4).float())
        return picture

    def _run(self, picture: Tensor) -> Tensor:
        """Return alpha (1, 1, h, w) of a picture by one pass of the network."""
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
    """Return alpha of images from the embedded network, in place of ViTMatte.

    Arguments are those of `VitMatte.__call__`. The image is its own reference, with the trimap's
    known areas as its prompt, in a window around the object. The network runs again with its own
    result as the prior, and its refiner brings that to full size, as in `compact` itself. Hair and
    other fine detail are softer than those of ViTMatte.
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
    """Return the box of the unknown pixels with some context."""
    height, width = unknown.shape
    rows = unknown.any(1).nonzero()[:, 0]
    columns = unknown.any(0).nonzero()[:, 0]
    top = int(rows[0]) - _CONTEXT
    bottom = int(rows[-1]) + 1 + _CONTEXT
    left = int(columns[0]) - _CONTEXT
    right = int(columns[-1]) + 1 + _CONTEXT
    return max(0, top), min(height, bottom), max(0, left), min(width, right)


def _tiles(box: Box, tile: int) -> Iterator[Box]:
    """Yield overlapping boxes of at most `tile` pixels a side, together covering a box."""
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
    """Return the weights of a tile's pixels: 1 inside, falling to its edges."""
    ramps = []
    for first, last in (box[:2], box[2:]):
        place = torch.arange(last - first, dtype=like.dtype, device=like.device) + 0.5
        ramps.append((torch.minimum(place, last - first - place) / _OVERLAP).clamp(0.01, 1))
    return ramps[0][:, None] * ramps[1][None]


def _tells_both(trimap: Tensor) -> bool:
    return bool((trimap <= 0).any() and (trimap >= 1).any())


def _twice(region: Box, frame: Sequence[int]) -> Box:
    """Return a region twice as high and wide around the same centre, inside the frame."""
    top, bottom, left, right = region
    y = (bottom - top + 1) // 2
    x = (right - left + 1) // 2
    return max(0, top - y), min(frame[0], bottom + y), max(0, left - x), min(frame[1], right + x)


def _load_net(folder: Path) -> nn.Module:
    def adapt(config: Any) -> None:
        # Files of 2023 omit the defaults of then. Those of today are tuples, which do not fit.
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
