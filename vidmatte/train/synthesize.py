"""Procedural training clips: things that move over a photograph, one of them marked, with exact alpha.

A clip is built as it will be met: frame 0 is the reference and carries the marks, frame 1 is often some way off, the
rest follow it one by one. In most clips the frames are windows that follow the object, as at inference. Every random
choice comes from the seed, so that a clip can be made again anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from vidmatte.flow import optical_flow
from vidmatte.train.corpus import Corpus, Image, Rng
from vidmatte.train.things import Matrix, Part, Thing, make_thing, noise, premultiply

Prompt = Literal["mask", "clicks", "strokes", "box"]


@dataclass(frozen=True)
class Clip:
    """One training sample of T frames of h x w.

    Attributes:
        rgb: (T, 3, h, w) uint8.
        alpha: (T, 1, h, w) uint8, the truth.
        backward: (T, h, w, 2) float32; for each pixel of frame t its (x, y) in frame t - 1, by optical flow.
        marks: (1, h, w) uint8, 255 object or 0 background, read where `known`.
        known: (1, h, w) uint8, 1 where the reference is marked.
    """

    rgb: NDArray[np.uint8]
    alpha: NDArray[np.uint8]
    backward: NDArray[np.float32]
    marks: NDArray[np.uint8]
    known: NDArray[np.uint8]


@dataclass(frozen=True)
class Layer:
    """A thing with its way through the clip.

    Attributes:
        poses: (T, 6) x, y, rotation, log of scale, two shears; lengths in shares of the frame's shorter side.
        warp: (T, 2, S, S) elastic displacement of the picture in pixels, or None.
        shutter: share of a frame's motion that blurs it.
    """

    thing: Thing
    poses: NDArray[np.float64]
    warp: NDArray[np.float32] | None = None
    shutter: float = 0.0


def make_clip(
    corpus: Corpus, size: tuple[int, int], frames: int, prompt: Prompt, seed: int, *, still: bool = False
) -> Clip:
    """Make the clip that belongs to a seed; `still` keeps the camera from following the object."""
    rng = np.random.default_rng(seed)
    short = min(size)
    follow = rng.random() < 0.72 and not still
    extent = float(np.exp(rng.uniform(np.log(0.28 if follow else 0.1), np.log(0.85))))
    # Marks are learnt best where they will be made: on things in their photographs.
    scene = corpus.scene(rng) if rng.random() < (0.15 if prompt == "mask" else 0.35) else None
    if scene is not None:
        extent = float(rng.uniform(0.9, 1.7))
    layers, marked = _make_layers(corpus, short, frames, extent, scene, rng)
    windows = _windows(layers[marked].poses, size, follow, rng)
    absent = scene is None and frames > 2 and rng.random() < 0.12
    if absent:
        poses = layers[marked].poses.copy()
        poses[rng.integers(1, frames)] += np.array([4.0, 4.0, 0, 0, 0, 0])
        layers[marked] = replace(layers[marked], poses=poses)
    rgb, alpha = _render(corpus, layers, marked, windows, size, scene, rng)
    marks, known = make_marks(alpha[0, 0], prompt, rng)
    backward = np.stack([trace_back(rgb, windows, t) for t in range(frames)])
    return Clip(rgb.transpose(0, 3, 1, 2).copy(), alpha, backward, marks[None], known[None])


def make_marks(alpha: NDArray[np.uint8], prompt: Prompt, rng: Rng) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Simulate what a person marks on a reference: labels 0 or 255 (h, w), and where they are known (h, w) 0 or 1."""
    inside, outside = (alpha > 180).astype(np.uint8), (alpha < 13).astype(np.uint8)
    known = np.zeros_like(alpha)
    if prompt == "mask" or inside.sum() < 12:
        return alpha.copy(), np.ones_like(alpha)
    if prompt == "box":
        return np.full_like(alpha, 0), 1 - _box(inside, rng)
    radius = max(1, round(mark_radius(alpha.shape) * float(np.exp(rng.uniform(-0.4, 0.9)))))
    if prompt == "clicks":
        for region, count in ((inside, rng.integers(1, 6)), (_outside_near(inside, outside, rng), rng.integers(4))):
            for x, y in _draw_points(region, int(count), rng):
                cv2.circle(known, (x, y), radius, 1, -1)
    else:
        for region, count in ((inside, rng.integers(1, 4)), (_outside_near(inside, outside, rng), rng.integers(3))):
            for start in _draw_points(region, int(count), rng):
                turns = np.cumsum(rng.normal(0, 0.5, 12)) + rng.uniform(0, 6.3)
                step = rng.uniform(0.01, 0.05) * min(alpha.shape)
                path = np.cumsum(step * np.stack([np.cos(turns), np.sin(turns)], 1), 0) + np.array(start)
                stroke = np.zeros_like(known)
                cv2.polylines(stroke, [path.astype(np.int32)], False, 1, 2 * radius - 1)
                known |= stroke & region
    known &= inside | outside
    return inside * np.uint8(255), known


