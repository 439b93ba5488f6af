"""Procedural training clips: things that move over a photograph, one of them marked, with exact alpha.

A clip is built as it will be met: frame 0 is the reference and carries the marks, frame 1 is often some way off, the
rest follow it one by one. In most clips the frames are windows that follow the object, as at inference. Every random
choice comes from the seed, so that a clip can be made again anywhere.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from vidmatte.imaging.arrays import Pixels
from vidmatte.synth.corpus import Corpus, Rng
from vidmatte.synth.prompts import PromptKind
from vidmatte.synth.render import Clip, Layer, Poses, Scene, draw_parts, render, shift, turn
from vidmatte.synth.sprites import Matrix, Sprite, SpritePart, make_sprite, noise, premultiply

BACKGROUND_MOTION = np.array([1, 1, 0.3, 0.3, 0.2, 0.2])
"""A background shifts as much as a sprite does, but hardly turns, grows or shears."""


def make_clip(
    corpus: Corpus,
    size: tuple[int, int],
    frames: int,
    prompt: PromptKind,
    seed: int,
    *,
    still: bool = False,
) -> Clip:
    """Make the clip that belongs to a seed; `still` keeps the camera from following the object."""
    rng = np.random.default_rng(seed)
    follow = rng.random() < 0.72 and not still
    # A marked frame is compared with its neighbour; a matted one often with one further off.
    speed, far = (float(rng.choice([0.4, 1.0])), 0.5) if prompt == "mask" else (0.25, 0.15)
    # Marks are learnt best where they will be made: on things in their photographs.
    photo = corpus.scene(rng) if rng.random() < (0.15 if prompt == "mask" else 0.35) else None
    if photo is not None:
        scene = _photo_scene(corpus, photo, size, frames, follow, speed, far, rng)
    else:
        scene = _corpus_scene(corpus, size, frames, follow, speed, far, rng)
    return render(scene, size, prompt, rng)


def _photo_scene(
    corpus: Corpus,
    photo: Pixels,
    size: tuple[int, int],
    frames: int,
    follow: bool,
    speed: float,
    far: float,
    rng: Rng,
) -> Scene:
    """A photograph (S, S, 4) with its subject in place, and other sprites about it.

    A subject that leaves its place shows what moves together; one that stays, what marks alone can say.
    """
    extent, loose = float(rng.uniform(0.9, 1.7)), rng.random() < 0.6
    subject = [SpritePart(premultiply(photo[..., :3], photo[..., 3]))]
    layers, marked = _make_layers(
        corpus, subject, min(size), frames, extent, rng, speed=speed, far=far, rigid=not loose
    )
    poses = layers[marked].poses
    ground = (
        poses[0] + 0.3 * make_path(frames, 0.5, rng, speed=speed) * BACKGROUND_MOTION
        if loose
        else poses
    )
    scenery = inpaint_object(photo) if loose else photo[..., :3]
    return Scene(layers, marked, scenery, ground, 1.0, make_crops(poses, size, follow, rng))


def _corpus_scene(
    corpus: Corpus,
    size: tuple[int, int],
    frames: int,
    follow: bool,
    speed: float,
    far: float,
    rng: Rng,
) -> Scene:
    """Sprites of the corpus over a photograph; the marked one may be gone for a frame."""
    extent = float(np.exp(rng.uniform(np.log(0.28 if follow else 0.1), np.log(0.85))))
    sprite = make_sprite(corpus, _side(extent, min(size)), rng)
    layers, marked = _make_layers(
        corpus, sprite, min(size), frames, extent, rng, speed=speed, far=far, twins=True
    )
    crops = make_crops(layers[marked].poses, size, follow, rng)
    if frames > 2 and rng.random() < 0.12:
        poses = layers[marked].poses.copy()
        poses[rng.integers(1, frames)] += np.array([4.0, 4.0, 0, 0, 0, 0])
        layers[marked] = replace(layers[marked], poses=poses)
    scenery = corpus.texture(int(1.5 * max(size)), rng, least=0.5)
    if rng.random() < 0.3:
        scenery = np.asarray(
            cv2.GaussianBlur(scenery, (0, 0), float(rng.uniform(0.8, 3))), np.float32
        )
    if rng.random() < 0.22:
        scenery = _add_distractors(scenery, layers[marked], rng)
    ground = (
        make_path(frames, 0.5 if rng.random() < 0.7 else 0.0, rng, speed=speed) * BACKGROUND_MOTION
    )
    return Scene(layers, marked, scenery, ground, 2.2, crops)


def _make_layers(
    corpus: Corpus,
    target: Sprite,
    short: int,
    frames: int,
    extent: float,
    rng: Rng,
    *,
    speed: float,
    far: float,
    rigid: bool = False,
    twins: bool = False,
) -> tuple[list[Layer], int]:
    """The target among up to three other sprites, back to front, and its index; `speed` and `far` are `make_path`'s.

    A `rigid` target neither bends nor blurs, as it moves as one with what is behind it; with `twins`, some of the
    others look like it.
    """
    count = 1 + int(rng.choice(4, p=[0.25, 0.4, 0.25, 0.1]))
    marked = int(rng.integers(count))
    layers: list[Layer] = []
    for i in range(count):
        is_target = i == marked
        twin = twins and rng.random() < 0.22
        sprite = target if is_target or twin else make_sprite(corpus, _side(extent, short), rng)
        scale = (
            extent / 0.8 if is_target else min(extent, 0.9) / 0.8 * np.exp(rng.uniform(-0.8, 0.8))
        )
        path = make_path(frames, scale, rng, speed=speed, far=far)
        path[:, :2] += rng.uniform(-0.3, 0.3, 2) if is_target else rng.uniform(-0.7, 0.7, 2)
        path[:, 3] += np.log(scale)
        layers.append(
            Layer(sprite, path) if is_target and rigid else warp_sprite(sprite, path, rng)
        )
    return layers, marked


def _side(extent: float, short: int) -> int:
    """Pixels of the picture of a sprite that takes this share of the frame's shorter side."""
    return int(np.clip(1.25 * extent * short, 48, 224))


