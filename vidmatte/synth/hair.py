"""Draw fine structure with exact alpha: hair, fur, leaves and mesh.

The drawing is three times as large as the result, and each of its samples is fully opaque or empty.
The average over the samples of a pixel is then its exact alpha, even for a thin structure. Pictures
are premultiplied, (S, S, 4) float32.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from vidmatte.imaging.arrays import Pixels
from vidmatte.synth.corpus import Corpus, Rng
from vidmatte.synth.sprites import draw_shape, noise

Points = NDArray[np.float32]
Colours = NDArray[np.float32]

_SAMPLES = 3
"""Samples along a pixel's side."""
_FRACTION_BITS = 3
"""Coordinates are given to OpenCV in eighths of a sample."""


class SupersampledCanvas:
    """A picture of opaque paint on nothing, drawn at three times its size.

    Attributes:
        side: side of the finished picture in pixels.
        paint: (3 side, 3 side, 3) straight colour.
        cover: (3 side, 3 side) 255 on paint, else 0.
    """

    def __init__(self, side: int) -> None:
        self.side = side
        self.paint = np.zeros((side * _SAMPLES, side * _SAMPLES, 3), np.uint8)
        self.cover = np.zeros((side * _SAMPLES, side * _SAMPLES), np.uint8)

    def fill(self, mask: Pixels, colour: Pixels) -> None:
        """Paint a mask (side, side) with a picture (side, side, 3), with a hard edge."""
        size = self.cover.shape[::-1]
        inside = np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_CUBIC)) > 0.5
        paint = cv2.resize(_codes(colour), size, interpolation=cv2.INTER_LINEAR)
        self.paint[inside] = paint[inside]
        self.cover[inside] = 255

    def lines(self, strands: Points, widths: Points, colours: Colours) -> None:
        """Paint strands, the last on top.

        Args:
            strands: (n, points, 2) x and y in pixels of the finished picture.
            widths: (n,) in pixels of the finished picture.
            colours: (n, 3) 0-1.
        """
        corners = _fixed_point(strands)
        thickness = np.maximum(1, np.rint(widths * _SAMPLES)).astype(int)
        codes = _codes(colours).tolist()
        for line, width, colour in zip(corners, thickness.tolist(), codes, strict=True):
            # Lines without smoothing, as a sample must be opaque or empty.
            cv2.polylines(self.paint, [line], False, colour, width, cv2.LINE_8, _FRACTION_BITS)
            cv2.polylines(self.cover, [line], False, 255, width, cv2.LINE_8, _FRACTION_BITS)

    def polygons(self, corners_of: Points, colours: Colours) -> None:
        """Paint polygons (n, corners, 2), x and y in pixels, each with its colour (n, 3)."""
        codes = _codes(colours).tolist()
        for polygon, colour in zip(_fixed_point(corners_of), codes, strict=True):
            cv2.fillPoly(self.paint, [polygon], colour, cv2.LINE_8, _FRACTION_BITS)
            cv2.fillPoly(self.cover, [polygon], 255, cv2.LINE_8, _FRACTION_BITS)

    def picture(self) -> Pixels:
        """Return the finished picture, premultiplied (side, side, 4)."""
        size = (self.side, self.side)
        # Empty samples are black, so the average of the paint is premultiplied.
        colour = cv2.resize(self.paint, size, interpolation=cv2.INTER_AREA)
        alpha = cv2.resize(self.cover, size, interpolation=cv2.INTER_AREA)
        seen: Pixels = np.dstack([colour, alpha]).astype(np.float32) / np.float32(255)
        return seen


def draw_strands(corpus: Corpus, side: int, rng: Rng) -> Pixels:
    """Draw a sprite with fine structure of a random kind, premultiplied (side, side, 4)."""
    kinds: tuple[Callable[[SupersampledCanvas, Pixels, Pixels, Rng], None], ...] = (
        draw_hair,
        draw_fur,
        draw_leaves,
        draw_mesh,
    )
    canvas = SupersampledCanvas(side)
    # Hair and fur most often: they are what mattes are judged by.
    draw = kinds[rng.choice(len(kinds), p=[0.4, 0.34, 0.14, 0.12])]
    body = _body(side, rng)
    draw(canvas, body, _surface(corpus, side, rng), rng)
    return canvas.picture()


