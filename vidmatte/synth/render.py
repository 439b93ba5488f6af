"""Render sprites and their motion to the frames of a clip: drawing, light, camera, codec, prompt and optical flow."""

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
        flow: (T, h, w, 2) float32; from frame t to frame t - 1 as seen through the window of t, by optical flow. From
            frame 0, which has none before it, to frame 1.
        flow_known: (T, h, w) uint8, 1 where the flow and the opposite one agree, else 0.
        between: (T, 2, 3) float32 affine map from pixels of the window of t to those of the other frame.
        labels: (1, h, w) uint8, 255 object or 0 background, read where `known`.
        known: (1, h, w) uint8, 1 where the reference is marked.
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
    """A sprite with its way through the clip.

    Attributes:
        poses: (T, 6) x, y, rotation, log of scale, two shears; lengths in shares of the frame's shorter side.
        warp: (T, 2, S, S) elastic displacement of the picture in pixels, or None.
        shutter: share of a frame's motion that blurs it.
    """

    sprite: Sprite
    poses: NDArray[np.float64]
    warp: NDArray[np.float32] | None = None
    shutter: float = 0.0


@dataclass(frozen=True)
class Scene:
    """Everything in a clip of T frames.

    Attributes:
        layers: sprites, back to front; `marked` is the index of the one whose matte is asked for.
        scenery: (S, S', 3) what is behind them, mirrored at its edges.
        ground: (T, 6) poses of the scenery; `reach` is its height in shares of the frame's shorter side.
        windows: for each frame the (3, 3) map from the scene to pixels.
    """

    layers: list[Layer]
    marked: int
    scenery: Pixels
    ground: Poses
    reach: float
    crops: list[Matrix]


def render(scene: Scene, size: tuple[int, int], prompt: PromptKind, rng: Rng) -> Clip:
    """Film a stage in frames of a size, and mark the first one."""
    rgb, alpha = _render(scene, size, rng)
    labels, known = make_prompt(alpha[0, 0], prompt, rng)
    crops, frames = scene.crops, len(rgb)
    between = [crops[abs(t - 1)] @ np.linalg.inv(crops[t]) for t in range(frames)]
    flows = [flow_between(rgb[t], rgb[abs(t - 1)], between[t]) for t in range(frames)]
    flow = np.stack([each for each, _ in flows])
    flow_known = np.stack([known for _, known in flows])
    affine = np.stack(between)[:, :2].astype(np.float32)
    frames_first = rgb.transpose(0, 3, 1, 2).copy()
    return Clip(frames_first, alpha, flow, flow_known, affine, labels[None], known[None])


