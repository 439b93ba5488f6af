"""Make the moving objects of training clips.

They are drawn shapes, hair, lace, smoke, photographed cut-outs and jointed figures. A sprite is one
or more parts; a part is a square picture with alpha, turning about a joint. Pictures are
premultiplied (S, S, 4) float32, so they can be resampled and averaged without fringes.
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
    """A picture and its joint on the sprite.

    Attributes:
        picture: (S, S, 4) premultiplied.
        size: side of the picture in units of the sprite (1 = the sprite's own square).
        joint: (x, y) in units of the parent's square, the centre of rotation; the parent's centre
            is (0, 0).
        offset: (x, y) from the joint to the picture's centre, in units of the sprite.
        parent: index of the parent part, or -1.
        oscillation: amplitude in radians, cycles per frame and phase in radians of its rotation.
        rest: its angle at rest, in radians.
        texture: (S, W, 3) straight colour of a surface scrolling through the picture as the part
            turns away, or None.
        scroll: motion of the surface in pixels of the texture from frame to frame; negative for
            the other direction.
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
        """Return the picture (S, S, 4) after its surface has moved `turns` times."""
        if self.texture is None:
            return self.picture
        side, width = self.texture.shape[:2]
        # The texture repeats before it ends.
        start = int(abs(self.scroll) * turns) % max(1, width - side)
        surface = self.texture[:, start : start + side]
        if self.scroll <= 0:
            surface = surface[:, ::-1]
        return premultiply(surface, self.picture[..., 3])


Sprite = list[SpritePart]


def make_sprite(corpus: Corpus, side: int, rng: Rng) -> Sprite:
    """Draw a sprite of a random kind with pictures of about `side` pixels."""
    kind = rng.random()
    # Chances: 42 % photographs, 20 % figures or more, the rest drawn shapes.
    if kind < 0.42:
        sources = (corpus.cutout, corpus.subject, corpus.segment)
        source = sources[rng.choice(3, p=[0.3, 0.4, 0.3])]
        cut = source(rng)
        if cut is not None:
            return [SpritePart(_place_cut(cut, side, rng))]
    # A photograph without a fit cut also leads to a figure.
    if kind < 0.62:
        return make_figure(corpus, side, rng)
    alpha = _decorate(draw_shape(side, rng), rng)
    if rng.random() < 0.4:
        # Three fills side by side: the surface repeats after two sides of scrolling.
        texture = np.hstack([_fill(corpus, side, rng) for _ in range(3)])
        direction = rng.choice([-1, 1])
        scroll = float(direction * rng.uniform(0.02, 0.25) * side)
        first = premultiply(texture[:, :side], alpha)
        return [SpritePart(first, texture=texture, scroll=scroll)]
    return [SpritePart(premultiply(_fill(corpus, side, rng), alpha))]


def make_figure(corpus: Corpus, side: int, rng: Rng) -> Sprite:
    """Draw a body with a head and limbs of two links each, in one to four textures.

    It stands for people, animals, machines and plants.
    """
    textures = [_fill(corpus, side, rng) for _ in range(rng.integers(1, 5))]
    tall = rng.uniform(0.3, 0.45)
    wide = rng.uniform(0.14, 0.32)
    body = _make_limb(textures, tall, wide, (0.0, -tall / 2), -1, 0.0, rng)
    # The body sways a little about its own centre, not about a joint at its end.
    sway = (rng.uniform(0, 0.15), 0.1, 0.0)
    parts: Sprite = [SpritePart(body.picture, body.size, oscillation=sway)]
    # (height of the joint, share of the body's height): arms near the top, legs near the bottom.
    arms = (-0.4 * tall, 0.8)
    legs = (0.42 * tall, 1.0)
    for sign in (-1, 1):
        for height, share in (arms, legs):
            length = tall * share * rng.uniform(0.5, 0.8)
            breadth = wide * rng.uniform(0.3, 0.65)
            shoulder = (sign * wide * 0.35, height)
            spread = -sign * rng.uniform(0, 1.2)
            parts.append(_make_limb(textures, length, breadth, shoulder, 0, spread, rng))
            # The lower link hangs on the upper one, a little inside of its end.
            upper = len(parts) - 1
            elbow = (0.0, length * 0.92)
            bend = rng.uniform(-0.8, 0.8)
            parts.append(_make_limb(textures, length, breadth * 0.8, elbow, upper, bend, rng))
    if rng.random() < 0.8:
        breadth = wide * rng.uniform(0.5, 0.9)
        neck = (0.0, -tall * 0.45)
        parts.append(_make_limb(textures, tall * 0.45, breadth, neck, 0, np.pi, rng))
    return parts


def _make_limb(
    textures: list[Pixels],
    length: float,
    breadth: float,
    joint: tuple[float, float],
    parent: int,
    rest: float,
    rng: Rng,
) -> SpritePart:
    """Draw an ellipse in a crop of one of the textures (S, S, 3), with a motion of its own.

    Lengths are in units of the sprite; `joint`, `parent` and `rest` are those of `SpritePart`.
    """
    texture = textures[rng.integers(len(textures))]
    side = texture.shape[0]
    pixels = max(12, int(side * length * 1.2))
    alpha = np.zeros((pixels, pixels), np.float32)
    # Half axes; the ellipse leaves a margin in its picture.
    across = max(1.0, pixels * breadth / length / 2 * 0.9)
    along = pixels * 0.46
    ellipse = ((pixels / 2, pixels / 2), (2 * across, 2 * along), 0.0)
    cv2.ellipse(alpha, ellipse, 1.0, -1, cv2.LINE_AA)
    y, x = rng.integers(max(1, side - pixels + 1), size=2)
    # A limb longer than the texture gets a smaller crop, enlarged.
    crop = texture[y : y + pixels, x : x + pixels]
    patch = np.asarray(cv2.resize(crop, (pixels, pixels)), np.float32)
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


def draw_shape(side: int, rng: Rng) -> Pixels:
    """Draw the alpha (side, side) of a blob, a cluster of ellipses, a polygon or a ring."""
    kind = rng.random()
    centre = side / 2 + rng.uniform(-0.08, 0.08, 2) * side
    if kind < 0.4:
        # With 12 pixels the drawn part of a small limb is still an ellipse.
        return _draw_blob(side, centre, rng)
    alpha = np.zeros((side, side), np.float32)
    if kind < 0.75:
        for _ in range(rng.integers(1, 6)):
            middle = centre + rng.uniform(-0.2, 0.2, 2) * side
            axes = rng.uniform(0.08, 0.5, 2) * side
            angle = float(rng.uniform(0, 180))
            box = (tuple(middle.tolist()), tuple(axes.tolist()), angle)
            cv2.ellipse(alpha, box, 1.0, -1, cv2.LINE_AA)
        return alpha
    if kind < 0.92:
        # Sorted angles make a polygon whose edges do not cross.
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 12)))
        radii = rng.uniform(0.1, 0.45, len(angles)) * side
        x = centre[0] + radii * np.cos(angles)
        y = centre[1] + radii * np.sin(angles)
        points = np.stack([x, y], 1).astype(np.int32)
        cv2.fillPoly(alpha, [points], 1.0, cv2.LINE_AA)
        return alpha
    radius = int(rng.uniform(0.2, 0.4) * side)
    breadth = max(2, int(rng.uniform(0.04, 0.15) * side))
    cv2.circle(alpha, (int(centre[0]), int(centre[1])), radius, 1.0, breadth, cv2.LINE_AA)
    return alpha


