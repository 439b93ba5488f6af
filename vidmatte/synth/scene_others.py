"""Other sprites of a scene: passers-by, a crowd, a lookalike that crosses, what passes in front."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from vidmatte.imaging.arrays import Pixels
from vidmatte.synth.bank import Bank, Entry, choose_times
from vidmatte.synth.clips import make_path, warp_sprite
from vidmatte.synth.corpus import Corpus, Rng
from vidmatte.synth.render import Poses, shift
from vidmatte.synth.scene import AnimatedSprite, BankScene, LayerSprite
from vidmatte.synth.sprites import draw_shape, make_sprite, noise, premultiply

_LARGEST_PICTURE = 256
"""Longest side of a sprite's picture, in pixels."""


def picture_side(extent: float, short: int) -> int:
    """Return the side in pixels of a picture with a share of the frame's shorter side."""
    # A fifth more than its size on the frame, for zooms.
    return int(np.clip(1.2 * extent * short, 48, _LARGEST_PICTURE))


def with_crowd(scenery: Pixels, target: AnimatedSprite, reach: float, rng: Rng) -> Pixels:
    """Return scenery with some still lookalikes of the target in it."""
    side = scenery.shape[0]
    for _ in range(rng.integers(2, 7)):
        picture = target.pictures[rng.integers(len(target.pictures))]
        pixels = picture.shape[0]
        scale = np.exp(target.poses[0, 3] + rng.normal(-0.1, 0.25)) * side / reach
        x = rng.uniform(0.2, 0.8) * side
        y = rng.uniform(0.3, 0.7) * side
        place = shift(x, y) @ np.diag([scale, scale, 1])
        unit = np.diag([1 / pixels, 1 / pixels, 1]) @ shift(-pixels / 2, -pixels / 2)
        drawn = cv2.warpAffine(picture, (place @ unit)[:2], (side, side))
        # Premultiplied colour must not exceed its alpha.
        colour = np.clip(drawn[..., :3] * rng.uniform(0.7, 1.3, 3), 0, drawn[..., 3:])
        scenery = np.asarray(scenery * (1 - drawn[..., 3:]) + colour, np.float32)
    return scenery


def add_passers(
    scene: BankScene,
    bank: Bank,
    corpus: Corpus,
    extent: float,
    side: int,
    speed: float,
    rng: Rng,
) -> None:
    """Add none, one or two sprites behind the target."""
    frames = len(scene.target.poses)
    for _ in range(rng.choice(3, p=[0.45, 0.4, 0.15])):
        poses = make_path(frames, extent, rng, speed=speed)
        poses[:, :2] += scene.target.poses[0, :2] + rng.uniform(-0.8, 0.8, 2)
        poses[:, 3] += np.log(min(extent, 0.9) / 0.85 * np.exp(rng.uniform(-0.7, 0.7)))
        if rng.random() < 0.5:
            other = bank.draw(rng, 0.3)
            picked = choose_times(other, frames, rng, far=0.2)
            scene.back.append(AnimatedSprite(bank.pictures(other, picked, side), poses))
        else:
            scene.back.append(LayerSprite(warp_sprite(make_sprite(corpus, side, rng), poses, rng)))


def add_lookalike(
    scene: BankScene,
    bank: Bank,
    entry: Entry,
    extent: float,
    side: int,
    restyle: Callable[[Pixels], Pixels],
    rng: Rng,
) -> None:
    """Add the same entry at other times, often a little recoloured, passing the target."""
    poses = scene.target.poses
    times = choose_times(entry, len(poses), rng)
    pictures = [restyle(picture) for picture in bank.pictures(entry, times, side)]
    if rng.random() < 0.5:
        pictures = [np.ascontiguousarray(picture[:, ::-1]) for picture in pictures]
    if rng.random() < 0.6:
        gain = rng.uniform(0.7, 1.3, 3).astype(np.float32)
        pictures = [
            np.dstack([np.minimum(p[..., :3] * gain, p[..., 3:]), p[..., 3]]) for p in pictures
        ]
    way = _crossing(poses, extent, rng)
    way[:, 3] = poses[:, 3] + rng.normal(0, 0.12)
    twin = AnimatedSprite(pictures, way, float(rng.choice([0.0, 0.5])))
    (scene.front if rng.random() < 0.5 else scene.back).append(twin)


def _crossing(poses: Poses, extent: float, rng: Rng) -> Poses:
    """Return poses past the object: beside it in frame 0, over it in a later frame."""
    frames = len(poses)
    meets = float(rng.uniform(1, max(1.5, frames - 1)))
    heading = float(rng.choice([0, np.pi]) + rng.normal(0, 0.25))
    # Smaller steps with a larger exponent: it then stays close for longer.
    distance = extent * rng.uniform(0.9, 1.3)
    apart = distance / max(1.0, meets) ** rng.uniform(0.3, 1.0)
    offset = (np.arange(frames) - meets) * apart
    # In frame 0 it is beside the object, which is marked there.
    offset[0] = -extent * rng.uniform(0.75, 1.3)
    way = np.zeros((frames, 6))
    way[:, 0] = poses[:, 0] + offset * np.cos(heading)
    way[:, 1] = poses[:, 1] + offset * np.sin(heading) + extent * rng.normal(0, 0.08)
    return way


def add_occluder(scene: BankScene, corpus: Corpus, extent: float, short: int, rng: Rng) -> None:
    """Add a textured trunk, pole or shape that passes in front; beside the target in frame 0.

    `short` is the frame's shorter side.
    """
    poses = scene.target.poses
    kind = rng.random()
    side = int(np.clip(2.4 * extent * short, 64, _LARGEST_PICTURE))
    texture = corpus.texture(side, rng)
    scale = 2.4 * extent
    alpha: Pixels
    if kind < 0.65:
        # A pole hides a part of the object, a trunk or a wall may hide all of it.
        wide = float(np.exp(rng.uniform(np.log(0.03), np.log(0.5)))) * side
        x = np.arange(side, dtype=np.float32)[None] - side / 2
        edge = (
            noise(side, int(rng.integers(3, 9)), rng)[:, :1] * rng.choice([0.0, 0.05, 0.15]) * wide
        )
        # Shifted more towards the ends: the pole leans.
        lean = rng.normal(0, 0.1) * (np.arange(side, dtype=np.float32)[:, None] - side / 2)
        # Half a pixel makes the edge soft by one pixel.
        alpha = np.clip(wide / 2 - np.abs(x - lean - edge) + 0.5, 0, 1).astype(np.float32)
        # Darker towards its sides, like a round trunk.
        shade = 1 - 0.5 * np.clip(np.abs(x - lean) / max(1.0, wide / 2), 0, 1) ** 2 * float(
            rng.random()
        )
        texture = np.asarray(texture * shade[..., None], np.float32)
    else:
        alpha = draw_shape(side, rng)
        scale = float(extent * rng.uniform(0.5, 1.8))
    way = _crossing(poses, extent, rng)
    if rng.random() < 0.5:
        # Halfway to the object in every frame: it stays in front for longer.
        way[1:, :2] += 0.5 * (poses[1:, :2] - way[1:, :2])
    way[:, 3] = np.log(scale)
    pictures = [premultiply(texture, alpha)] * len(poses)
    scene.front.append(AnimatedSprite(pictures, way, float(rng.choice([0.0, 0.5]))))
