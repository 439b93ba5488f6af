"""Adaptation: before a clip is tracked, the embedded network is fine-tuned on its reference frames.

The object is cut out of its frame, the hole is filled, and the object moves, bends and turns over
what was behind it: the network's training continues for a few steps with this one object. It so
learns that all of its parts belong together, however unlike they are, and that its surroundings do
not. (Khoreva et al., "Lucid data dreaming for video object segmentation", IJCV 2019, train a
network per clip in this way; here a network that knows matting is tuned.)

Both encoders stay as they are: the target models are fitted to the reference in closed form anyway,
and steps without their gradient take a third of the time.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vidmatte.imaging.arrays import Alpha, Pixels, Rgb8
from vidmatte.imaging.foreground import estimate_foreground
from vidmatte.media.prefetch import prefetch
from vidmatte.model.compact.objective import collate, learn
from vidmatte.model.compact.predictor import CompactModel, CompactPredictor
from vidmatte.model.compact.reference import EncodedReference, PromptedFrame
from vidmatte.model.compact.window import crop_alpha, crop_rgb, window_around
from vidmatte.model.losses import Batch
from vidmatte.options import SUGGESTED_ADAPT_STEPS
from vidmatte.synth.clips import (
    BACKGROUND_MOTION,
    inpaint_object,
    make_crops,
    make_path,
    warp_sprite,
)
from vidmatte.synth.corpus import Rng
from vidmatte.synth.render import Clip, Layer, Scene, render
from vidmatte.synth.sprites import SpritePart, draw_shape, premultiply

_RATE = 1e-4
"""A third of the rate of training: so few steps on so few clips are noisy."""
_WARM_UP = 3
"""Steps until the full rate."""
_CLIPS = 2
"""Clips of a step."""
_FRAMES = 3
"""Frames of a clip, the reference among them."""
_WORKING_SHARE = 0.76
"""Size of the training frames in working sizes.

Smaller frames are quicker, and the object is as large in them.
"""
_PICTURE_SHARE = 1.5
"""Size of the picture that the object is cut from, in training frames."""
_MIRRORED = 0.15
_COVERED = 0.5
"""Chance that a part of the object is covered on the marked frame, and comes into view after it.

Without such clips the network learns that nothing belongs to the object that its reference does not
show, and loses one that turns.
"""
_COVER_SIZE = (0.15, 0.45)
"""Least and greatest size of such a cover, in shares of the frame's shorter side."""
_COVER_OFFSET = 0.25
"""Greatest distance of a cover from the object's middle along an axis, in the same shares."""


@dataclass(frozen=True)
class _CutReference:
    """A reference cut in two.

    Attributes:
        sprite: (S, S, 4) the object on a square picture, premultiplied.
        scenery: (h, w, 3) the frame with the hole of the object filled.
    """

    sprite: Pixels
    scenery: Pixels