def make_path(
    frames: int, scale: float, rng: Rng, *, speed: float = 1.0, far: float = 0.5
) -> Poses:
    """Motion (T, 6) relative to the start in single steps; with a chance of `far`, frame 1 is several from frame 0."""
    pace = (
        speed
        * rng.choice([0.01, 0.05, 0.15], p=[0.25, 0.45, 0.3])
        * np.array([scale, scale, 1, 0.7, 0.4, 0.4])
    )
    velocity, path = rng.standard_normal(6) * pace, np.zeros((frames, 6))
    reach = rng.uniform(1, 5) if rng.random() < far else 1.0
    for t in range(1, frames):
        velocity = velocity + 0.4 * rng.standard_normal(6) * pace
        path[t] = path[t - 1] + velocity * (reach if t == 1 else 1.0)
    path[:, 2] *= 1.2
    path[:, 3] = np.clip(path[:, 3], -1.2, 1.2)
    path[:, 4:] = np.clip(path[:, 4:], -0.5, 0.5)
    return path


def warp_sprite(sprite: Sprite, poses: Poses, rng: Rng) -> Layer:
    """A layer whose exposure blurs its motion sometimes; a sprite of one part mostly moves elastically."""
    shutter = float(rng.choice([0, 0.5, 1.0], p=[0.6, 0.2, 0.2]))
    if len(sprite) > 1 or rng.random() < 0.35:
        return Layer(sprite, poses, shutter=shutter)
    side = sprite[0].picture.shape[0]
    strength = rng.choice([0.01, 0.025, 0.05]) * side
    warp = np.zeros((len(poses), 2, side, side), np.float32)
    for t in range(1, len(poses)):
        change = np.stack([noise(side, 4, rng), noise(side, 4, rng)])
        warp[t] = warp[t - 1] + change * strength * (1.0 if t == 1 else 0.35)
    return Layer(sprite, poses, warp, shutter)


def make_crops(poses: Poses, size: tuple[int, int], follow: bool, rng: Rng) -> list[Matrix]:
    """For each frame the (3, 3) map from scene to pixels: fixed, or following the object as closely as one does.

    Now and then the object comes in over the edge of the frame, or goes out, as far as half of it.
    """
    height, width = size
    offsets = np.zeros((len(poses), 2))
    if follow and rng.random() < 0.3:
        way = np.linspace(1, 0, len(poses)) if rng.random() < 0.7 else np.linspace(0, 1, len(poses))
        offsets = way[:, None] * rng.uniform(-0.5, 0.5, 2) * np.array(size[::-1]) / min(size)
    crops = []
    for pose, offset in zip(poses, offsets, strict=True):
        centre, zoom = np.zeros(2), 1.0
        if follow:
            centre = pose[:2] + offset + rng.normal(0, 0.09, 2)
            zoom = float(np.exp(poses[0, 3] - pose[3] + rng.normal(0, 0.15)))
        scale = zoom * min(size)
        crops.append(
            np.array(
                [
                    [scale, 0, width / 2 - scale * centre[0]],
                    [0, scale, height / 2 - scale * centre[1]],
                    [0, 0, 1],
                ]
            )
        )
    return crops


def inpaint_object(photo: Pixels) -> Pixels:
    """The scenery (h, w, 3) of a scene (h, w, 4) with the hole of its subject filled from around it (Telea, 2004)."""
    hole = cv2.dilate((photo[..., 3] > 0.05).astype(np.uint8), np.ones((7, 7), np.uint8))
    seen = np.rint(photo[..., :3] * 255).astype(np.uint8)
    return np.asarray(cv2.inpaint(seen, hole, 4, cv2.INPAINT_TELEA), np.float32) / np.float32(255)


def _add_distractors(scenery: Pixels, layer: Layer, rng: Rng) -> Pixels:
    """Scenery with a dozen or fewer lookalikes of a sprite standing in it, each a little another colour and size."""
    side = scenery.shape[0]
    for _ in range(rng.integers(3, 12)):
        x, y = rng.uniform(0.15, 0.85) * side, rng.uniform(0.25, 0.75) * side
        scale = np.exp(layer.poses[0, 3] + rng.normal(-0.1, 0.3)) * side / 2.2
        place = shift(x, y) @ turn(rng.normal(0, 0.2)) @ np.diag([scale, scale, 1])
        drawn = draw_parts(layer, int(rng.integers(len(layer.poses))), place, (side, side))
        colour = drawn[..., :3] * rng.uniform(0.7, 1.3, 3) if rng.random() < 0.7 else drawn[..., :3]
        scenery = np.asarray(scenery * (1 - drawn[..., 3:]) + np.clip(colour, 0, 1), np.float32)
    return scenery
