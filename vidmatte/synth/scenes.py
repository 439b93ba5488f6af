"""Training clips made from a bank: a marked sprite in events hard for a matting network.

A lookalike crosses, an occluder passes in front, the object leaves and comes back or has turned
since the reference, the light changes at once, motion blurs it, it casts a shadow or a reflection,
lamps or sky touch its outline. Shadow, reflection and glow are never part of the alpha.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from vidmatte.imaging.arrays import Pixels
from vidmatte.synth.bank import Bank, Entry
from vidmatte.synth.clips import BACKGROUND_MOTION, make_crops, make_path, warp_sprite
from vidmatte.synth.corpus import Corpus, Rng, recolour
from vidmatte.synth.prompts import PromptKind, make_prompt
from vidmatte.synth.render import (
    Clip,
    Layer,
    Poses,
    camera_effects,
    draw_layer,
    flow_between,
    shift,
    to_matrix,
)
from vidmatte.synth.sprites import Matrix, draw_shape, make_sprite, noise, premultiply

RENDER_SHARE = 0.3
"""Chance of a rendered object as the marked one."""

# Share of clips with a camera that follows the object.
_FOLLOWED = 0.75
_SEEN_IN_REFERENCE = 0.6
"""Least visible share of the object in frame 0; sprites that hide more go behind it."""
_LARGEST_PICTURE = 256
_BLUR, _BLUR_OF_REFERENCE = 0.5, 0.08
"""Longest motion of a picture during an exposure, in its own sides; then that of frame 0."""
_MOST_SAMPLES = 16
"""Largest number of samples of a long exposure."""


@dataclass(frozen=True)
class Events:
    """Events of a clip; each may be forced or excluded for a test or a study.

    Attributes:
        lookalike: a sprite of the same entry crosses, in front or behind.
        occluder: a pole, a trunk or a shape passes in front.
        leaves: the object is out of sight for some frames.
        turned: it has turned by about half a turn since the reference, if its entry has a yaw.
        light: exposure and colour change from one frame to the next.
        blur: the object's motion blurs it strongly.
        shadow: it casts a shadow on the background.
        mirror: the ground mirrors it.
        glare: a lamp or the sky touches its outline.
        backdrop: the background is moving footage, if the bank has any.
    """

    lookalike: bool = False
    occluder: bool = False
    leaves: bool = False
    turned: bool = False
    light: bool = False
    blur: bool = False
    shadow: bool = False
    mirror: bool = False
    glare: bool = False
    backdrop: bool = False


_CHANCES = {
    "lookalike": 0.3,
    "occluder": 0.25,
    "leaves": 0.1,
    "turned": 0.5,
    "light": 0.15,
    "blur": 0.15,
    "shadow": 0.4,
    "mirror": 0.12,
    "glare": 0.2,
    "backdrop": 0.25,
}


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


def make_bank_clip(
    bank: Bank,
    corpus: Corpus,
    size: tuple[int, int],
    frames: int,
    prompt: PromptKind,
    seed: int,
    *,
    render_share: float = RENDER_SHARE,
    still: bool = False,
    events: Events | None = None,
) -> Clip:
    """Return the clip of a seed: an entry of the bank, marked, in a new scene.

    Args:
        bank: foregrounds to draw from.
        corpus: photographs for backgrounds, occluders and textures.
        size: height and width of the frames.
        frames: number of frames; frame 0 is the reference.
        prompt: kind of the marks on frame 0.
        seed: seed of every random choice.
        render_share: chance of a rendered object, 0 to 1.
        still: the camera does not follow the object.
        events: events of the clip; drawn at random if None.

    Returns:
        A clip with the conventions of `make_clip`.
    """
    rng = np.random.default_rng(seed)
    events = _draw_events(rng) if events is None else events
    entry = bank.draw(rng, render_share)
    scene = _set_scene(bank, corpus, entry, size, frames, prompt, events, still, rng)
    # The marks are made from the truth, before the camera's noise.
    rgb, alpha = _render(scene, size)
    labels, known = make_prompt(alpha[0, 0], prompt, rng)
    seen = camera_effects(rgb, rng)
    crops = scene.crops
    # The frame before, or for frame 0 the one after it.
    between = [crops[abs(t - 1)] @ np.linalg.inv(crops[t]) for t in range(frames)]
    flows = [flow_between(seen[t], seen[abs(t - 1)], between[t]) for t in range(frames)]
    flow = np.stack([each for each, _ in flows])
    flow_known = np.stack([each for _, each in flows])
    affine = np.stack(between)[:, :2].astype(np.float32)
    frames_first = seen.transpose(0, 3, 1, 2).copy()
    return Clip(frames_first, alpha, flow, flow_known, affine, labels[None], known[None])


def _draw_events(rng: Rng) -> Events:
    return Events(**{name: bool(rng.random() < chance) for name, chance in _CHANCES.items()})


def _set_scene(
    bank: Bank,
    corpus: Corpus,
    entry: Entry,
    size: tuple[int, int],
    frames: int,
    prompt: PromptKind,
    events: Events,
    still: bool,
    rng: Rng,
) -> BankScene:
    follow = rng.random() < _FOLLOWED and not still
    # As in `make_clip`: a marked frame is compared with its neighbour, a matted one often with one
    # further off.
    speed, far = (float(rng.choice([0.4, 1.0])), 0.5) if prompt == "mask" else (0.25, 0.15)
    # Log-uniform share of the frame's shorter side: small objects are as common as large ones.
    extent = float(np.exp(rng.uniform(np.log(0.32 if follow else 0.14), np.log(0.95))))
    side = _side(extent, min(size))
    times = choose_times(entry, frames, rng, far=far, turned=events.turned)
    restyle = _draw_recolouring(corpus, entry, side, rng)
    target = _make_target(bank, entry, times, side, extent, restyle, speed, far, rng)
    if events.blur:
        target = replace(
            target,
            shutter=float(rng.uniform(1.5, 3.5)),
            poses=_add_fast_motion(target.poses, extent, rng),
        )
    crops = make_crops(target.poses, size, follow, rng)
    crops = _show_reference(target, crops, size, follow)
    # An object cut by its footage's frame must not end in mid-air, at least usually.
    if entry.cut and rng.random() < 0.8:
        crops = _hide_cut(target, crops, size, rng)
    if events.leaves and frames > 2:
        target = replace(target, poses=_leave(target.poses, rng))
    scene = BankScene(
        target, crops, _background(bank, corpus, target, size, frames, speed, events, rng)
    )
    _add_others(
        scene, bank, corpus, entry, times, extent, restyle, frames, speed, events, min(size), rng
    )
    if events.glare:
        _add_glare(scene, extent, rng)
    if events.shadow and not entry.cut:
        scene.ground.append(_shadow(rng))
    if events.mirror and not entry.cut:
        scene.ground.append(_mirror(rng))
    if events.light:
        scene.light.append(_change_light(frames, rng))
    # Last, as every sprite has to be in its place.
    _clear_reference(scene, size)
    return scene


def _show_reference(
    target: AnimatedSprite, crops: list[Matrix], size: tuple[int, int], follow: bool
) -> list[Matrix]:
    """Return crops with the target visible in frame 0; still crops are moved all alike."""
    height, width = size
    # Drawn on a canvas three times as large, to compare with what lies outside.
    around = shift(width, height) @ crops[0]
    wide = target.draw(0, around, (3 * height, 3 * width))[..., 3]
    inside = wide[height : 2 * height, width : 2 * width]
    if inside.sum() >= _SEEN_IN_REFERENCE * wide.sum() > 0:
        return crops
    x, y, _ = crops[0] @ np.array([*target.poses[0, :2], 1])
    onto = shift(width / 2 - x, height / 2 - y)
    if follow:
        return [onto @ crops[0], *crops[1:]]
    return [onto @ crop for crop in crops]


def _clear_reference(scene: BankScene, size: tuple[int, int]) -> None:
    """Move sprites behind the target if they hide much of it in frame 0, the marked one."""
    whole = scene.target.draw(0, scene.crops[0], size)[..., 3]
    for sprite in list(scene.front):
        seen = whole * (1 - sprite.draw(0, scene.crops[0], size)[..., 3])
        if seen.sum() < _SEEN_IN_REFERENCE * whole.sum():
            scene.front.remove(sprite)
            scene.back.append(sprite)


def choose_times(
    entry: Entry, frames: int, rng: Rng, *, far: float = 0.5, turned: bool = False
) -> list[int]:
    """Return frames of an entry for a clip: the reference, then others in order, with a stride.

    With a chance of `far`, frame 1 is any frame and not one near the reference. With `turned`, the
    object has made about half a turn in frame 1, if the entry has a yaw.
    """
    last = entry.frames - 1
    stride = int(rng.integers(1, 4))
    if rng.random() >= 0.7:
        stride = -stride
    first = int(rng.integers(entry.frames))
    start = first + stride
    if rng.random() < far:
        start = int(rng.integers(entry.frames))
    if turned and entry.yaw:
        # Smallest angle to the yaw of the reference, 0 to pi.
        since = np.array(entry.yaw) - entry.yaw[first]
        away = np.abs((since + np.pi) % (2 * np.pi) - np.pi)
        turned_ones = np.flatnonzero(away > min(2.6, float(away.max())))
        start = int(rng.choice(turned_ones)) if len(turned_ones) else int(away.argmax())
    # After the last frame the motion runs backward.
    return [first] + [_fold(start + stride * t, last) for t in range(frames - 1)]


def _fold(t: int, last: int) -> int:
    # Reflect time at both ends: 0 1 2 1 0 1 2.
    t %= max(1, 2 * last)
    return min(t, 2 * last - t) if last else 0


def _make_target(
    bank: Bank,
    entry: Entry,
    times: list[int],
    side: int,
    extent: float,
    restyle: Callable[[Pixels], Pixels],
    speed: float,
    far: float,
    rng: Rng,
) -> AnimatedSprite:
    """Return the entry's pictures on a path partly its own and partly random."""
    mirrored = rng.random() < 0.5
    pictures = [restyle(picture) for picture in bank.pictures(entry, times, side)]
    if mirrored:
        pictures = [np.ascontiguousarray(picture[:, ::-1]) for picture in pictures]
    scale = extent / 0.9
    # It moves by itself: turning and shearing on top are kept small.
    # Weights of x, y, rotation, scale and the two shears.
    calm = np.array([1, 1, 0.3, 0.6, 0.25, 0.25])
    poses = (
        make_path(len(times), scale, rng, speed=speed * float(rng.choice([0.3, 1.0])), far=far)
        * calm
    )
    if entry.path and rng.random() < 0.8:
        own = np.array([entry.path[t] for t in times])
        # A mirrored object moves the other way.
        own = (own - own[0]) * np.array([-1 if mirrored else 1, 1])
        poses[:, :2] += scale * np.clip(own, -1.5, 1.5)
    poses[:, :2] += rng.uniform(-0.25, 0.25, 2)
    poses[:, 2] += rng.normal(0, 0.08)
    poses[:, 3] += np.log(scale)
    return AnimatedSprite(pictures, poses, float(rng.choice([0, 0.5, 1.0], p=[0.6, 0.2, 0.2])))


