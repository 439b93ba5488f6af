"""Things that move in training clips: drawn shapes, hair, lace, smoke, photographed cut-outs, jointed figures.

A sprite is one or more parts; a part is a square picture with alpha that turns about a joint. Pictures are
premultiplied (S, S, 4) float32, so that they can be resampled and averaged without fringes.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vidmatte.imaging.arrays import Pixels
from vidmatte.synth.corpus import Corpus, Rng, recolour

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class SpritePart:
    """A picture and how it hangs on its sprite.

    Attributes:
        picture: (S, S, 4) premultiplied.
        size: side of the picture in units of the sprite (1 = the sprite's own square).
        joint: (x, y) in units of the parent's square, about which it turns; the parent's centre is (0, 0).
        hang: (x, y) from the joint to the picture's centre, in units of the sprite.
        parent: index of the part that carries it, or -1.
        swing: amplitude, cycles per frame and phase of its turning, radians; rest: its angle at rest.
        reel: (S, W, 3) straight colour of a surface that comes into view as the part turns away, or None.
        roll: pixels of the reel by which the surface moves from frame to frame.
    """

    picture: Pixels
    size: float = 1.0
    joint: tuple[float, float] = (0.0, 0.0)
    offset: tuple[float, float] = (0.0, 0.0)
    parent: int = -1
    oscillation: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rest: float = 0.0
    texture: Pixels | None = None
    scroll: float = 0.0

    def seen(self, turns: float) -> Pixels:
        """The picture (S, S, 4) after its surface has moved `turns` times."""
        if self.texture is None:
            return self.picture
        side, width = self.texture.shape[:2]
        start = int(abs(self.scroll) * turns) % max(1, width - side)
        surface = self.texture[:, start : start + side]
        return premultiply(surface if self.scroll > 0 else surface[:, ::-1], self.picture[..., 3])


Sprite = list[SpritePart]


def make_sprite(corpus: Corpus, side: int, rng: Rng) -> Sprite:
    """Draw a sprite of a random kind with pictures of about `side` pixels."""
    kind = rng.random()
    if kind < 0.42:
        source = (corpus.cutout, corpus.subject, corpus.segment)[rng.choice(3, p=[0.3, 0.4, 0.3])]
        cut = source(rng)
        if cut is not None:
            return [SpritePart(_place_cut(cut, side, rng))]
    if kind < 0.62:
        return make_figure(corpus, side, rng)
    alpha = _decorate(draw_shape(side, rng), rng)
    if rng.random() < 0.4:
        texture = np.hstack([_fill(corpus, side, rng) for _ in range(3)])
        scroll = float(rng.choice([-1, 1]) * rng.uniform(0.02, 0.25) * side)
        return [SpritePart(premultiply(texture[:, :side], alpha), texture=texture, scroll=scroll)]
    return [SpritePart(premultiply(_fill(corpus, side, rng), alpha))]


def make_figure(corpus: Corpus, side: int, rng: Rng) -> Sprite:
    """A body with a head and limbs of two links each, in one to four textures: people, animals, machines, plants."""
    textures = [_fill(corpus, side, rng) for _ in range(rng.integers(1, 5))]

    def limb(
        length: float, breadth: float, joint: tuple[float, float], parent: int, rest: float
    ) -> SpritePart:
        texture = textures[rng.integers(len(textures))]
        pixels = max(12, int(side * length * 1.2))
        alpha = np.zeros((pixels, pixels), np.float32)
        axes = (max(1.0, pixels * breadth / length / 2 * 0.9), pixels * 0.46)
        cv2.ellipse(
            alpha, ((pixels / 2, pixels / 2), (2 * axes[0], 2 * axes[1]), 0.0), 1.0, -1, cv2.LINE_AA
        )
        y, x = rng.integers(max(1, side - pixels + 1), size=2)
        patch = np.asarray(
            cv2.resize(texture[y : y + pixels, x : x + pixels], (pixels, pixels)), np.float32
        )
        oscillation = (rng.uniform(0, 0.8), rng.uniform(0.05, 0.3), rng.uniform(0, 6.3))
        return SpritePart(
            premultiply(patch, alpha),
            length * 1.1,
            joint,
            (0.0, length / 2),
            parent,
            oscillation,
            rest,
        )

    tall, wide = rng.uniform(0.3, 0.45), rng.uniform(0.14, 0.32)
    body = limb(tall, wide, (0.0, -tall / 2), -1, 0.0)
    parts: Sprite = [
        SpritePart(body.picture, body.size, oscillation=(rng.uniform(0, 0.15), 0.1, 0.0))
    ]
    for sign in (-1, 1):
        for height, share in ((-0.4 * tall, 0.8), (0.42 * tall, 1.0)):
            length, breadth = tall * share * rng.uniform(0.5, 0.8), wide * rng.uniform(0.3, 0.65)
            upper = limb(
                length, breadth, (sign * wide * 0.35, height), 0, -sign * rng.uniform(0, 1.2)
            )
            parts.append(upper)
            parts.append(
                limb(
                    length,
                    breadth * 0.8,
                    (0.0, length * 0.92),
                    len(parts) - 1,
                    rng.uniform(-0.8, 0.8),
                )
            )
    if rng.random() < 0.8:
        parts.append(limb(tall * 0.45, wide * rng.uniform(0.5, 0.9), (0.0, -tall * 0.45), 0, np.pi))
    return parts


def draw_shape(side: int, rng: Rng) -> Pixels:
    """Alpha (side, side) of a blob, a cluster of ellipses, a polygon or a ring."""
    kind = rng.random()
    alpha = np.zeros((side, side), np.float32)
    centre = side / 2 + rng.uniform(-0.08, 0.08, 2) * side
    if kind < 0.4:
        y, x = np.mgrid[:side, :side].astype(np.float32)
        radius = np.hypot((x - centre[0]) * rng.uniform(0.6, 1.6), y - centre[1]) / side
        field = (
            0.3 - radius * rng.uniform(0.8, 1.3) + 0.12 * noise(side, int(rng.integers(3, 8)), rng)
        )
        return np.asarray(np.clip(field * side / 2 + 0.5, 0, 1), np.float32)
    if kind < 0.75:
        for _ in range(rng.integers(1, 6)):
            middle, axes = (
                centre + rng.uniform(-0.2, 0.2, 2) * side,
                rng.uniform(0.08, 0.5, 2) * side,
            )
            box = (tuple(middle.tolist()), tuple(axes.tolist()), float(rng.uniform(0, 180)))
            cv2.ellipse(alpha, box, 1.0, -1, cv2.LINE_AA)
        return alpha
    if kind < 0.92:
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 12)))
        radii = rng.uniform(0.1, 0.45, len(angles)) * side
        points = np.stack(
            [centre[0] + radii * np.cos(angles), centre[1] + radii * np.sin(angles)], 1
        )
        cv2.fillPoly(alpha, [points.astype(np.int32)], 1.0, cv2.LINE_AA)
        return alpha
    radius, breadth = int(rng.uniform(0.2, 0.4) * side), max(2, int(rng.uniform(0.04, 0.15) * side))
    cv2.circle(alpha, (int(centre[0]), int(centre[1])), radius, 1.0, breadth, cv2.LINE_AA)
    return alpha


def noise(side: int, cells: int, rng: Rng) -> Pixels:
    """Smooth normal noise (side, side) with about `cells` bumps along a side."""
    coarse = rng.standard_normal((cells, cells)).astype(np.float32)
    smooth: Pixels = np.asarray(
        cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC), np.float32
    )
    return smooth


def premultiply(colour: Pixels, alpha: Pixels) -> Pixels:
    """Straight colour (h, w, 3) and alpha (h, w) as one premultiplied picture (h, w, 4)."""
    picture: Pixels = np.dstack([colour * alpha[..., None], alpha]).astype(np.float32)
    return picture


def _fill(corpus: Corpus, side: int, rng: Rng) -> Pixels:
    """A texture, a flat or a shaded colour, or a patchwork of two: sprites, like clothes, are not of one look."""
    if rng.random() < 0.4:
        first, second = _fill(corpus, side, rng), _fill(corpus, side, rng)
        patches = np.clip(
            (noise(side, int(rng.integers(2, 6)), rng) + rng.uniform(-0.5, 0.5)) * 20, 0, 1
        )[..., None]
        return np.asarray(first * patches + second * (1 - patches), np.float32)
    if rng.random() < 0.8:
        return corpus.texture(side, rng)
    flat = np.ones((side, side, 3), np.float32) * rng.random(3).astype(np.float32)
    if rng.random() < 0.5:
        flat = np.clip(flat + 0.15 * noise(side, 3, rng)[..., None], 0, 1)
    return flat.astype(np.float32)


def _decorate(alpha: Pixels, rng: Rng) -> Pixels:
    """Hair along the outline, holes, softness or partial transparency, each sometimes."""
    if rng.random() < 0.25:
        alpha = _draw_hair(alpha, rng)
    if rng.random() < 0.12:
        holes = noise(alpha.shape[0], int(rng.integers(8, 24)), rng)
        alpha = alpha * np.clip((holes + rng.uniform(0.1, 0.8)) * 6, 0, 1)
    softness = rng.choice([0.0, 0.6, 1.2, 3.0], p=[0.35, 0.3, 0.25, 0.1])
    if softness:
        alpha = np.asarray(cv2.GaussianBlur(alpha, (0, 0), float(softness)), np.float32)
    if rng.random() < 0.08:
        alpha = alpha * np.clip(0.7 + 0.5 * noise(alpha.shape[0], 4, rng), 0.2, 1)
    return np.clip(alpha, 0, 1).astype(np.float32)


def _draw_hair(alpha: Pixels, rng: Rng) -> Pixels:
    """Curved strands that leave the outline."""
    side = alpha.shape[0]
    rows, columns = np.where((cv2.dilate(alpha, np.ones((3, 3))) - alpha) > 0.5)
    if not len(rows):
        return alpha
    middle, hair = np.array([columns.mean(), rows.mean()]), np.zeros_like(alpha)
    for _ in range(rng.integers(20, 120)):
        i = rng.integers(len(rows))
        root = np.array([columns[i], rows[i]], np.float64)
        heading = np.arctan2(*(root - middle)[::-1]) + rng.uniform(-1, 1) * np.linspace(0, 1, 6)
        step = rng.uniform(0.03, 0.2) * side / 6
        strand = root + np.cumsum(step * np.stack([np.cos(heading), np.sin(heading)], 1), 0)
        points = (np.vstack([root, strand]) * 8).astype(np.int32)
        cv2.polylines(hair, [points], False, float(rng.uniform(0.4, 1)), 1, cv2.LINE_AA, 3)
    grown: Pixels = np.maximum(alpha, hair)
    return grown


def _place_cut(cut: Pixels, side: int, rng: Rng) -> Pixels:
    """A straight cut (h, w, 4) centred on a square picture, sometimes mirrored and recoloured, premultiplied."""
    scale = 0.8 * side / max(cut.shape[:2])
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    size = max(2, int(cut.shape[1] * scale)), max(2, int(cut.shape[0] * scale))
    resized = np.asarray(cv2.resize(cut, size, interpolation=how), np.float32)
    colour, alpha = resized[..., :3], resized[..., 3]
    if rng.random() < 0.4:
        colour = recolour(colour, rng)
    picture = np.zeros((side, side, 4), np.float32)
    top, left = (side - size[1]) // 2, (side - size[0]) // 2
    picture[top : top + size[1], left : left + size[0]] = premultiply(colour, alpha)
    return picture[:, ::-1].copy() if rng.random() < 0.5 else picture