def draw_hair(canvas: SupersampledCanvas, body: Pixels, surface: Pixels, rng: Rng) -> None:
    """Draw long strands in locks from the outline of a body, and a few flyaways.

    Args:
        canvas: to draw on.
        body: (side, side) shape, 0-1.
        surface: (side, side, 3) colour of the body and of the strands' roots, 0-1.
        rng: of all draws.
    """
    side = canvas.side
    # Without a body the hair has nothing opaque behind it.
    if rng.random() < 0.9:
        canvas.fill(body, surface)
    roots, outward = _edge(body, rng)
    locks = int(rng.integers(4, 60))
    # The lock of each strand, and the root of each lock.
    lock = rng.integers(locks, size=int(rng.integers(40, 900)))
    count = len(lock)
    chosen = rng.integers(len(roots), size=locks)
    # Combed hair points in one direction, other hair outward.
    comb = rng.uniform(-np.pi, np.pi) if rng.random() < 0.5 else None
    heading = outward[chosen] + rng.normal(0, 0.5, locks)
    if comb is not None:
        follows = rng.random(locks) < 0.7
        heading = np.where(follows, comb + rng.normal(0, 0.3, locks), heading)
    # Flyaways leave their lock.
    flies = rng.random(count) < 0.2
    stray = np.where(flies, rng.uniform(0.3, 1.2), rng.uniform(0.03, 0.3))
    # Log-normal, so lengths are positive and a few strands are much longer.
    length = side * rng.uniform(0.05, 0.45) * np.exp(rng.normal(0, 0.4, count))
    spread = rng.uniform(0.005, 0.06) * side
    starts = roots[chosen][lock] + rng.normal(0, spread, (count, 2))
    headings = heading[lock] + stray * rng.standard_normal(count)
    bend = rng.normal(0, 1.2, locks)[lock] + stray * rng.standard_normal(count)
    strands = curl(starts, headings, length, bend, rng)
    widths = rng.uniform(0.3, 1.8) * np.exp(rng.normal(0, 0.35, count))
    canvas.lines(strands, widths.astype(np.float32), _strand_colours(surface, strands, rng))


def draw_fur(canvas: SupersampledCanvas, body: Pixels, surface: Pixels, rng: Rng) -> None:
    """Draw dense short hairs over the outline of a body; arguments as for `draw_hair`."""
    side = canvas.side
    canvas.fill(body, surface)
    roots, outward = _edge(body, rng)
    # Fur needs more strands than hair, as they are short.
    chosen = rng.integers(len(roots), size=int(rng.integers(600, 3500)))
    count = len(chosen)
    # Neighbouring hairs lean alike.
    lean = 1.2 * noise(side, 4, rng)
    spread = rng.uniform(0.004, 0.025) * side
    places = roots[chosen] + rng.normal(0, spread, (count, 2))
    x, y = np.clip(places, 0, side - 1).astype(int).T
    disorder = rng.uniform(0.1, 0.5)
    heading = outward[chosen] + lean[y, x] + rng.normal(0, disorder, count)
    length = side * rng.uniform(0.01, 0.1) * np.exp(rng.normal(0, 0.35, count))
    strands = curl(places, heading, length, rng.normal(0, 0.6, count), rng)
    widths = rng.uniform(0.3, 1.3) * np.exp(rng.normal(0, 0.3, count))
    canvas.lines(strands, widths.astype(np.float32), _strand_colours(surface, strands, rng))


def draw_leaves(canvas: SupersampledCanvas, body: Pixels, surface: Pixels, rng: Rng) -> None:
    """Draw twigs with leaves growing out of a body; arguments as for `draw_hair`."""
    side = canvas.side
    if rng.random() < 0.6:
        canvas.fill(body, surface)
    roots, outward = _edge(body, rng)
    chosen = rng.integers(len(roots), size=int(rng.integers(4, 40)))
    count = len(chosen)
    heading = outward[chosen] + rng.normal(0, 0.4, count)
    length = side * rng.uniform(0.1, 0.4, count)
    twigs = curl(roots[chosen], heading, length, rng.normal(0, 0.8, count), rng)
    widths = rng.uniform(0.6, 4, count).astype(np.float32)
    canvas.lines(twigs, widths, _strand_colours(surface, twigs, rng))
    # Six leaves on each twig, none at its root.
    stems = np.repeat(twigs, 6, axis=0)
    at = rng.integers(2, twigs.shape[1], size=len(stems))
    base = stems[np.arange(len(stems)), at]
    leaves = _leaf_outlines(base, side, rng)
    canvas.polygons(leaves, _strand_colours(surface, leaves, rng))