def _side(extent: float, short: int) -> int:
    """Return the side in pixels of a picture with a share of the frame's shorter side."""
    # A fifth more than its size on the frame, for zooms.
    return int(np.clip(1.2 * extent * short, 48, _LARGEST_PICTURE))


def _draw_recolouring(
    corpus: Corpus, entry: Entry, side: int, rng: Rng
) -> Callable[[Pixels], Pixels]:
    """Return a function to recolour a picture, texture it, or leave it as it is."""
    kind = rng.random()
    # Poor colours are nearly always replaced.
    if kind < (0.75 if entry.plain else 0.12):
        texture = corpus.texture(side, rng)
        share = float(rng.uniform(0.5, 1))

        def cover(picture: Pixels) -> Pixels:
            alpha = picture[..., 3:]
            straight = picture[..., :3] / np.maximum(alpha, 1e-3)
            # The texture keeps light and shade of the picture, relative to its mean.
            shade = straight.mean(-1, keepdims=True)
            middle = float((shade * alpha).sum() / max(1e-3, float(alpha.sum())))
            worn = np.clip(texture * shade / max(0.1, middle), 0, 1)
            return premultiply(
                np.clip(share * worn + (1 - share) * straight, 0, 1), picture[..., 3]
            )

        return cover
    if kind < 0.6:
        # The state is drawn once, so that all pictures get the same colours.
        state = int(rng.integers(1 << 31))

        def tint(picture: Pixels) -> Pixels:
            divisor = np.maximum(picture[..., 3:], 1e-3)
            straight = np.asarray(picture[..., :3] / divisor, np.float32)
            return premultiply(recolour(straight, np.random.default_rng(state)), picture[..., 3])

        return tint
    return lambda picture: picture


