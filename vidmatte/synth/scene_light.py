"""What light does in a scene: shadows and reflections on the ground, lamps, sky, changes of light.

None of it is part of an object's alpha.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from vidmatte.imaging.arrays import Pixels
from vidmatte.synth.corpus import Rng
from vidmatte.synth.render import shift
from vidmatte.synth.scene import AnimatedSprite, BankScene
from vidmatte.synth.sprites import Matrix


def shadow(rng: Rng) -> Callable[[Pixels, AnimatedSprite, int, Matrix], Pixels]:
    """Return a function to draw a contact shadow and a cast shadow on the background."""
    strength = rng.uniform(0.25, 0.75)
    lean = rng.uniform(-1.2, 1.2)
    length = rng.uniform(0.15, 0.7)
    # A negative length throws the shadow towards the camera.
    length *= 1 if rng.random() < 0.6 else -1
    throws = rng.random() < 0.7
    soft = rng.uniform(0.005, 0.05)
    contact = rng.uniform(0.3, 0.9)
    flat = rng.uniform(0.08, 0.25)

    def darken(image: Pixels, target: AnimatedSprite, t: int, crop: Matrix) -> Pixels:
        alpha = target.pictures[t][..., 3]
        height, width = image.shape[:2]
        foot = target.foot(t)
        place = target.to_crop(t, crop)
        dark = np.zeros((height, width), np.float32)
        blur = max(0.5, soft * min(height, width))
        if throws:
            # Shears and flattens the object about its foot.
            fall = np.array(
                [[1, -lean, lean * foot], [0, length, foot - length * foot], [0, 0, 1.0]]
            )
            cast = cv2.warpAffine(alpha, (place @ fall)[:2], (width, height))
            dark = strength * np.asarray(cv2.GaussianBlur(cast, (0, 0), blur), np.float32)
        # The lowest eighth of the object stands on the ground.
        columns = np.flatnonzero(alpha[max(0, int(foot) - alpha.shape[0] // 8) :].max(0) > 0.3)
        if len(columns):
            # The ellipse of contact may be wider than the picture.
            margin = alpha.shape[0] // 4
            centre = float(columns[0] + columns[-1]) / 2 + margin, foot + margin
            half = float(columns[-1] - columns[0]) * 0.6 + 2
            room = np.pad(np.zeros_like(alpha), margin)
            ellipse = (centre, (2 * half, 2 * flat * half), 0.0)
            cv2.ellipse(room, ellipse, 1.0, -1, cv2.LINE_AA)
            soft_room = cv2.GaussianBlur(room, (0, 0), 0.2 * flat * half + 1)
            onto = (place @ shift(-margin, -margin))[:2]
            pool = cv2.warpAffine(soft_room, onto, (width, height))
            dark = np.maximum(dark, contact * pool)
        return np.asarray(image * (1 - np.clip(dark, 0, 0.95))[..., None], np.float32)

    return darken


def mirror(rng: Rng) -> Callable[[Pixels, AnimatedSprite, int, Matrix], Pixels]:
    """Return a function to draw the object's reflection on wet or polished ground."""
    strength = rng.uniform(0.15, 0.65)
    blur = rng.uniform(0.3, 3.0)
    squash = rng.uniform(0.6, 1.0)
    ripple = float(rng.choice([0.0, 1.0, 3.0]))
    waves = rng.uniform(0.2, 0.8)

    def reflect(image: Pixels, target: AnimatedSprite, t: int, crop: Matrix) -> Pixels:
        picture = target.pictures[t]
        height, width = image.shape[:2]
        foot = target.foot(t)
        # Upside down below the foot, and shorter.
        flip = np.array([[1, 0, 0], [0, -squash, foot + squash * foot], [0, 0, 1.0]])
        place = target.to_crop(t, crop) @ flip
        seen = cv2.warpAffine(picture, place[:2], (width, height))
        if ripple:
            y, x = np.mgrid[:height, :width].astype(np.float32)
            # Ripples move with the frames.
            x = x + ripple * np.sin(waves * y + 0.9 * t)
            seen = cv2.remap(seen, x, y, cv2.INTER_LINEAR)
        seen = strength * np.asarray(cv2.GaussianBlur(seen, (0, 0), blur), np.float32)
        return np.asarray(image * (1 - seen[..., 3:]) + seen[..., :3], np.float32)

    return reflect


