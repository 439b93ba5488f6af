"""A scene of a training clip: its sprites, its background and its light, drawn frame by frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from vidmatte.imaging.arrays import Pixels
from vidmatte.synth.render import Layer, Poses, draw_layer, shift, to_matrix
from vidmatte.synth.sprites import Matrix

_BLUR, _BLUR_OF_REFERENCE = 0.5, 0.08
"""Longest motion of a picture during an exposure, in its own sides; then that of frame 0."""
_MOST_SAMPLES = 16
"""Largest number of samples of a long exposure."""


class SceneSprite(Protocol):
    """A sprite of a scene, drawn frame by frame."""

    def draw(self, t: int, crop: Matrix, size: tuple[int, int]) -> Pixels:
        """Return the sprite in a crop of frame t, premultiplied (h, w, 4)."""
        ...


@dataclass(frozen=True)
class AnimatedSprite:
    """A sprite with a picture for each frame, and its motion through the clip.

    Attributes:
        pictures: (S, S, 4) premultiplied for each frame; a picture is 1 wide before its pose.
        poses: (T, 6) as in `render.Layer`.
        shutter: share of a frame's motion during the exposure.
    """

    pictures: list[Pixels]
    poses: Poses
    shutter: float = 0.0

    def draw(self, t: int, crop: Matrix, size: tuple[int, int]) -> Pixels:
        """Return the sprite in a crop of frame t, premultiplied (h, w, 4)."""
        picture = self.pictures[t]
        # Frame 0 may be several steps from frame 1, so the step after it stands for its own.
        moved = (
            self.poses[t] - self.poses[t - 1]
            if t > 1
            else self.poses[min(2, len(self.poses) - 1)] - self.poses[1]
        )
        pose, shutter = self.poses[t], self.shutter
        # Blur by more than its own size hides a sprite, and nobody marks a blurred frame.
        longest = (_BLUR if t else _BLUR_OF_REFERENCE) * crop[0, 0] * float(np.exp(pose[3]))
        apart = _apart(pose, pose + moved, crop) * shutter
        # A pose moves linearly during the exposure, up to the longest allowed way.
        shutter *= min(1.0, longest / apart) if apart else 1.0
        ends = pose - 0.5 * shutter * moved, pose + 0.5 * shutter * moved
        # A sample for every 1.5 pixels leaves no gaps.
        samples = int(np.clip(_apart(*ends, crop) / 1.5, 1, _MOST_SAMPLES)) if self.shutter else 1
        if samples == 1:
            return self._place(picture, self.poses[t], crop, size)
        drawn = np.zeros((*size, 4), np.float32)
        for share in np.linspace(0, 1, samples):
            drawn += self._place(picture, (1 - share) * ends[0] + share * ends[1], crop, size)
        return np.asarray(drawn / samples, np.float32)

    def to_crop(self, t: int, crop: Matrix) -> Matrix:
        """Return the (3, 3) map from pixels of the picture in frame t to pixels of the crop."""
        side = self.pictures[t].shape[0]
        unit = np.diag([1 / side, 1 / side, 1]) @ shift(-side / 2, -side / 2)
        return np.asarray(crop @ to_matrix(self.poses[t]) @ unit)

    def foot(self, t: int) -> float:
        """Return the lowest row of the picture in frame t with content, or its last one."""
        rows = np.flatnonzero(self.pictures[t][..., 3].max(1) > 0.3)
        return float(rows[-1]) if len(rows) else float(self.pictures[t].shape[0] - 1)

    def _place(
        self, picture: Pixels, pose: NDArray[np.float64], crop: Matrix, size: tuple[int, int]
    ) -> Pixels:
        side = picture.shape[0]
        place = (
            crop @ to_matrix(pose) @ np.diag([1 / side, 1 / side, 1]) @ shift(-side / 2, -side / 2)
        )
        return np.asarray(
            cv2.warpAffine(picture, place[:2], (size[1], size[0]), flags=cv2.INTER_LINEAR),
            np.float32,
        )


def _apart(a: NDArray[np.float64], b: NDArray[np.float64], crop: Matrix) -> float:
    """Return the largest distance, in pixels, between corners of a picture in two poses."""
    # The picture is 1 wide, centred on the origin.
    corners = np.array([[-0.5, 0.5, -0.5, 0.5], [-0.5, -0.5, 0.5, 0.5], [1, 1, 1, 1]])
    moved = crop @ (to_matrix(b) - to_matrix(a)) @ corners
    return float(np.hypot(moved[0], moved[1]).max())


@dataclass(frozen=True)
class LayerSprite:
    """A sprite of the procedural clips: a drawn shape, a figure, a cut-out of a photograph."""

    layer: Layer

    def draw(self, t: int, crop: Matrix, size: tuple[int, int]) -> Pixels:
        """Return the sprite in a crop of frame t, premultiplied (h, w, 4)."""
        return draw_layer(self.layer, t, crop, size)


@dataclass
class BankScene:
    """Everything in a clip of a bank.

    Attributes:
        target: the marked sprite.
        crops: for each frame the (3, 3) map from the scene to pixels.
        behind: (t, crop, size) -> the background (h, w, 3).
        back, front: other sprites, back to front.
        ground: functions to draw the shadow and reflection of the target on the background.
        light: functions (image, t) -> image in the light of frame t.
    """

    target: AnimatedSprite
    crops: list[Matrix]
    behind: Callable[[int, Matrix, tuple[int, int]], Pixels]
    back: list[SceneSprite] = field(default_factory=list)
    front: list[SceneSprite] = field(default_factory=list)
    ground: list[Callable[[Pixels, AnimatedSprite, int, Matrix], Pixels]] = field(
        default_factory=list
    )
    light: list[Callable[[Pixels, int], Pixels]] = field(default_factory=list)


def render_scene(scene: BankScene, size: tuple[int, int]) -> tuple[Pixels, NDArray[np.uint8]]:
    """Return all frames (T, h, w, 3), 1 is white, and the target's visible alpha (T, 1, h, w)."""
    frames, alphas = [], []
    for t, crop in enumerate(scene.crops):
        # Back to front: background, sprites behind, shadows, object, sprites in front, light.
        image = scene.behind(t, crop, size)
        for sprite in scene.back:
            image = _over(image, sprite.draw(t, crop, size))
        for change in scene.ground:
            image = change(image, scene.target, t, crop)
        drawn = scene.target.draw(t, crop, size)
        image = _over(image, drawn)
        seen = drawn[..., 3]
        for sprite in scene.front:
            drawn = sprite.draw(t, crop, size)
            # Alpha is what is visible of the object: sprites in front take from it.
            image = _over(image, drawn)
            seen = seen * (1 - drawn[..., 3])
        for light in scene.light:
            image = light(image, t)
        frames.append(image)
        alphas.append(seen)
    return np.stack(frames), np.rint(np.clip(np.stack(alphas), 0, 1) * 255).astype(np.uint8)[
        :, None
    ]


def _over(image: Pixels, drawn: Pixels) -> Pixels:
    return np.asarray(image * (1 - drawn[..., 3:]) + drawn[..., :3], np.float32)
