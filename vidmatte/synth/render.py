"""Render sprites and their motion to the frames of a clip.

Covers drawing, light, camera, codec, prompt and optical flow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vidmatte.imaging.arrays import Pixels
from vidmatte.imaging.optical_flow import flow_agreement, optical_flow
from vidmatte.synth.corpus import Rng
from vidmatte.synth.prompts import PromptKind, make_prompt
from vidmatte.synth.sprites import Matrix, Sprite, SpritePart

Poses = NDArray[np.float64]


@dataclass(frozen=True)
class Clip:
    """One training sample of T frames of h x w.

    Attributes:
        rgb: (T, 3, h, w) uint8.
        alpha: (T, 1, h, w) uint8, the truth.
        flow: (T, h, w, 2) float32 optical flow from frame t to frame t - 1, both in the
            window of t. Frame 0 has no predecessor: its flow leads to frame 1.
        flow_known: (T, h, w) uint8, 1 if the flow and the opposite one agree, else 0.
        between: (T, 2, 3) float32 affine map from pixels of the window of t to pixels of the other
            frame's window.
        labels: (1, h, w) uint8, 255 object or 0 background; read only if `known`.
        known: (1, h, w) uint8, 1 on the marks of the reference.
    """

    rgb: NDArray[np.uint8]
    alpha: NDArray[np.uint8]
    flow: NDArray[np.float32]
    flow_known: NDArray[np.uint8]
    between: NDArray[np.float32]
    labels: NDArray[np.uint8]
    known: NDArray[np.uint8]


@dataclass(frozen=True)
class Layer:
    """A sprite and its motion through the clip.

    Attributes:
        sprite: its parts.
        poses: (T, 6) x, y, rotation in radians, log of scale, two shears; lengths in shares of the
            frame's shorter side.
        warp: (T, 2, S, S) elastic displacement of the picture in pixels, or None.
        shutter: share of a frame's motion during the exposure.
    """

    sprite: Sprite
    poses: NDArray[np.float64]
    warp: NDArray[np.float32] | None = None
    shutter: float = 0.0


@dataclass(frozen=True)
class Scene:
    """Everything in a clip of T frames.

    Attributes:
        layers: sprites, back to front.
        marked: index of the layer that the matte is of.
        scenery: (S, S', 3) picture behind the sprites, mirrored at its edges.
        ground: (T, 6) poses of the scenery.
        reach: height of the scenery in shares of the frame's shorter side.
        crops: for each frame the (3, 3) map from the scene to pixels.
    """

    layers: list[Layer]
    marked: int
    scenery: Pixels
    ground: Poses
    reach: float
    crops: list[Matrix]


def render(scene: Scene, size: tuple[int, int], prompt: PromptKind, rng: Rng) -> Clip:
    """Render a scene to frames of a size (h, w), and mark the first one."""
    rgb, alpha = _render(scene, size, rng)
    labels, known = make_prompt(alpha[0, 0], prompt, rng)
    crops = scene.crops
    between = []
    flows = []
    agreements = []
    for t, crop in enumerate(crops):
        # The frame before, or for frame 0 the one after it.
        other = abs(t - 1)
        to_other = crops[other] @ np.linalg.inv(crop)
        flow, agrees = flow_between(rgb[t], rgb[other], to_other)
        between.append(to_other)
        flows.append(flow)
        agreements.append(agrees)
    return Clip(
        rgb.transpose(0, 3, 1, 2).copy(),
        alpha,
        np.stack(flows),
        np.stack(agreements),
        np.stack(between)[:, :2].astype(np.float32),
        labels[None],
        known[None],
    )


def _render(
    scene: Scene, size: tuple[int, int], rng: Rng
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw all frames: (T, h, w, 3) and the marked sprite's visible alpha (T, 1, h, w)."""
    height, width = size
    tall, wide = scene.scenery.shape[:2]
    # The scenery is `reach` times as high as the shorter side of the frame.
    unit = scene.reach / tall
    to_unit = np.diag([unit, unit, 1]) @ shift(-wide / 2, -tall / 2)
    shade = _shade(rng)
    frames = []
    alphas = []
    for t, crop in enumerate(scene.crops):
        base = crop @ to_matrix(scene.ground[t]) @ to_unit
        behind = cv2.warpAffine(
            scene.scenery, base[:2], (width, height), borderMode=cv2.BORDER_REFLECT_101
        )
        image: Pixels = np.asarray(behind, np.float32)
        seen = np.zeros((height, width), np.float32)
        for i, layer in enumerate(scene.layers):
            drawn = draw_layer(layer, t, crop, size)
            cover = drawn[..., 3]
            over = shade(image, cover) * (1 - cover[..., None]) + drawn[..., :3]
            image = np.asarray(over, np.float32)
            # Sprites in front of the marked one hide its alpha.
            seen = seen * (1 - cover) + (cover if i == scene.marked else 0)
        frames.append(image)
        alphas.append(seen)
    rgb = camera_effects(np.stack(frames), rng)
    alpha = np.rint(np.clip(np.stack(alphas), 0, 1) * 255).astype(np.uint8)
    return rgb, alpha[:, None]


def flow_between(
    now: NDArray[np.uint8], other: NDArray[np.uint8], between: Matrix
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return the optical flow from a frame to another, and the mask of known pixels.

    The other frame is first warped to this one's window, so the flow holds only the remaining
    motion.

    Args:
        now: (h, w, 3) frame.
        other: (h, w, 3) frame.
        between: (3, 3) map from pixels of `now` to pixels of `other`.

    Returns:
        (h, w, 2) float32 flow in pixels, and (h, w) 1 if the opposite flow agrees, else 0.
    """
    height, width = now.shape[:2]
    there = cv2.warpAffine(
        other,
        between[:2],
        (width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    target = np.asarray(cv2.cvtColor(now, cv2.COLOR_RGB2GRAY), np.uint8)
    source = np.asarray(cv2.cvtColor(there, cv2.COLOR_RGB2GRAY), np.uint8)
    flow = optical_flow(target, source)
    # Forward and backward flow disagree at occlusions.
    agrees = flow_agreement(flow, optical_flow(source, target))
    return flow, agrees.astype(np.uint8)


def draw_layer(layer: Layer, t: int, crop: Matrix, size: tuple[int, int]) -> Pixels:
    """Draw a sprite in frame t, premultiplied (h, w, 4), averaged over the shutter's opening.

    Args:
        layer: the sprite and its motion.
        t: frame number.
        crop: (3, 3) map from the scene to pixels.
        size: height and width of the frame.
    """
    poses = layer.poses
    moved = _step(poses, t)
    pixels = float(np.abs(moved[:2]).max() * crop[0, 0]) * layer.shutter
    # A sample for every two pixels of motion, and few in all, as each is a drawing.
    samples = int(np.clip(pixels / 2, 1, 7))
    offsets = np.linspace(-0.5, 0.5, samples) if samples > 1 else np.zeros(1)
    drawn = np.zeros((*size, 4), np.float32)
    for offset in offsets:
        pose = crop @ to_matrix(poses[t] + offset * layer.shutter * moved)
        # The mean of the samples is the light of a long exposure.
        drawn += draw_parts(layer, t, pose, size) / samples
    return np.clip(drawn, 0, 1)


def _step(poses: Poses, t: int) -> NDArray[np.float64]:
    """Return the change of a pose (6,) in the single step that ends at frame t."""
    if t > 1:
        return np.asarray(poses[t] - poses[t - 1])
    # Frames 0 and 1 may be several steps apart: a single step is a part of that.
    return np.asarray(0.1 * (poses[min(1, len(poses) - 1)] - poses[0]))


def draw_parts(layer: Layer, t: int, pose: Matrix, size: tuple[int, int]) -> Pixels:
    """Draw a sprite's parts in frame t, premultiplied (h, w, 4), each on its parent.

    Args:
        layer: the sprite and its motion.
        t: frame number.
        pose: (3, 3) map from the sprite's square to pixels.
        size: height and width of the frame.
    """
    drawn = np.zeros((*size, 4), np.float32)
    carried: list[Matrix] = []
    for part in layer.sprite:
        # Parents come before their children in the list.
        base = carried[part.parent] if part.parent >= 0 else pose
        carried.append(base @ shift(*part.joint) @ turn(_angle(part, t)))
        picture = part.seen(_turns(t))
        side = picture.shape[0]
        if layer.warp is not None:
            rows, columns = np.mgrid[:side, :side].astype(np.float32)
            across, down = layer.warp[t]
            bent = cv2.remap(picture, columns + across, rows + down, cv2.INTER_LINEAR)
            picture = np.asarray(bent, np.float32)
        scale = np.diag([part.size / side, part.size / side, 1])
        place = carried[-1] @ shift(*part.offset) @ scale @ shift(-side / 2, -side / 2)
        layered = cv2.warpAffine(picture, place[:2], (size[1], size[0]), flags=cv2.INTER_LINEAR)
        drawn = drawn * (1 - layered[..., 3:]) + layered
    return drawn


def camera_effects(frames: Pixels, rng: Rng) -> NDArray[np.uint8]:
    """Apply the effects of a camera and a codec: light, gamma, blur, noise, compression.

    Args:
        frames: (T, h, w, 3) 0-1.
        rng: of all draws.

    Returns:
        (T, h, w, 3).
    """
    # Log-normal around 1: darker and lighter clips are equally frequent.
    gamma = np.exp(rng.normal(0, 0.2))
    drifting = rng.random() < 0.35
    blur = float(rng.choice([0.0, 0.6, 1.2], p=[0.6, 0.25, 0.15]))
    grain = rng.choice([0.0, 0.01, 0.03], p=[0.4, 0.4, 0.2])
    quality = int(rng.integers(20, 96)) if rng.random() < 0.6 else 100
    exposed = [_expose(frame, gamma, drifting, blur, grain, quality, rng) for frame in frames]
    return np.stack(exposed)


def _expose(
    frame: Pixels, gamma: float, drifting: bool, blur: float, grain: float, quality: int, rng: Rng
) -> NDArray[np.uint8]:
    """Apply `camera_effects` to one frame (h, w, 3); quality 100 stays uncompressed."""
    seen = np.clip(frame, 0, 1) ** gamma
    if drifting:
        # Exposure and white balance of each frame differ.
        seen = seen * rng.uniform(0.8, 1.2) + rng.uniform(-0.06, 0.06, 3)
    if blur:
        seen = np.asarray(cv2.GaussianBlur(seen, (0, 0), blur))
    seen = seen + grain * rng.standard_normal(frame.shape, dtype=np.float32)
    pixels: NDArray[np.uint8] = np.rint(np.clip(seen, 0, 1) * 255).astype(np.uint8)
    if quality < 100:
        # JPEG stands in for the blocks and the ringing of a video codec.
        _, packed = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
        pixels = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)
    return pixels


def _shade(rng: Rng) -> Callable[[Pixels, Pixels], Pixels]:
    """Return a function (image, alpha) -> image for a sprite's soft shadow, or for none."""
    if rng.random() > 0.3:
        return lambda image, alpha: image
    strength = rng.uniform(0.2, 0.6)
    offset = rng.uniform(-0.15, 0.15, 2)

    def throw(image: Pixels, alpha: Pixels) -> Pixels:
        height, width = alpha.shape
        short = min(height, width)
        moved = cv2.warpAffine(alpha, shift(*(offset * short))[:2], (width, height))
        shadow = cv2.GaussianBlur(moved, (0, 0), short / 40)
        return np.asarray(image * (1 - strength * shadow)[..., None], np.float32)

    return throw


def _angle(part: SpritePart, t: int) -> float:
    """Return the angle of a part in frame t, in radians."""
    amplitude, cycles, phase = part.oscillation
    return part.rest + amplitude * float(np.sin(phase + 2 * np.pi * cycles * _turns(t)))


def _turns(t: int) -> float:
    """Return the steps of a sprite's own motion up to frame t.

    Frame 1 is some way off the reference, so it counts four.
    """
    return float(t + 3 * (t > 0))


def to_matrix(pose: NDArray[np.float64]) -> Matrix:
    """Return the (3, 3) map of a pose: x, y, rotation, log of scale, two shears."""
    x, y, angle, log_scale, shear_x, shear_y = pose
    scale = np.exp(log_scale)
    shear = np.array([[1, shear_x, 0], [shear_y, 1, 0], [0, 0, 1.0]])
    return np.asarray(shift(x, y) @ turn(angle) @ shear @ np.diag([scale, scale, 1]))


def shift(x: float, y: float) -> Matrix:
    """Return the (3, 3) map of a shift by (x, y)."""
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])


def turn(angle: float) -> Matrix:
    """Return the (3, 3) map of a turn by an angle in radians."""
    cosine = np.cos(angle)
    sine = np.sin(angle)
    return np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1.0]])