def mark_radius(size: tuple[int, ...]) -> int:
    """Radius in pixels of the disc that stands for a click on a frame of a working size: 2 at 128, 4 at 256."""
    return max(2, round(min(size) / 64))


def trace_back(rgb: NDArray[np.uint8], windows: list[Matrix], t: int) -> NDArray[np.float32]:
    """For each pixel of frame t its place in frame t - 1, (h, w, 2), by optical flow.

    The earlier frame is first seen through the later window, so that the flow has only the motion left to find.
    """
    height, width = rgb.shape[1:3]
    if t == 0:
        return np.zeros((height, width, 2), np.float32)
    between = windows[t - 1] @ np.linalg.inv(windows[t])
    earlier = cv2.warpAffine(
        rgb[t - 1],
        between[:2],
        (width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    places = _places(rgb[t], np.asarray(earlier, np.uint8))
    return np.asarray(places @ between[:2, :2].T + between[:2, 2], np.float32)


def _places(now: NDArray[np.uint8], earlier: NDArray[np.uint8]) -> NDArray[np.float32]:
    """For each pixel of a frame its (x, y) in an earlier one, (h, w, 2)."""
    gray = [np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), np.uint8) for frame in (now, earlier)]
    height, width = gray[0].shape
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1)
    return np.asarray(grid + optical_flow(gray[0], gray[1]), np.float32)


def _make_layers(
    corpus: Corpus, short: int, frames: int, extent: float, scene: Image | None, rng: Rng
) -> tuple[list[Layer], int]:
    """The things of a clip, back to front, and which one is marked."""
    count = 1 + int(rng.choice(4, p=[0.25, 0.4, 0.25, 0.1]))
    marked = int(rng.integers(count))
    side = int(np.clip(1.25 * extent * short, 48, 224))
    target = make_thing(corpus, side, rng) if scene is None else [Part(premultiply(scene[..., :3], scene[..., 3]))]
    layers: list[Layer] = []
    for i in range(count):
        twin = scene is None and rng.random() < 0.22
        thing = target if i == marked or twin else make_thing(corpus, side, rng)
        scale = extent / 0.8 if i == marked else min(extent, 0.9) / 0.8 * np.exp(rng.uniform(-0.8, 0.8))
        place = rng.uniform(-0.3, 0.3, 2) if i == marked else rng.uniform(-0.7, 0.7, 2)
        path = _path(frames, scale, rng)
        path[:, :2] += place
        path[:, 3] += np.log(scale)
        # A scene moves as one with what is behind it, so it does not bend.
        still = Layer(thing, path) if scene is not None and i == marked else _bend(Layer(thing, path), frames, rng)
        moving = replace(still, shutter=float(rng.choice([0, 0.5, 1.0], p=[0.6, 0.2, 0.2])))
        moving = replace(moving, shutter=0.0) if scene is not None and i == marked else moving
        layers.append(moving)
    return layers, marked


def _path(frames: int, scale: float, rng: Rng) -> NDArray[np.float64]:
    """Motion (T, 6) relative to the start: half the time frame 1 is several steps from frame 0; else single steps."""
    speed = rng.choice([0.01, 0.05, 0.15], p=[0.25, 0.45, 0.3]) * np.array([scale, scale, 1, 0.7, 0.4, 0.4])
    velocity, path = rng.standard_normal(6) * speed, np.zeros((frames, 6))
    reach = rng.uniform(1, 5) if rng.random() < 0.5 else 1.0
    for t in range(1, frames):
        velocity = velocity + 0.4 * rng.standard_normal(6) * speed
        path[t] = path[t - 1] + velocity * (reach if t == 1 else 1.0)
    path[:, 2] *= 1.2
    path[:, 3] = np.clip(path[:, 3], -1.2, 1.2)
    path[:, 4:] = np.clip(path[:, 4:], -0.5, 0.5)
    return path


def _bend(layer: Layer, frames: int, rng: Rng) -> Layer:
    """Give a thing of one part an elastic motion, most of the time."""
    if len(layer.thing) > 1 or rng.random() < 0.35:
        return layer
    side = layer.thing[0].picture.shape[0]
    strength = rng.choice([0.01, 0.025, 0.05]) * side
    bend = np.zeros((frames, 2, side, side), np.float32)
    for t in range(1, frames):
        change = np.stack([noise(side, 4, rng), noise(side, 4, rng)])
        bend[t] = bend[t - 1] + change * strength * (1.0 if t == 1 else 0.35)
    return replace(layer, warp=bend)