def _add_fast_motion(poses: Poses, extent: float, rng: Rng) -> Poses:
    """Return the poses with a fast steady motion on top, for a long exposure to blur."""
    heading = rng.uniform(0, 2 * np.pi)
    velocity = extent * rng.uniform(0.05, 0.2) * np.array([np.cos(heading), np.sin(heading)])
    hurried = poses.copy()
    hurried[:, :2] += np.arange(len(poses))[:, None] * velocity
    return hurried


def _leave(poses: Poses, rng: Rng) -> Poses:
    """Return poses out of sight for one or two frames; in long clips the object comes back."""
    away = poses.copy()
    first = int(rng.integers(1, max(2, len(poses) - 1)))
    last = first + int(rng.integers(1, 3))
    # Long clips end with the object in sight.
    last = min(last, len(poses) - 1 if len(poses) > 3 else len(poses))
    # Six times the shorter side is far outside of every crop.
    away[first : max(last, first + 1), :2] += 6.0
    return away


def _hide_cut(
    target: AnimatedSprite, crops: list[Matrix], size: tuple[int, int], rng: Rng
) -> list[Matrix]:
    """Return crops moved until the lower edge of the target's pictures lies below the frames."""
    height = size[0]
    share = rng.uniform(0, 0.15)
    lifted = []
    for t, crop in enumerate(crops):
        side = target.pictures[t].shape[0]
        place = target.to_crop(t, crop)
        corners = place @ np.array([[0, side], [_foot(target.pictures[t])] * 2, [1, 1]])
        # A random share of the picture below the edge, in pixels of the crop.
        below = share * side * float(np.hypot(place[0, 1], place[1, 1]))
        lifted.append(shift(0, max(0.0, height + below - float(corners[1].min()))) @ crop)
    return lifted