def _draw_blob(side: int, centre: NDArray[np.float64], rng: Rng) -> Pixels:
    """Draw the alpha (side, side) of an ellipse with a wavy outline, sharp to a pixel."""
    y, x = np.mgrid[:side, :side].astype(np.float32)
    stretch = rng.uniform(0.6, 1.6)
    radius = np.hypot((x - centre[0]) * stretch, y - centre[1]) / side
    inside = 0.3 - radius * rng.uniform(0.8, 1.3)
    bumps = int(rng.integers(3, 8))
    field = inside + 0.12 * noise(side, bumps, rng)
    # The factor makes the edge about a pixel wide.
    return np.asarray(np.clip(field * side / 2 + 0.5, 0, 1), np.float32)


def noise(side: int, cells: int, rng: Rng) -> Pixels:
    """Draw smooth normal noise (side, side) with about `cells` bumps along a side."""
    coarse = rng.standard_normal((cells, cells)).astype(np.float32)
    smooth = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    return np.asarray(smooth, np.float32)


def premultiply(colour: Pixels, alpha: Pixels) -> Pixels:
    """Join straight colour (h, w, 3) and alpha (h, w) to a premultiplied picture (h, w, 4)."""
    picture: Pixels = np.dstack([colour * alpha[..., None], alpha]).astype(np.float32)
    return picture