def _leaf_outlines(base: Points, side: int, rng: Rng) -> Points:
    """Return ellipses (n, 12, 2), each with one end at its base (n, 2), in random directions."""
    count = len(base)
    turn = rng.uniform(-np.pi, np.pi, count)
    long = side * rng.uniform(0.015, 0.09) * np.exp(rng.normal(0, 0.3, count))
    wide = long * rng.uniform(0.08, 0.5)
    outline = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    # Along and across the leaf.
    u = (long[:, None] * (1 - np.cos(outline))) / 2
    v = wide[:, None] * np.sin(outline)
    cosine = np.cos(turn)[:, None]
    sine = np.sin(turn)[:, None]
    turned = np.stack([cosine * u - sine * v, sine * u + cosine * v], axis=-1)
    leaves: Points = (base[:, None] + turned).astype(np.float32)
    return leaves


def draw_mesh(canvas: SupersampledCanvas, body: Pixels, surface: Pixels, rng: Rng) -> None:
    """Draw a net, a fence or lace in the shape of a body; arguments as for `draw_hair`."""
    side = canvas.side
    if rng.random() < 0.4:
        # Lace: a body with irregular holes.
        # Bumps of the noise are the holes of the lace: from a few to many.
        pattern = noise(side, int(rng.integers(side // 24, side // 5)), rng)
        solid = pattern > rng.uniform(-0.6, 0.4)
        canvas.fill(body * np.float32(1) * solid, surface)
        return
    # Log-uniform: fine nets are as common as coarse fences.
    pitch = side * np.exp(rng.uniform(np.log(0.015), np.log(0.1)))
    slant = rng.uniform(0, np.pi)
    # Two families of threads at 35 to 90 degrees.
    cross = slant + rng.uniform(0.6, 1.6)
    bow = rng.uniform(-0.3, 0.3)
    offsets = np.arange(-side, side, pitch)
    lines = []
    for angle in (slant, cross):
        across = np.array([-np.sin(angle), np.cos(angle)])
        along = np.array([np.cos(angle), np.sin(angle)])
        # Each thread is twice as long as the picture, so that it crosses all of it.
        start = side / 2 + offsets[:, None] * across - side * along
        heading = np.full(len(start), angle - bow / 2)
        lines.append(curl(start, heading, np.full(len(start), 2.0 * side), bow, rng))
    strands = np.concatenate(lines)
    widths = np.full(len(strands), rng.uniform(0.4, 0.3 * pitch), np.float32)
    canvas.lines(strands, widths, _strand_colours(surface, strands, rng))
    # Threads outside of the body are cut off afterwards.
    large = cv2.resize(body, canvas.cover.shape[::-1], interpolation=cv2.INTER_CUBIC)
    outside = np.asarray(large) <= 0.5
    canvas.cover[outside] = 0
    canvas.paint[outside] = 0


def curl(
    roots: NDArray[np.float64],
    heading: NDArray[np.float64],
    length: NDArray[np.float64],
    bend: NDArray[np.float64] | float,
    rng: Rng,
    *,
    points: int = 12,
) -> Points:
    """Draw steadily turning, slightly wavering curves.

    Args:
        roots: (n, 2) x and y of their first points.
        heading: (n,) direction at the root, radians.
        length: (n,) in the unit of the roots.
        bend: (n,) or one number: change of the direction over the length, radians.
        rng: of all draws.
        points: points of each curve.

    Returns:
        (n, points, 2).
    """
    share = np.linspace(0, 1, points)
    turn = heading[:, None] + np.reshape(bend, (-1, 1)) * share
    # A random walk of the direction.
    waver = 0.15 * np.cumsum(rng.standard_normal((len(roots), points)), axis=1)
    turn = turn + waver * rng.random()
    direction = np.stack([np.cos(turn), np.sin(turn)], axis=-1)
    step = (length / (points - 1))[:, None, None] * direction
    # The first point is the root itself.
    step[:, 0] = 0
    curves: Points = (roots[:, None] + np.cumsum(step, axis=1)).astype(np.float32)
    return curves


def _body(side: int, rng: Rng) -> Pixels:
    """Draw a shape (side, side), as a whole or so close that the frame cuts it."""
    shape = draw_shape(side, rng)
    zoom = rng.uniform(0.6, 1.0) if rng.random() < 0.5 else rng.uniform(1.0, 2.2)
    # The rim of the shape: neither its inside nor the empty background.
    edge = (shape > 0.1) & (cv2.erode(shape, np.ones((5, 5))) < 0.9)
    rows, columns = np.where(edge)
    x = y = side / 2
    if zoom >= 1 and len(rows):
        # A close view shows the edge, as strands grow only there.
        i = rng.integers(len(rows))
        x = float(columns[i])
        y = float(rows[i])
    place = np.array([[zoom, 0, side / 2 - zoom * x], [0, zoom, side / 2 - zoom * y]])
    return np.asarray(cv2.warpAffine(shape, place, (side, side)), np.float32)


def _edge(body: Pixels, rng: Rng) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return points on the edge of a body (h, w), often on a part of the edge only.

    Returns:
        (n, 2) x and y, and (n,) the direction outward there in radians.
    """
    solid = body > 0.5
    # The core is one pixel smaller; what it leaves is the edge.
    core = cv2.erode(solid.astype(np.uint8), np.ones((3, 3)))
    rows, columns = np.where(solid & (core == 0))
    if len(rows) < 2:
        # An empty body grows from the middle.
        middle = np.array([[body.shape[1] / 2, body.shape[0] / 2]])
        return middle, rng.uniform(-np.pi, np.pi, 1)
    # A smooth gradient has a steady direction along the edge.
    smooth = cv2.GaussianBlur(body, (0, 0), 4)
    across = cv2.Sobel(smooth, cv2.CV_32F, 1, 0)
    down = cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    points = np.stack([columns, rows], axis=1).astype(np.float64)
    outward = np.arctan2(-down[rows, columns], -across[rows, columns]).astype(np.float64)
    if rng.random() < 0.4:
        # Strands on one side only, like a mane or a beard.
        facing = rng.uniform(-np.pi, np.pi)
        side = np.cos(outward - facing) > rng.uniform(-0.7, 0.5)
        if side.sum() > 1:
            points = points[side]
            outward = outward[side]
    return points, outward


def _surface(corpus: Corpus, side: int, rng: Rng) -> Pixels:
    """Draw colour (side, side, 3): a photograph, or one colour with a little shade."""
    if rng.random() < 0.55:
        return corpus.texture(side, rng, least=0.3)
    strength = rng.uniform(0, 0.3)
    shade = 1 + strength * noise(side, int(rng.integers(3, 12)), rng)[..., None]
    surface: Pixels = np.clip(rng.random(3) * shade, 0, 1).astype(np.float32)
    return surface


def _strand_colours(surface: Pixels, strands: Points, rng: Rng) -> Colours:
    """Draw a colour (n, 3) for each strand: the surface's at its root, lighter or darker.

    Args:
        surface: (side, side, 3) 0-1.
        strands: (n, points, 2) x and y; the first point is the root.
        rng: of all draws.
    """
    side = surface.shape[0]
    x, y = np.clip(strands[:, 0], 0, side - 1).astype(int).T
    rooted = surface[y, x]
    if rng.random() < 0.5:
        # Closer to one colour, as most hair is; the two shares need not add up to 1.
        own = rng.uniform(0, 1) * rooted
        rooted = own + (1 - rng.random()) * rooted.mean(0)
    contrast = rng.uniform(0.02, 0.35)
    light = np.exp(rng.normal(0, contrast, (len(strands), 1)))
    colours: Colours = np.clip(rooted * light, 0, 1).astype(np.float32)
    return colours


def _fixed_point(points: Points) -> NDArray[np.int32]:
    """Return points in pixels as fixed-point coordinates of samples."""
    return np.rint(points * _SAMPLES * (1 << _FRACTION_BITS)).astype(np.int32)


def _codes(colour: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.rint(np.clip(colour, 0, 1) * 255).astype(np.uint8)