def _windows(poses: NDArray[np.float64], size: tuple[int, int], follow: bool, rng: Rng) -> list[Matrix]:
    """For each frame the (3, 3) map from scene to pixels: fixed, or following the object as closely as one does."""
    height, width = size
    windows = []
    for pose in poses:
        centre, zoom = np.zeros(2), 1.0
        if follow:
            centre = pose[:2] + rng.normal(0, 0.09, 2)
            zoom = float(np.exp(poses[0, 3] - pose[3] + rng.normal(0, 0.15)))
        scale = zoom * min(size)
        windows.append(
            np.array([[scale, 0, width / 2 - scale * centre[0]], [0, scale, height / 2 - scale * centre[1]], [0, 0, 1]])
        )
    return windows


def _render(
    corpus: Corpus,
    layers: list[Layer],
    marked: int,
    windows: list[Matrix],
    size: tuple[int, int],
    scene: Image | None,
    rng: Rng,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw all frames: (T, h, w, 3) and the marked thing's visible alpha (T, 1, h, w)."""
    height, width = size
    side = int(1.5 * max(size)) if scene is None else scene.shape[0]
    scenery = corpus.texture(side, rng, least=0.5) if scene is None else scene[..., :3]
    if scene is None and rng.random() < 0.3:
        scenery = np.asarray(cv2.GaussianBlur(scenery, (0, 0), float(rng.uniform(0.8, 3))), np.float32)
    if scene is None and rng.random() < 0.22:
        scenery = _crowd(scenery, layers[marked], rng)
    drift = _path(len(windows), 0.5 if rng.random() < 0.7 else 0.0, rng) * np.array([1, 1, 0.3, 0.3, 0.2, 0.2])
    shade = _shade(rng)
    frames, alphas = [], []
    for t, window in enumerate(windows):
        pose, reach = (drift[t], 2.2) if scene is None else (layers[marked].poses[t], 1.0)
        base = window @ _pose(pose) @ np.diag([reach / side, reach / side, 1]) @ _shift(-side / 2, -side / 2)
        behind = cv2.warpAffine(scenery, base[:2], (width, height), borderMode=cv2.BORDER_REFLECT_101)
        image: Image = np.asarray(behind, np.float32)
        seen = np.zeros((height, width), np.float32)
        for i, layer in enumerate(layers):
            drawn = draw_layer(layer, t, window, size)
            image = np.asarray(shade(image, drawn[..., 3]) * (1 - drawn[..., 3:]) + drawn[..., :3], np.float32)
            seen = seen * (1 - drawn[..., 3]) + (drawn[..., 3] if i == marked else 0)
        frames.append(image)
        alphas.append(seen)
    rgb = film(np.stack(frames), rng)
    return rgb, np.rint(np.clip(np.stack(alphas), 0, 1) * 255).astype(np.uint8)[:, None]


def _crowd(scenery: Image, layer: Layer, rng: Rng) -> Image:
    """Scenery with a dozen or fewer lookalikes of a thing standing in it, each a little another colour and size."""
    side = scenery.shape[0]
    for _ in range(rng.integers(3, 12)):
        x, y = rng.uniform(0.15, 0.85) * side, rng.uniform(0.25, 0.75) * side
        scale = np.exp(layer.poses[0, 3] + rng.normal(-0.1, 0.3)) * side / 2.2
        place = _shift(x, y) @ _turn(rng.normal(0, 0.2)) @ np.diag([scale, scale, 1])
        drawn = _draw_parts(layer, int(rng.integers(len(layer.poses))), place, (side, side))
        colour = drawn[..., :3] * rng.uniform(0.7, 1.3, 3) if rng.random() < 0.7 else drawn[..., :3]
        scenery = np.asarray(scenery * (1 - drawn[..., 3:]) + np.clip(colour, 0, 1), np.float32)
    return scenery


def draw_layer(layer: Layer, t: int, window: Matrix, size: tuple[int, int]) -> Image:
    """A thing as seen in frame t, premultiplied (h, w, 4); averaged over the shutter's opening if it has one."""
    moved = (
        layer.poses[t] - layer.poses[t - 1]
        if t > 1
        else 0.1 * (layer.poses[min(1, len(layer.poses) - 1)] - layer.poses[0])
    )
    pixels = float(np.abs(moved[:2]).max() * window[0, 0]) * layer.shutter
    samples = int(np.clip(pixels / 2, 1, 7))
    drawn = np.zeros((*size, 4), np.float32)
    for offset in np.linspace(-0.5, 0.5, samples) if samples > 1 else [0.0]:
        pose = window @ _pose(layer.poses[t] + offset * layer.shutter * moved)
        drawn += _draw_parts(layer, t, pose, size) / samples
    return np.clip(drawn, 0, 1)


def _draw_parts(layer: Layer, t: int, pose: Matrix, size: tuple[int, int]) -> Image:
    drawn = np.zeros((*size, 4), np.float32)
    carried: list[Matrix] = []
    for part in layer.thing:
        base = carried[part.parent] if part.parent >= 0 else pose
        carried.append(base @ _shift(*part.joint) @ _turn(_angle(part, t)))
        picture = part.picture
        side = picture.shape[0]
        if layer.warp is not None:
            grid = np.mgrid[:side, :side].astype(np.float32)
            bent = cv2.remap(picture, grid[1] + layer.warp[t, 0], grid[0] + layer.warp[t, 1], cv2.INTER_LINEAR)
            picture = np.asarray(bent, np.float32)
        place = (
            carried[-1]
            @ _shift(*part.hang)
            @ np.diag([part.size / side, part.size / side, 1])
            @ _shift(-side / 2, -side / 2)
        )
        layered = cv2.warpAffine(picture, place[:2], (size[1], size[0]), flags=cv2.INTER_LINEAR)
        drawn = drawn * (1 - layered[..., 3:]) + layered
    return drawn


def film(frames: Image, rng: Rng) -> NDArray[np.uint8]:
    """What a camera and a codec do to frames (T, h, w, 3) 0-1: light, gamma, blur, noise, compression."""
    gamma, drifting = np.exp(rng.normal(0, 0.2)), rng.random() < 0.35
    blur, grain = rng.choice([0.0, 0.6, 1.2], p=[0.6, 0.25, 0.15]), rng.choice([0.0, 0.01, 0.03], p=[0.4, 0.4, 0.2])
    quality = int(rng.integers(20, 96)) if rng.random() < 0.6 else 100
    return np.stack([_expose(frame, gamma, drifting, float(blur), grain, quality, rng) for frame in frames])


def _expose(
    frame: Image, gamma: float, drifting: bool, blur: float, grain: float, quality: int, rng: Rng
) -> NDArray[np.uint8]:
    """One frame of `film`; quality 100 is left uncompressed."""
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


def _shade(rng: Rng) -> Callable[[Image, Image], Image]:
    """A function (image, alpha) -> image: a soft shadow of a thing on what is behind it, or nothing."""
    if rng.random() > 0.3:
        return lambda image, alpha: image
    strength, offset = rng.uniform(0.2, 0.6), rng.uniform(-0.15, 0.15, 2)

    def throw(image: Image, alpha: Image) -> Image:
        height, width = alpha.shape
        moved = cv2.warpAffine(alpha, _shift(*(offset * min(height, width)))[:2], (width, height))
        return np.asarray(
            image * (1 - strength * cv2.GaussianBlur(moved, (0, 0), min(height, width) / 40))[..., None], np.float32
        )

    return throw


def _box(inside: NDArray[np.uint8], rng: Rng) -> NDArray[np.uint8]:
    """1 within a loose box around the object."""
    x, y, width, height = cv2.boundingRect(inside)
    loose = rng.uniform(0, 0.08, 4) * max(width, height)
    box = np.zeros_like(inside)
    top, left = max(0, int(y - loose[0])), max(0, int(x - loose[1]))
    box[top : int(np.ceil(y + height + loose[2])), left : int(np.ceil(x + width + loose[3]))] = 1
    return box


def _outside_near(inside: NDArray[np.uint8], outside: NDArray[np.uint8], rng: Rng) -> NDArray[np.uint8]:
    """Where a person would mark background: half the time close to the object."""
    if rng.random() < 0.5:
        return outside
    near = outside & np.asarray(cv2.dilate(inside, np.ones((25, 25), np.uint8)), np.uint8)
    return near if near.any() else outside


def _draw_points(region: NDArray[np.uint8], count: int, rng: Rng) -> list[tuple[int, int]]:
    """Pixels (x, y) of a region, away from its edge where it is thick enough."""
    depth = cv2.distanceTransform(np.pad(region, 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
    rows, columns = np.where(depth > min(3.0, 0.5 * float(depth.max())))
    if not len(rows):
        return []
    chosen = rng.integers(len(rows), size=count)
    return [(int(columns[i]), int(rows[i])) for i in chosen]


def _angle(part: Part, t: int) -> float:
    amplitude, cycles, phase = part.swing
    # Frame 1 is some way off the reference, so the limbs are at another point of their swing.
    return part.rest + amplitude * float(np.sin(phase + 2 * np.pi * cycles * (t + 3 * (t > 0))))


def _pose(pose: NDArray[np.float64]) -> Matrix:
    x, y, turn, log_scale, shear_x, shear_y = pose
    scale = np.exp(log_scale)
    shear = np.array([[1, shear_x, 0], [shear_y, 1, 0], [0, 0, 1.0]])
    return np.asarray(_shift(x, y) @ _turn(turn) @ shear @ np.diag([scale, scale, 1]))


def _shift(x: float, y: float) -> Matrix:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])


def _turn(angle: float) -> Matrix:
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1.0]])