def _fill(corpus: Corpus, side: int, rng: Rng) -> Pixels:
    """Draw a texture, a flat or shaded colour, or a patchwork of two such fills: (side, side, 3).

    Patchwork is common, as the parts of a real object, such as clothes, look different.
    """
    if rng.random() < 0.4:
        # Fills nest: a patch may be a patchwork again.
        first = _fill(corpus, side, rng)
        second = _fill(corpus, side, rng)
        field = noise(side, int(rng.integers(2, 6)), rng) + rng.uniform(-0.5, 0.5)
        # The factor makes the borders of the patches sharp.
        patches = np.clip(field * 20, 0, 1)[..., None]
        return np.asarray(first * patches + second * (1 - patches), np.float32)
    if rng.random() < 0.8:
        return corpus.texture(side, rng)
    flat = np.ones((side, side, 3), np.float32) * rng.random(3).astype(np.float32)
    if rng.random() < 0.5:
        flat = np.clip(flat + 0.15 * noise(side, 3, rng)[..., None], 0, 1)
    return flat.astype(np.float32)


def _decorate(alpha: Pixels, rng: Rng) -> Pixels:
    """Add to an alpha (S, S), each sometimes: hair, holes, softness, partial transparency."""
    if rng.random() < 0.25:
        alpha = _draw_hair(alpha, rng)
    if rng.random() < 0.12:
        holes = noise(alpha.shape[0], int(rng.integers(8, 24)), rng)
        # The factor gives holes with nearly hard edges.
        alpha = alpha * np.clip((holes + rng.uniform(0.1, 0.8)) * 6, 0, 1)
    softness = rng.choice([0.0, 0.6, 1.2, 3.0], p=[0.35, 0.3, 0.25, 0.1])
    if softness:
        alpha = np.asarray(cv2.GaussianBlur(alpha, (0, 0), float(softness)), np.float32)
    if rng.random() < 0.08:
        # Partly transparent, like glass or a veil, but nowhere less than a fifth.
        alpha = alpha * np.clip(0.7 + 0.5 * noise(alpha.shape[0], 4, rng), 0.2, 1)
    return np.clip(alpha, 0, 1).astype(np.float32)


def _draw_hair(alpha: Pixels, rng: Rng) -> Pixels:
    """Add curved strands to the outline of an alpha (S, S)."""
    side = alpha.shape[0]
    outline = (cv2.dilate(alpha, np.ones((3, 3))) - alpha) > 0.5
    rows, columns = np.where(outline)
    if not len(rows):
        return alpha
    middle = np.array([columns.mean(), rows.mean()])
    hair = np.zeros_like(alpha)
    for _ in range(rng.integers(20, 120)):
        i = rng.integers(len(rows))
        root = np.array([columns[i], rows[i]], np.float64)
        # Away from the middle at the root, then turning to one side.
        outward = root - middle
        heading = np.arctan2(outward[1], outward[0]) + rng.uniform(-1, 1) * np.linspace(0, 1, 6)
        step = rng.uniform(0.03, 0.2) * side / 6
        steps = step * np.stack([np.cos(heading), np.sin(heading)], 1)
        strand = root + np.cumsum(steps, 0)
        # In eighths of a pixel: the last argument of `polylines` gives three fractional bits.
        points = (np.vstack([root, strand]) * 8).astype(np.int32)
        cv2.polylines(hair, [points], False, float(rng.uniform(0.4, 1)), 1, cv2.LINE_AA, 3)
    grown: Pixels = np.maximum(alpha, hair)
    return grown


def _place_cut(cut: Pixels, side: int, rng: Rng) -> Pixels:
    """Centre a straight cut (h, w, 4) on a square picture, premultiplied (side, side, 4).

    It is sometimes mirrored and recoloured.
    """
    # The margin is the same as around a drawn shape.
    scale = 0.8 * side / max(cut.shape[:2])
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    size = (max(2, int(cut.shape[1] * scale)), max(2, int(cut.shape[0] * scale)))
    resized = np.asarray(cv2.resize(cut, size, interpolation=how), np.float32)
    colour = resized[..., :3]
    if rng.random() < 0.4:
        colour = recolour(colour, rng)
    picture = np.zeros((side, side, 4), np.float32)
    left = (side - size[0]) // 2
    top = (side - size[1]) // 2
    inside = np.s_[top : top + size[1], left : left + size[0]]
    picture[inside] = premultiply(colour, resized[..., 3])
    return picture[:, ::-1].copy() if rng.random() < 0.5 else picture