def _render(
    scene: Scene, size: tuple[int, int], rng: Rng
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw all frames: (T, h, w, 3) and the marked sprite's visible alpha (T, 1, h, w)."""
    height, width = size
    tall, wide = scene.scenery.shape[:2]
    to_unit = np.diag([scene.reach / tall, scene.reach / tall, 1]) @ shift(-wide / 2, -tall / 2)
    shade = _shade(rng)
    frames, alphas = [], []
    for t, crop in enumerate(scene.crops):
        base = crop @ to_matrix(scene.ground[t]) @ to_unit
        behind = cv2.warpAffine(
            scene.scenery, base[:2], (width, height), borderMode=cv2.BORDER_REFLECT_101
        )
        image: Pixels = np.asarray(behind, np.float32)
        seen = np.zeros((height, width), np.float32)
        for i, layer in enumerate(scene.layers):
            drawn = draw_layer(layer, t, crop, size)
            image = np.asarray(
                shade(image, drawn[..., 3]) * (1 - drawn[..., 3:]) + drawn[..., :3], np.float32
            )
            seen = seen * (1 - drawn[..., 3]) + (drawn[..., 3] if i == scene.marked else 0)
        frames.append(image)
        alphas.append(seen)
    rgb = camera_effects(np.stack(frames), rng)
    return rgb, np.rint(np.clip(np.stack(alphas), 0, 1) * 255).astype(np.uint8)[:, None]


def flow_between(
    now: NDArray[np.uint8], other: NDArray[np.uint8], between: Matrix
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return the optical flow (h, w, 2) from a frame (h, w, 3) to another, and where it is known.

    The other frame is first seen through this one's window, so that the flow has only the motion left to find.
    """
    height, width = now.shape[:2]
    there = cv2.warpAffine(
        other,
        between[:2],
        (width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    target, source = (
        np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), np.uint8) for frame in (now, there)
    )
    flow = optical_flow(target, source)
    agrees = flow_agreement(flow, optical_flow(source, target))
    return flow, agrees.astype(np.uint8)


def draw_layer(layer: Layer, t: int, crop: Matrix, size: tuple[int, int]) -> Pixels:
    """A sprite as seen in frame t, premultiplied (h, w, 4); averaged over the shutter's opening if it has one."""
    moved = (
        layer.poses[t] - layer.poses[t - 1]
        if t > 1
        else 0.1 * (layer.poses[min(1, len(layer.poses) - 1)] - layer.poses[0])
    )
    pixels = float(np.abs(moved[:2]).max() * crop[0, 0]) * layer.shutter
    samples = int(np.clip(pixels / 2, 1, 7))
    drawn = np.zeros((*size, 4), np.float32)
    for offset in np.linspace(-0.5, 0.5, samples) if samples > 1 else [0.0]:
        pose = crop @ to_matrix(layer.poses[t] + offset * layer.shutter * moved)
        drawn += draw_parts(layer, t, pose, size) / samples
    return np.clip(drawn, 0, 1)


def draw_parts(layer: Layer, t: int, pose: Matrix, size: tuple[int, int]) -> Pixels:
    """A sprite's parts in frame t, premultiplied (h, w, 4), each on the part that carries it."""
    drawn = np.zeros((*size, 4), np.float32)
    carried: list[Matrix] = []
    for part in layer.sprite:
        base = carried[part.parent] if part.parent >= 0 else pose
        carried.append(base @ shift(*part.joint) @ turn(_angle(part, t)))
        picture = part.seen(_turns(t))
        side = picture.shape[0]
        if layer.warp is not None:
            grid = np.mgrid[:side, :side].astype(np.float32)
            bent = cv2.remap(
                picture, grid[1] + layer.warp[t, 0], grid[0] + layer.warp[t, 1], cv2.INTER_LINEAR
            )
            picture = np.asarray(bent, np.float32)
        place = (
            carried[-1]
            @ shift(*part.offset)
            @ np.diag([part.size / side, part.size / side, 1])
            @ shift(-side / 2, -side / 2)
        )
        layered = cv2.warpAffine(picture, place[:2], (size[1], size[0]), flags=cv2.INTER_LINEAR)
        drawn = drawn * (1 - layered[..., 3:]) + layered
    return drawn


def camera_effects(frames: Pixels, rng: Rng) -> NDArray[np.uint8]:
    """What a camera and a codec do to frames (T, h, w, 3) 0-1: light, gamma, blur, noise, compression."""
    gamma, drifting = np.exp(rng.normal(0, 0.2)), rng.random() < 0.35
    blur, grain = (
        rng.choice([0.0, 0.6, 1.2], p=[0.6, 0.25, 0.15]),
        rng.choice([0.0, 0.01, 0.03], p=[0.4, 0.4, 0.2]),
    )
    quality = int(rng.integers(20, 96)) if rng.random() < 0.6 else 100
    return np.stack(
        [_expose(frame, gamma, drifting, float(blur), grain, quality, rng) for frame in frames]
    )


def _expose(
    frame: Pixels, gamma: float, drifting: bool, blur: float, grain: float, quality: int, rng: Rng
) -> NDArray[np.uint8]:
    """One frame of `camera_effects`; quality 100 is left uncompressed."""
    seen = np.clip(frame, 0, 1) ** gamma
    if drifting:
        seen = seen * rng.uniform(0.8, 1.2) + rng.uniform(-0.06, 0.06, 3)
    if blur:
        seen = np.asarray(cv2.GaussianBlur(seen, (0, 0), blur))
    seen = seen + grain * rng.standard_normal(frame.shape, dtype=np.float32)
    pixels: NDArray[np.uint8] = np.rint(np.clip(seen, 0, 1) * 255).astype(np.uint8)
    if quality < 100:
        _, packed = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
        pixels = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)
    return pixels


def _shade(rng: Rng) -> Callable[[Pixels, Pixels], Pixels]:
    """A function (image, alpha) -> image: a soft shadow of a sprite on what is behind it, or nothing."""
    if rng.random() > 0.3:
        return lambda image, alpha: image
    strength, offset = rng.uniform(0.2, 0.6), rng.uniform(-0.15, 0.15, 2)

    def throw(image: Pixels, alpha: Pixels) -> Pixels:
        height, width = alpha.shape
        moved = cv2.warpAffine(alpha, shift(*(offset * min(height, width)))[:2], (width, height))
        return np.asarray(
            image
            * (1 - strength * cv2.GaussianBlur(moved, (0, 0), min(height, width) / 40))[..., None],
            np.float32,
        )

    return throw


def _angle(part: SpritePart, t: int) -> float:
    amplitude, cycles, phase = part.oscillation
    return part.rest + amplitude * float(np.sin(phase + 2 * np.pi * cycles * _turns(t)))


def _turns(t: int) -> float:
    """Steps of a sprite's own motion until frame t: frame 1 is some way off the reference."""
    return float(t + 3 * (t > 0))


def to_matrix(pose: NDArray[np.float64]) -> Matrix:
    """Return the (3, 3) map of a pose: x, y, rotation, log of scale, two shears."""
    x, y, angle, log_scale, shear_x, shear_y = pose
    scale = np.exp(log_scale)
    shear = np.array([[1, shear_x, 0], [shear_y, 1, 0], [0, 0, 1.0]])
    return np.asarray(shift(x, y) @ turn(angle) @ shear @ np.diag([scale, scale, 1]))


def shift(x: float, y: float) -> Matrix:
    """The (3, 3) map that moves by (x, y)."""
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])


def turn(angle: float) -> Matrix:
    """The (3, 3) map that turns by an angle in radians."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1.0]])