def _foot(picture: Pixels) -> float:
    """Return the lowest row of a picture with content, or its last one."""
    rows = np.flatnonzero(picture[..., 3].max(1) > 0.3)
    return float(rows[-1]) if len(rows) else float(picture.shape[0] - 1)


def _background(
    bank: Bank,
    corpus: Corpus,
    target: AnimatedSprite,
    size: tuple[int, int],
    frames: int,
    speed: float,
    events: Events,
    rng: Rng,
) -> Callable[[int, Matrix, tuple[int, int]], Pixels]:
    """Return a function to draw a photograph under camera motion, or moving footage."""
    # Height of the background in shares of the frame's shorter side.
    reach = 2.2
    if events.backdrop and bank.backdrops:
        entry = bank.backdrops[rng.integers(len(bank.backdrops))]
        times = choose_times(entry, frames, rng)
        mirrored = rng.random() < 0.5
        state = int(rng.integers(1 << 31))
        changed = rng.random() < 0.5
        scenes = [
            np.ascontiguousarray(scene[:, ::-1] if mirrored else scene)
            for scene in bank.backgrounds(entry, times)
        ]
        if changed:
            scenes = [recolour(scene, np.random.default_rng(state)) for scene in scenes]
        reach = float(rng.uniform(1.3, 2.2))
    else:
        scenery = corpus.texture(int(1.5 * max(size)), rng, least=0.5)
        # Out of focus behind the object.
        if rng.random() < 0.3:
            scenery = np.asarray(
                cv2.GaussianBlur(scenery, (0, 0), float(rng.uniform(0.8, 3))), np.float32
            )
        if rng.random() < 0.15:
            scenery = _crowd(scenery, target, reach, rng)
        scenes = [scenery] * frames
    ground = (
        make_path(frames, 0.5 if rng.random() < 0.6 else 0.0, rng, speed=speed) * BACKGROUND_MOTION
    )

    def behind(t: int, crop: Matrix, size: tuple[int, int]) -> Pixels:
        tall, wide = scenes[t].shape[:2]
        unit = np.diag([reach / tall, reach / tall, 1]) @ shift(-wide / 2, -tall / 2)
        base = crop @ to_matrix(ground[t]) @ unit
        seen = cv2.warpAffine(
            scenes[t], base[:2], (size[1], size[0]), borderMode=cv2.BORDER_REFLECT_101
        )
        return np.asarray(seen, np.float32)

    return behind


