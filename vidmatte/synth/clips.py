"""Make procedural training clips of sprites over a photograph, with the exact alpha of one.

A clip has the structure of a use: frame 0 is the reference and carries the marks, frame 1 is often
several steps away from it, and the rest follow one step after another. In most clips the frames are
windows that follow the object, as at inference. Every random choice comes from the seed, so a clip
can be made again anywhere.
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
"""Factors on a pose: a background shifts as much as a sprite, but turns, grows and shears less."""
_REACH = 2.2
"""Height of the scenery in shares of the frame's shorter side: room for the camera to follow."""
_SPRITE_SHARE = 0.8
"""Share of a sprite's picture that its content takes."""


def make_clip(
    corpus: Corpus,
    size: tuple[int, int],
    frames: int,
    prompt: PromptKind,
    seed: int,
    *,
    still: bool = False,
) -> Clip:
    """Make the clip that belongs to a seed.

    Args:
        corpus: photographs for sprites and scenery.
        size: height and width in pixels.
        frames: number of frames, 2 or more.
        prompt: kind of the marks on frame 0.
        seed: of all random choices.
        still: keep the camera from following the object.
    """
    rng = np.random.default_rng(seed)
    follow = rng.random() < 0.72 and not still
    # A marked frame is compared with its neighbour; a matted one often with one further off.
    speed = 0.25
    far = 0.15
    # Marks are learnt best in their real setting: on objects in their photographs.
    photo_chance = 0.5
    if prompt == "mask":
        speed = float(rng.choice([0.4, 1.0]))
        far = 0.5
        photo_chance = 0.15
    photo = corpus.scene(rng) if rng.random() < photo_chance else None
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
    """Make a scene of a photograph (S, S, 4) with its subject in place, and other sprites.

    A subject that leaves its place teaches common motion; one that stays, what marks alone can say.
    """
    extent = float(rng.uniform(0.9, 1.7))
    loose = rng.random() < 0.6
    subject = [SpritePart(premultiply(photo[..., :3], photo[..., 3]))]
    short = min(size)
    layers, marked = _make_layers(
        corpus, subject, short, frames, extent, rng, speed=speed, far=far, rigid=not loose
    )
    poses = layers[marked].poses
    ground = poses
    scenery = photo[..., :3]
    if loose:
        drift = 0.3 * make_path(frames, 0.5, rng, speed=speed) * BACKGROUND_MOTION
        ground = poses[0] + drift
        # The subject moves away from its place, so the scenery must not show it there.
        scenery = inpaint_object(photo)
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
    """Make a scene of sprites over a photograph; the marked one may be absent in one frame."""
    # A camera that follows makes small objects large, so the smallest appear only without it.
    least = 0.28 if follow else 0.1
    extent = float(np.exp(rng.uniform(np.log(least), np.log(0.85))))
    short = min(size)
    sprite = make_sprite(corpus, _side(extent, short), rng)
    layers, marked = _make_layers(
        corpus, sprite, short, frames, extent, rng, speed=speed, far=far, twins=True
    )
    crops = make_crops(layers[marked].poses, size, follow, rng)
    if frames > 2 and rng.random() < 0.12:
        # Four frames' widths away is out of sight. The crops do not follow it there.
        poses = layers[marked].poses.copy()
        poses[rng.integers(1, frames)] += np.array([4.0, 4.0, 0, 0, 0, 0])
        layers[marked] = replace(layers[marked], poses=poses)
    scenery = corpus.texture(int(1.5 * max(size)), rng, least=0.5)
    if rng.random() < 0.3:
        blurred = cv2.GaussianBlur(scenery, (0, 0), float(rng.uniform(0.8, 3)))
        scenery = np.asarray(blurred, np.float32)
    if rng.random() < 0.22:
        scenery = _add_distractors(scenery, layers[marked], rng)
    scale = 0.5 if rng.random() < 0.7 else 0.0
    ground = make_path(frames, scale, rng, speed=speed) * BACKGROUND_MOTION
    return Scene(layers, marked, scenery, ground, _REACH, crops)


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
    """Place the target among up to three other sprites.

    Args:
        corpus: source of the other sprites.
        target: sprite of the target.
        short: shorter side of the frame in pixels.
        frames: number of frames.
        extent: size of the target in shares of the frame's shorter side.
        rng: of all draws.
        speed: see `make_path`.
        far: see `make_path`.
        rigid: the target neither bends nor blurs, as it moves as one with the scenery.
        twins: some of the others have the target's look.

    Returns:
        The layers, back to front, and the index of the target.
    """
    count = 1 + int(rng.choice(4, p=[0.25, 0.4, 0.25, 0.1]))
    marked = int(rng.integers(count))
    layers: list[Layer] = []
    for i in range(count):
        is_target = i == marked
        # Drawn for the target, too: one draw more keeps the seeds' clips as they are.
        twin = twins and rng.random() < 0.22
        sprite = target
        if not (is_target or twin):
            sprite = make_sprite(corpus, _side(extent, short), rng)
        scale = extent / _SPRITE_SHARE
        offset = 0.3
        if not is_target:
            scale = min(extent, 0.9) / _SPRITE_SHARE * np.exp(rng.uniform(-0.8, 0.8))
            offset = 0.7
        path = make_path(frames, scale, rng, speed=speed, far=far)
        path[:, :2] += rng.uniform(-offset, offset, 2)
        path[:, 3] += np.log(scale)
        if is_target and rigid:
            layers.append(Layer(sprite, path))
        else:
            layers.append(warp_sprite(sprite, path, rng))
    return layers, marked