def adapt(
    predictor: CompactPredictor,
    *,
    steps: int = SUGGESTED_ADAPT_STEPS,
    seed: int = 0,
    on_step: Callable[[int], None] | None = None,
) -> CompactPredictor:
    """Return the references, encoded by a copy of the network that was adapted to them.

    If a reference was marked in part, the matte that was found is taken for the truth. The same
    references, steps and seed give the same network on the same machine.

    Args:
        predictor: stays as it is.
        steps: of the optimiser.
        seed: of the clips that are made of the references.
        on_step: receives the number of steps that are done.
    """
    model = predictor.model
    size = _training_size(model, predictor.references[0])
    cuts = [_cut(reference.marked, size) for reference in predictor.references]
    net = copy.deepcopy(model.net).float().train()
    for encoder in (net.trunk, net.encoder):
        encoder.requires_grad_(False)
    learning = [parameter for parameter in net.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(learning, lr=_RATE, betas=(0.9, 0.99), weight_decay=1e-3)
    generator = torch.Generator().manual_seed(seed)
    with closing(prefetch(_training_batches(cuts, size, steps, seed), 2)) as batches:
        for step, batch in enumerate(batches):
            for group in optimiser.param_groups:
                group["lr"] = _RATE * min(1.0, (step + 1) / _WARM_UP) * (1 - 0.9 * step / steps)
            placed = {name: tensor.to(model.device) for name, tensor in batch.items()}
            learn(net, optimiser, placed, generator, precision=model.precision)
            if on_step is not None:
                on_step(step + 1)
    return predictor.with_network(net.eval().requires_grad_(False))


def _training_batches(
    cuts: Sequence[_CutReference], size: tuple[int, int], steps: int, seed: int
) -> Iterator[Batch]:
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        yield collate(
            [_training_clip(cuts[int(rng.integers(len(cuts)))], size, rng) for _ in range(_CLIPS)]
        )


def _training_size(model: CompactModel, reference: EncodedReference) -> tuple[int, int]:
    stride = model.net.stride
    height, width = (
        max(4, round(_WORKING_SHARE * side / stride)) * stride
        for side in model.fitted_size(reference.window)
    )
    return height, width


def _cut(marked: PromptedFrame, size: tuple[int, int]) -> _CutReference:
    """Cut a frame in two around its object, at a size that loses nothing in training frames."""
    window = window_around(marked.alpha)
    scale = _PICTURE_SHARE * (size[0] * size[1] / (window[2] * window[3])) ** 0.5
    fitted = max(16, round(scale * window[3])), max(16, round(scale * window[2]))
    rgb, matte = crop_rgb(marked.rgb, window, fitted), crop_alpha(marked.alpha, window, fitted)
    cut: Pixels = np.dstack([rgb.astype(np.float32) / 255, matte])
    return _CutReference(_on_square(premultiply(_straight(rgb, matte), matte)), inpaint_object(cut))


def _straight(rgb: Rgb8, alpha: Alpha) -> Pixels:
    """Return the straight foreground colour (h, w, 3) 0-1, free of the old background."""
    image = torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255
    colour = estimate_foreground(image, torch.from_numpy(alpha)[None, None])
    return np.asarray(colour[0].permute(1, 2, 0).numpy(), np.float32)


def _on_square(picture: Pixels) -> Pixels:
    height, width = picture.shape[:2]
    side = max(height, width)
    square = np.zeros((side, side, 4), np.float32)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = picture
    return square


def _training_clip(cut: _CutReference, size: tuple[int, int], rng: Rng) -> Clip:
    mirrored = slice(None, None, -1 if rng.random() < _MIRRORED else 1)
    sprite: Pixels = np.ascontiguousarray(cut.sprite[:, mirrored])
    scenery: NDArray[np.float32] = np.ascontiguousarray(cut.scenery[:, mirrored])
    tall, wide = scenery.shape[:2]
    # In shares of the frame's shorter side: the scenery fills the frame, and the object keeps
    # its size in it.
    reach = size[0] / min(size)
    layer = warp_sprite(
        [SpritePart(sprite, size=reach * max(tall, wide) / tall)], make_path(_FRAMES, 0.6, rng), rng
    )
    crops = make_crops(layer.poses, size, rng.random() < 0.8, rng)
    ground = make_path(_FRAMES, 0.5, rng) * BACKGROUND_MOTION
    layers = [layer]
    if rng.random() < _COVERED:
        layers.append(_cover(scenery, rng))
    return render(Scene(layers, 0, scenery, ground, reach, crops), size, "mask", rng)


def _cover(scenery: NDArray[np.float32], rng: Rng) -> Layer:
    """Return a piece of the scenery in front of the object on the marked frame alone."""
    side = min(scenery.shape[:2]) // 2
    top = int(rng.integers(scenery.shape[0] - side + 1))
    left = int(rng.integers(scenery.shape[1] - side + 1))
    texture = scenery[top : top + side, left : left + side]
    picture = premultiply(texture, draw_shape(side, rng))
    poses = np.zeros((_FRAMES, 6))
    poses[:, :2] = rng.uniform(-_COVER_OFFSET, _COVER_OFFSET, 2)
    # Four frames' widths away is out of sight.
    poses[1:, :2] += 4.0
    return Layer([SpritePart(picture, size=float(rng.uniform(*_COVER_SIZE)) / 0.6)], poses)