def add_glare(scene: BankScene, extent: float, rng: Rng) -> None:
    """Add lamps or a bright sky behind the object, at its outline, and their glow over it."""
    behind = scene.behind
    poses = scene.target.poses[0]
    spots = []
    for _ in range(rng.integers(1, 4)):
        angle = rng.uniform(0, 2 * np.pi)
        centre = poses[:2] + extent * rng.uniform(0.15, 0.5) * np.array(
            [np.cos(angle), np.sin(angle)]
        )
        # Brighter than white: the glow below spreads what exceeds 0.85.
        colour = rng.uniform(0.9, 1.0, 3) * rng.uniform(1.1, 2.5)
        spots.append(
            (centre, extent * rng.uniform(0.04, 0.3) * np.array([1, rng.uniform(0.4, 2)]), colour)
        )
    sky = rng.random() < 0.35
    line = poses[1] + extent * rng.uniform(-0.4, 0.3)
    slope = rng.normal(0, 0.2)
    tone = rng.uniform(0.85, 1.0, 3) * rng.uniform(0.95, 1.4)
    glow = rng.uniform(0, 0.5)
    spread = rng.uniform(0.015, 0.06)

    def bright(t: int, crop: Matrix, size: tuple[int, int]) -> Pixels:
        image = behind(t, crop, size)
        y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
        if sky:
            # Distance above the sloping horizon, in pixels.
            scene_y = (y - crop[1, 2]) / crop[1, 1]
            rise = slope * (x - crop[0, 2]) / crop[0, 0]
            height = (line - scene_y + rise) * crop[1, 1]
            share = np.clip(height / 2 + 0.5, 0, 1)[..., None]
            image = image * (1 - share) + tone * share
        for centre, radii, colour in spots:
            place = crop @ np.array([*centre, 1])
            # In radii of the lamp; the division makes it independent of the crop's scale.
            across = (x - place[0]) / radii[0]
            down = (y - place[1]) / radii[1]
            distance = np.hypot(across, down) / crop[0, 0]
            inside = (1 - distance) * radii.min() * crop[0, 0]
            share = np.clip(inside / 1.5, 0, 1)[..., None]
            image = image * (1 - share) + colour * share
        return np.asarray(image, np.float32)

    def bleed(image: Pixels, t: int) -> Pixels:
        over = np.clip(image - 0.85, 0, 1.5)
        wide = cv2.GaussianBlur(over, (0, 0), spread * min(image.shape[:2]) + 0.5)
        return np.asarray(image + glow * wide, np.float32)

    scene.behind = bright
    scene.light.append(bleed)


def change_light(frames: int, rng: Rng) -> Callable[[Pixels, int], Pixels]:
    """Return a function to change exposure and colour at one frame, at times from one side."""
    at = int(rng.integers(1, max(2, frames)))
    gain = float(np.exp(rng.choice([-1, 1]) * rng.uniform(0.35, 1.0)))
    tint = np.exp(rng.normal(0, 0.12, 3))
    sided = rng.random() < 0.4
    angle = rng.uniform(0, 2 * np.pi)
    offset = rng.uniform(-0.3, 0.3)
    # Sometimes the change ends after a frame or two, like a flash.
    ends = at + int(rng.integers(1, 3)) if rng.random() < 0.3 else frames

    def relight(image: Pixels, t: int) -> Pixels:
        if not at <= t < ends:
            return image
        factor: NDArray[np.float64] | float = gain
        if sided:
            y, x = np.mgrid[-1 : 1 : image.shape[0] * 1j, -1 : 1 : image.shape[1] * 1j]
            # A soft step across the frame, as of a window or a lamp at one side.
            along = x * np.cos(angle) + y * np.sin(angle) - offset
            share = 1 / (1 + np.exp(-4 * along))
            factor = (1 + (gain - 1) * share)[..., None]
        return np.asarray(image * factor * tint, np.float32)

    return relight
