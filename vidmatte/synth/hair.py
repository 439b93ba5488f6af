"""Fine structure with exact alpha: hair, fur, leaves and mesh, drawn three times as large as they are seen.

What is drawn so is fully opaque or absent in every sample, so that the average over the samples of a pixel is its
exact alpha, however thin the structure. Pictures are premultiplied, (S, S, 4) float32.
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


class SupersampledCanvas:
    """A picture in the making: opaque paint on nothing, `side` pixels wide when it is seen."""

    def __init__(self, side: int) -> None:
        self.side = side
        self.paint = np.zeros((side * _SAMPLES, side * _SAMPLES, 3), np.uint8)
        self.cover = np.zeros((side * _SAMPLES, side * _SAMPLES), np.uint8)

    def fill(self, mask: Pixels, colour: Pixels) -> None:
        """Paint a mask (side, side) with a picture (side, side, 3), with a hard edge."""
        size = self.cover.shape[::-1]
        inside = np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_CUBIC)) > 0.5
        self.paint[inside] = cv2.resize(_codes(colour), size, interpolation=cv2.INTER_LINEAR)[
            inside
        ]
        self.cover[inside] = 255

    def lines(self, strands: Points, widths: Points, colours: Colours) -> None:
        """Paint strands (n, points, 2), x and y in pixels, each with its width (n,) in pixels and colour (n, 3)."""
        corners = np.rint(strands * _SAMPLES * 8).astype(np.int32)
        thickness = np.maximum(1, np.rint(widths * _SAMPLES)).astype(int)
        for line, width, colour in zip(corners, thickness, _codes(colours).tolist(), strict=True):
            cv2.polylines(self.paint, [line], False, colour, int(width), cv2.LINE_8, 3)
            cv2.polylines(self.cover, [line], False, 255, int(width), cv2.LINE_8, 3)

    def polygons(self, corners_of: Points, colours: Colours) -> None:
        """Paint polygons (n, corners, 2), each with its colour (n, 3)."""
        corners = np.rint(corners_of * _SAMPLES * 8).astype(np.int32)
        for polygon, colour in zip(corners, _codes(colours).tolist(), strict=True):
            cv2.fillPoly(self.paint, [polygon], colour, cv2.LINE_8, 3)
            cv2.fillPoly(self.cover, [polygon], 255, cv2.LINE_8, 3)

    def picture(self) -> Pixels:
        """The drawing as it is seen, premultiplied."""
        size = (self.side, self.side)
        colour = cv2.resize(self.paint, size, interpolation=cv2.INTER_AREA)
        alpha = cv2.resize(self.cover, size, interpolation=cv2.INTER_AREA)
        seen: Pixels = np.dstack([colour, alpha]).astype(np.float32) / np.float32(255)
        return seen


def draw_strands(corpus: Corpus, side: int, rng: Rng) -> Pixels:
    """A sprite with fine structure of a random kind, premultiplied (side, side, 4)."""
    kinds: tuple[Callable[[SupersampledCanvas, Pixels, Pixels, Rng], None], ...] = (
        draw_hair,
        draw_fur,
        draw_leaves,
        draw_mesh,
    )
    canvas = SupersampledCanvas(side)
    kinds[rng.choice(len(kinds), p=[0.4, 0.34, 0.14, 0.12])](
        canvas, _body(side, rng), _surface(corpus, side, rng), rng
    )
    return canvas.picture()


def draw_hair(canvas: SupersampledCanvas, body: Pixels, surface: Pixels, rng: Rng) -> None:
    """Long strands in locks that leave the outline of a body, and a few that fly."""
    side = canvas.side
    if rng.random() < 0.9:
        canvas.fill(body, surface)
    roots, outward = _edge(body, rng)
    locks = int(rng.integers(4, 60))
    each = rng.integers(locks, size=int(rng.integers(40, 900)))
    chosen = rng.integers(len(roots), size=locks)
    comb = rng.uniform(-np.pi, np.pi) if rng.random() < 0.5 else None
    heading = outward[chosen] + rng.normal(0, 0.5, locks)
    if comb is not None:
        heading = np.where(rng.random(locks) < 0.7, comb + rng.normal(0, 0.3, locks), heading)
    stray = np.where(rng.random(len(each)) < 0.2, rng.uniform(0.3, 1.2), rng.uniform(0.03, 0.3))
    length = side * rng.uniform(0.05, 0.45) * np.exp(rng.normal(0, 0.4, len(each)))
    strands = curl(
        roots[chosen][each] + rng.normal(0, rng.uniform(0.005, 0.06) * side, (len(each), 2)),
        heading[each] + stray * rng.standard_normal(len(each)),
        length,
        rng.normal(0, 1.2, locks)[each] + stray * rng.standard_normal(len(each)),
        rng,
    )
    widths = rng.uniform(0.3, 1.8) * np.exp(rng.normal(0, 0.35, len(each)))
    canvas.lines(strands, widths.astype(np.float32), _strand_colours(surface, strands, rng))


def draw_fur(canvas: SupersampledCanvas, body: Pixels, surface: Pixels, rng: Rng) -> None:
    """Dense short hairs over the outline of a body, and over the body itself."""
    side = canvas.side
    canvas.fill(body, surface)
    roots, outward = _edge(body, rng)
    chosen = rng.integers(len(roots), size=int(rng.integers(600, 3500)))
    lean = 1.2 * noise(side, 4, rng)
    places = roots[chosen] + rng.normal(0, rng.uniform(0.004, 0.025) * side, (len(chosen), 2))
    x, y = np.clip(places, 0, side - 1).astype(int).T
    heading = outward[chosen] + lean[y, x] + rng.normal(0, rng.uniform(0.1, 0.5), len(chosen))
    length = side * rng.uniform(0.01, 0.1) * np.exp(rng.normal(0, 0.35, len(chosen)))
    strands = curl(places, heading, length, rng.normal(0, 0.6, len(chosen)), rng)
    widths = rng.uniform(0.3, 1.3) * np.exp(rng.normal(0, 0.3, len(chosen)))
    canvas.lines(strands, widths.astype(np.float32), _strand_colours(surface, strands, rng))


def draw_leaves(canvas: SupersampledCanvas, body: Pixels, surface: Pixels, rng: Rng) -> None:
    """Twigs with leaves that grow out of a body."""
    side = canvas.side
    if rng.random() < 0.6:
        canvas.fill(body, surface)
    roots, outward = _edge(body, rng)
    chosen = rng.integers(len(roots), size=int(rng.integers(4, 40)))
    heading = outward[chosen] + rng.normal(0, 0.4, len(chosen))
    twigs = curl(
        roots[chosen],
        heading,
        side * rng.uniform(0.1, 0.4, len(chosen)),
        rng.normal(0, 0.8, len(chosen)),
        rng,
    )
    widths = rng.uniform(0.6, 4, len(chosen)).astype(np.float32)
    canvas.lines(twigs, widths, _strand_colours(surface, twigs, rng))
    stems = np.repeat(twigs, 6, axis=0)
    at = rng.integers(2, twigs.shape[1], size=len(stems))
    base = stems[np.arange(len(stems)), at]
    turn = rng.uniform(-np.pi, np.pi, len(stems))
    long = side * rng.uniform(0.015, 0.09) * np.exp(rng.normal(0, 0.3, len(stems)))
    wide = long * rng.uniform(0.08, 0.5)
    outline = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    u = (long[:, None] * (1 - np.cos(outline))) / 2
    v = wide[:, None] * np.sin(outline)
    c, s = np.cos(turn)[:, None], np.sin(turn)[:, None]
    leaves = base[:, None] + np.stack([c * u - s * v, s * u + c * v], axis=-1)
    canvas.polygons(
        leaves.astype(np.float32), _strand_colours(surface, leaves.astype(np.float32), rng)
    )


def draw_mesh(canvas: SupersampledCanvas, body: Pixels, surface: Pixels, rng: Rng) -> None:
    """A net, a fence or lace in the shape of a body."""
    side = canvas.side
    if rng.random() < 0.4:
        pattern = noise(side, int(rng.integers(side // 24, side // 5)), rng)
        canvas.fill(body * np.float32(1) * (pattern > rng.uniform(-0.6, 0.4)), surface)
        return
    pitch, slant = side * np.exp(rng.uniform(np.log(0.015), np.log(0.1))), rng.uniform(0, np.pi)
    cross, bow = slant + rng.uniform(0.6, 1.6), rng.uniform(-0.3, 0.3)
    offsets = np.arange(-side, side, pitch)
    lines = []
    for angle in (slant, cross):
        middle = side / 2 + offsets[:, None] * np.array([-np.sin(angle), np.cos(angle)])
        start = middle - side * np.array([np.cos(angle), np.sin(angle)])
        lines.append(
            curl(
                start,
                np.full(len(start), angle - bow / 2),
                np.full(len(start), 2.0 * side),
                bow,
                rng,
            )
        )
    strands = np.concatenate(lines)
    widths = np.full(len(strands), rng.uniform(0.4, 0.3 * pitch), np.float32)
    canvas.lines(strands, widths, _strand_colours(surface, strands, rng))
    outside = (
        np.asarray(cv2.resize(body, canvas.cover.shape[::-1], interpolation=cv2.INTER_CUBIC)) <= 0.5
    )
    canvas.cover[outside], canvas.paint[outside] = 0, 0


def curl(
    roots: NDArray[np.float64],
    heading: NDArray[np.float64],
    length: NDArray[np.float64],
    bend: NDArray[np.float64] | float,
    rng: Rng,
    *,
    points: int = 12,
) -> Points:
    """Curves (n, points, 2) from roots (n, 2): a heading that turns by `bend` over the length, and wavers a little."""
    share = np.linspace(0, 1, points)
    turn = heading[:, None] + np.reshape(bend, (-1, 1)) * share
    turn = turn + 0.15 * np.cumsum(rng.standard_normal((len(roots), points)), axis=1) * rng.random()
    step = (length / (points - 1))[:, None, None] * np.stack([np.cos(turn), np.sin(turn)], axis=-1)
    step[:, 0] = 0
    curves: Points = (roots[:, None] + np.cumsum(step, axis=1)).astype(np.float32)
    return curves


def _body(side: int, rng: Rng) -> Pixels:
    """A shape (side, side), as a whole or so near that the frame cuts it."""
    shape = draw_shape(side, rng)
    zoom = rng.uniform(0.6, 1.0) if rng.random() < 0.5 else rng.uniform(1.0, 2.2)
    rows, columns = np.where((shape > 0.1) & (cv2.erode(shape, np.ones((5, 5))) < 0.9))
    x, y = (side / 2, side / 2) if zoom < 1 or not len(rows) else _pick(columns, rows, rng)
    place = np.array([[zoom, 0, side / 2 - zoom * x], [0, zoom, side / 2 - zoom * y]])
    return np.asarray(cv2.warpAffine(shape, place, (side, side)), np.float32)


def _pick(x: NDArray[np.int64], y: NDArray[np.int64], rng: Rng) -> tuple[float, float]:
    i = rng.integers(len(x))
    return float(x[i]), float(y[i])


def _edge(body: Pixels, rng: Rng) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points (n, 2) on the edge of a body, x and y, and the heading outward there (n,); often of a part of the edge."""
    smooth = cv2.GaussianBlur(body, (0, 0), 4)
    rows, columns = np.where(
        (body > 0.5) & (cv2.erode((body > 0.5).astype(np.uint8), np.ones((3, 3))) == 0)
    )
    if len(rows) < 2:
        middle = np.array([[body.shape[1] / 2, body.shape[0] / 2]])
        return middle, rng.uniform(-np.pi, np.pi, 1)
    across, down = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    points = np.stack([columns, rows], axis=1).astype(np.float64)
    outward = np.arctan2(-down[rows, columns], -across[rows, columns]).astype(np.float64)
    if rng.random() < 0.4:
        side = np.cos(outward - rng.uniform(-np.pi, np.pi)) > rng.uniform(-0.7, 0.5)
        if side.sum() > 1:
            points, outward = points[side], outward[side]
    return points, outward


def _surface(corpus: Corpus, side: int, rng: Rng) -> Pixels:
    """Colour (side, side, 3): a photograph, or one colour with a little shade."""
    if rng.random() < 0.55:
        return corpus.texture(side, rng, least=0.3)
    shade = 1 + rng.uniform(0, 0.3) * noise(side, int(rng.integers(3, 12)), rng)[..., None]
    surface: Pixels = np.clip(rng.random(3) * shade, 0, 1).astype(np.float32)
    return surface


def _strand_colours(surface: Pixels, strands: Points, rng: Rng) -> Colours:
    """Colour (n, 3) of each strand: that of the surface at its root, lighter or darker."""
    side = surface.shape[0]
    x, y = np.clip(strands[:, 0], 0, side - 1).astype(int).T
    rooted = surface[y, x]
    if rng.random() < 0.5:
        rooted = rng.uniform(0, 1) * rooted + (1 - rng.random()) * rooted.mean(0)
    light = np.exp(rng.normal(0, rng.uniform(0.02, 0.35), (len(strands), 1)))
    colours: Colours = np.clip(rooted * light, 0, 1).astype(np.float32)
    return colours


def _codes(colour: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.rint(np.clip(colour, 0, 1) * 255).astype(np.uint8)