def _crowd(scenery: Pixels, target: AnimatedSprite, reach: float, rng: Rng) -> Pixels:
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


def _add_others(
    scene: BankScene,
    bank: Bank,
    corpus: Corpus,
    entry: Entry,
    times: list[int],
    extent: float,
    restyle: Callable[[Pixels], Pixels],
    frames: int,
    speed: float,
    events: Events,
    short: int,
    rng: Rng,
) -> None:
    """Add sprites behind and in front of the target: passers-by, a lookalike, an occluder."""
    side = _side(extent, short)
    # No other sprite, one or two.
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
    if events.lookalike:
        twin = _lookalike(bank, entry, side, restyle, scene.target.poses, extent, frames, rng)
        (scene.front if rng.random() < 0.5 else scene.back).append(twin)
    if events.occluder:
        scene.front.append(_occluder(corpus, scene.target.poses, extent, frames, short, rng))


def _lookalike(
    bank: Bank,
    entry: Entry,
    side: int,
    restyle: Callable[[Pixels], Pixels],
    poses: Poses,
    extent: float,
    frames: int,
    rng: Rng,
) -> AnimatedSprite:
    """Return the same entry at other times, often a little recoloured, passing the object."""
    times = choose_times(entry, frames, rng)
    pictures = [restyle(picture) for picture in bank.pictures(entry, times, side)]
    if rng.random() < 0.5:
        pictures = [np.ascontiguousarray(picture[:, ::-1]) for picture in pictures]
    if rng.random() < 0.6:
        gain = rng.uniform(0.7, 1.3, 3).astype(np.float32)
        pictures = [
            np.dstack([np.minimum(p[..., :3] * gain, p[..., 3:]), p[..., 3]]) for p in pictures
        ]
    way = _crossing(poses, extent, frames, rng)
    way[:, 3] = poses[:, 3] + rng.normal(0, 0.12)
    return AnimatedSprite(pictures, way, float(rng.choice([0.0, 0.5])))


def _crossing(poses: Poses, extent: float, frames: int, rng: Rng) -> Poses:
    """Return poses past the object: beside it in frame 0, over it in a later frame."""
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


def _occluder(
    corpus: Corpus, poses: Poses, extent: float, frames: int, short: int, rng: Rng
) -> AnimatedSprite:
    """Return a textured trunk, pole or shape passing in front; beside the object in frame 0."""
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
    way = _crossing(poses, extent, frames, rng)
    if rng.random() < 0.5:
        # Halfway to the object in every frame: it stays in front for longer.
        way[1:, :2] += 0.5 * (poses[1:, :2] - way[1:, :2])
    way[:, 3] = np.log(scale)
    return AnimatedSprite(
        [premultiply(texture, alpha)] * frames, way, float(rng.choice([0.0, 0.5]))
    )


def _shadow(rng: Rng) -> Callable[[Pixels, AnimatedSprite, int, Matrix], Pixels]:
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
        foot = _foot(target.pictures[t])
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


def _mirror(rng: Rng) -> Callable[[Pixels, AnimatedSprite, int, Matrix], Pixels]:
    """Return a function to draw the object's reflection on wet or polished ground."""
    strength = rng.uniform(0.15, 0.65)
    blur = rng.uniform(0.3, 3.0)
    squash = rng.uniform(0.6, 1.0)
    ripple = float(rng.choice([0.0, 1.0, 3.0]))
    waves = rng.uniform(0.2, 0.8)

    def reflect(image: Pixels, target: AnimatedSprite, t: int, crop: Matrix) -> Pixels:
        picture = target.pictures[t]
        height, width = image.shape[:2]
        foot = _foot(picture)
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


def _add_glare(scene: BankScene, extent: float, rng: Rng) -> None:
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


def _change_light(frames: int, rng: Rng) -> Callable[[Pixels, int], Pixels]:
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


def _render(scene: BankScene, size: tuple[int, int]) -> tuple[Pixels, NDArray[np.uint8]]:
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