def _side(extent: float, short: int) -> int:
    """Return the side in pixels of a picture for a sprite of this share of the shorter side.

    The picture is 1 / `_SPRITE_SHARE` times as large as the sprite.
    """
    return int(np.clip(1.25 * extent * short, 48, 224))


def make_path(
    frames: int, scale: float, rng: Rng, *, speed: float = 1.0, far: float = 0.5
) -> Poses:
    """Draw a motion (T, 6) relative to frame 0, as the poses of `Layer`.

    Args:
        frames: T.
        scale: factor on the shifts; a small sprite moves less.
        rng: of all draws.
        speed: factor on all motion.
        far: chance that frame 1 is several steps away from frame 0.
    """
    pace = speed * rng.choice([0.01, 0.05, 0.15], p=[0.25, 0.45, 0.3])
    pace = pace * np.array([scale, scale, 1, 0.7, 0.4, 0.4])
    velocity = rng.standard_normal(6) * pace
    path = np.zeros((frames, 6))
    reach = rng.uniform(1, 5) if rng.random() < far else 1.0
    for t in range(1, frames):
        velocity = velocity + 0.4 * rng.standard_normal(6) * pace
        path[t] = path[t - 1] + velocity * (reach if t == 1 else 1.0)
    path[:, 2] *= 1.2
    # Beyond these limits the sprite would vanish, fill the frame or become a line.
    path[:, 3] = np.clip(path[:, 3], -1.2, 1.2)
    path[:, 4:] = np.clip(path[:, 4:], -0.5, 0.5)
    return path


def warp_sprite(sprite: Sprite, poses: Poses, rng: Rng) -> Layer:
    """Make a layer of a sprite, sometimes with motion blur; most of a single part are elastic."""
    shutter = float(rng.choice([0, 0.5, 1.0], p=[0.6, 0.2, 0.2]))
    if len(sprite) > 1 or rng.random() < 0.35:
        return Layer(sprite, poses, shutter=shutter)
    side = sprite[0].picture.shape[0]
    strength = rng.choice([0.01, 0.025, 0.05]) * side
    warp = np.zeros((len(poses), 2, side, side), np.float32)
    for t in range(1, len(poses)):
        change = np.stack([noise(side, 4, rng), noise(side, 4, rng)])
        # Frame 1 is some way off the reference, in shape as in place.
        warp[t] = warp[t - 1] + change * strength * (1.0 if t == 1 else 0.35)
    return Layer(sprite, poses, warp, shutter)


def make_crops(poses: Poses, size: tuple[int, int], follow: bool, rng: Rng) -> list[Matrix]:
    """Return for each frame the (3, 3) map from the scene to pixels.

    The crops are fixed, or follow the object with the errors of a tracker. Sometimes the object
    enters or leaves over the edge of the frame, by up to half of the frame.

    Args:
        poses: (T, 6) of the object.
        size: height and width of the frame in pixels.
        follow: whether the crops follow.
        rng: of all draws.
    """
    height, width = size
    short = min(size)
    offsets = np.zeros((len(poses), 2))
    if follow and rng.random() < 0.3:
        enters = rng.random() < 0.7
        way = np.linspace(1, 0, len(poses)) if enters else np.linspace(0, 1, len(poses))
        offsets = way[:, None] * rng.uniform(-0.5, 0.5, 2) * np.array([width, height]) / short
    crops = []
    for pose, offset in zip(poses, offsets, strict=True):
        centre = np.zeros(2)
        zoom = 1.0
        if follow:
            centre = pose[:2] + offset + rng.normal(0, 0.09, 2)
            zoom = float(np.exp(poses[0, 3] - pose[3] + rng.normal(0, 0.15)))
        scale = zoom * short
        left = width / 2 - scale * centre[0]
        top = height / 2 - scale * centre[1]
        crops.append(np.array([[scale, 0, left], [0, scale, top], [0, 0, 1]]))
    return crops


def inpaint_object(photo: Pixels) -> Pixels:
    """Return the colour (h, w, 3) of a scene (h, w, 4) with its subject filled in (Telea, 2004)."""
    subject = (photo[..., 3] > 0.05).astype(np.uint8)
    # The matte is only about right, so the hole is made a little larger.
    hole = cv2.dilate(subject, np.ones((7, 7), np.uint8))
    seen = np.rint(photo[..., :3] * 255).astype(np.uint8)
    filled = cv2.inpaint(seen, hole, 4, cv2.INPAINT_TELEA)
    return np.asarray(filled, np.float32) / np.float32(255)


def _add_distractors(scenery: Pixels, layer: Layer, rng: Rng) -> Pixels:
    """Paint 3 to 11 lookalikes of a sprite on the scenery (S, S, 3), varied in colour and size."""
    side = scenery.shape[0]
    for _ in range(rng.integers(3, 12)):
        x = rng.uniform(0.15, 0.85) * side
        y = rng.uniform(0.25, 0.75) * side
        # About the size of the sprite itself when the scenery is seen.
        scale = np.exp(layer.poses[0, 3] + rng.normal(-0.1, 0.3)) * side / _REACH
        place = shift(x, y) @ turn(rng.normal(0, 0.2)) @ np.diag([scale, scale, 1])
        frame = int(rng.integers(len(layer.poses)))
        drawn = draw_parts(layer, frame, place, (side, side))
        tint = rng.uniform(0.7, 1.3, 3) if rng.random() < 0.7 else np.float32(1)
        shown = scenery * (1 - drawn[..., 3:]) + np.clip(drawn[..., :3] * tint, 0, 1)
        scenery = np.asarray(shown, np.float32)
    return scenery
