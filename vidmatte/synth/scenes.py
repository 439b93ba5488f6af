"""Training clips made from a bank: a marked sprite in events hard for a matting network.

A lookalike crosses, an occluder passes in front, the object leaves and comes back or has turned
since the reference, the light changes at once, motion blurs it, it casts a shadow or a reflection,
lamps or sky touch its outline. Shadow, reflection and glow are never part of the alpha.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from vidmatte.imaging.arrays import Pixels
from vidmatte.synth.bank import Bank, Entry, choose_times
from vidmatte.synth.clips import BACKGROUND_MOTION, make_crops, make_path
from vidmatte.synth.corpus import Corpus, Rng, recolour
from vidmatte.synth.prompts import PromptKind, make_prompt
from vidmatte.synth.render import Clip, Poses, camera_effects, flow_between, shift, to_matrix
from vidmatte.synth.scene import AnimatedSprite, BankScene, render_scene
from vidmatte.synth.scene_light import add_glare, change_light, mirror, shadow
from vidmatte.synth.scene_others import (
    add_lookalike,
    add_occluder,
    add_passers,
    picture_side,
    with_crowd,
)
from vidmatte.synth.sprites import Matrix, premultiply

RENDER_SHARE = 0.3
"""Chance of a rendered object as the marked one."""
# Share of clips with a camera that follows the object.
_FOLLOWED = 0.75
_SEEN_IN_REFERENCE = 0.6
"""Least visible share of the object in frame 0; sprites that hide more go behind it."""


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
    rgb, alpha = render_scene(scene, size)
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
    side = picture_side(extent, min(size))
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
    add_passers(scene, bank, corpus, extent, side, speed, rng)
    if events.lookalike:
        add_lookalike(scene, bank, entry, extent, side, restyle, rng)
    if events.occluder:
        add_occluder(scene, corpus, extent, min(size), rng)
    _add_light(scene, entry, events, extent, rng)
    # Last, as every sprite has to be in its place.
    _clear_reference(scene, size)
    return scene


def _add_light(scene: BankScene, entry: Entry, events: Events, extent: float, rng: Rng) -> None:
    if events.glare:
        add_glare(scene, extent, rng)
    if events.shadow and not entry.cut:
        scene.ground.append(shadow(rng))
    if events.mirror and not entry.cut:
        scene.ground.append(mirror(rng))
    if events.light:
        scene.light.append(change_light(len(scene.crops), rng))


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
        corners = place @ np.array([[0, side], [target.foot(t)] * 2, [1, 1]])
        # A random share of the picture below the edge, in pixels of the crop.
        below = share * side * float(np.hypot(place[0, 1], place[1, 1]))
        lifted.append(shift(0, max(0.0, height + below - float(corners[1].min()))) @ crop)
    return lifted


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
            scenery = with_crowd(scenery, target, reach, rng)
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
