"""Draw clips of heads of hair and of furry animals without Blender, at a second or less a frame.

    python -m vidmatte.synth.groom FOLDER --clips 100

The strands are those of `synth.strands`, seen by a parallel projection, with the shading of hair of
Kajiya and Kay (SIGGRAPH 1989). Folders and files are those of `synth.blender.render`, with 8 bits.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from vidmatte.imaging.arrays import Pixels
from vidmatte.synth.hair import SupersampledCanvas
from vidmatte.synth.sprites import noise
from vidmatte.synth.strands import (
    Colour,
    Ellipsoid,
    Rng,
    Style,
    Vectors,
    any_colour,
    draw_style,
    fur,
    hair,
    hair_colour,
    skin_colour,
)
from vidmatte.threads import one_in_opencv

_PIECES = 3
"""Parts of a strand, each with its own light."""


@dataclass(frozen=True)
class Figure:
    """A foreground: bodies with their linear colours, strands, and the colours of the strands."""

    bodies: Sequence[tuple[Ellipsoid, Colour]]
    strands: Vectors
    colours: Vectors


@dataclass(frozen=True)
class View:
    """How a figure is seen.

    Attributes:
        angle: about the vertical, in radians.
        scale: pixels per unit.
        place: x and y of the figure's origin in pixels.
        lamp: (3,) direction to the light in the camera's axes: right, away, up.
        width: of a strand at its root, in pixels.
    """

    angle: float
    scale: float
    place: tuple[float, float]
    lamp: Vectors
    width: float


def make_figure(kind: str, rng: Rng) -> Figure:
    """Make a figure: a "head" on shoulders or alone, or an "animal"."""
    if kind == "head":
        skull = Ellipsoid((0, 0, 0), (0.78, 0.9, 1.0))
        bodies = [(skull, skin_colour(rng))]
        if rng.random() < 0.75:
            bodies.append((Ellipsoid((0, 0, -1.2), (0.38, 0.38, 0.7)), bodies[0][1]))
            bodies.append((Ellipsoid((0, 0, -2.6), (1.7, 0.7, 1.1)), any_colour(rng)))
        count = int(np.exp(rng.uniform(np.log(700), np.log(5000))))
        strands = hair(skull, [body for body, _ in bodies[1:]], draw_style(rng), count, rng)
        colour = hair_colour(rng)
    else:
        colour = hair_colour(rng)
        places = [((0, 0, 0), (1.2, 0.7, 0.75)), ((-1.3, 0.1, 0.7), (0.55, 0.5, 0.5))]
        places += [((x, y, -0.9), (0.2, 0.2, 0.8)) for x in (-0.8, 0.8) for y in (-0.35, 0.35)]
        bodies = [(Ellipsoid(middle, radii), colour) for middle, radii in places]
        style = Style(rng.uniform(0.06, 0.5), rng.uniform(0, 4), disorder=rng.uniform(0.1, 0.5))
        count = int(rng.integers(3000, 8000))
        strands = fur([body for body, _ in bodies], style, count, rng)
    light = np.exp(rng.normal(0, rng.uniform(0.05, 0.5), (len(strands), 1)))
    return Figure(bodies, strands, (np.array(colour) * light).astype(np.float32))


def draw(figure: Figure, view: View, side: int, shade: Pixels) -> Pixels:
    """Draw a figure, premultiplied (side, side, 4), sRGB.

    Args:
        figure: what is drawn.
        view: how it is seen.
        side: of the picture in pixels.
        shade: (side, side, 3) that the colour of the bodies is multiplied with.
    """
    canvas = SupersampledCanvas(side)
    seen = _turned(figure.strands, view.angle)
    pieces = [seen[:, first : last + 1] for first, last in _cuts(seen.shape[1])]
    depth = np.concatenate([piece[:, :, 1].mean(1) for piece in pieces])
    bodies = [
        (_turned(np.array(body.middle, np.float32), view.angle), body, colour)
        for body, colour in figure.bodies
    ]
    # The farthest first: what lies behind the middle of a body is hidden by it.
    bodies.sort(key=lambda found: -found[0][1])
    fence = [np.inf, *(float(middle[1]) for middle, _, _ in bodies), -np.inf]
    for k in range(len(bodies) + 1):
        if k:
            _draw_body(canvas, *bodies[k - 1], view, shade)
        is_next = (depth <= fence[k]) & (depth > fence[k + 1])
        for number, piece in enumerate(pieces):
            chosen = np.flatnonzero(is_next[number * len(seen) : (number + 1) * len(seen)])
            chosen = chosen[np.argsort(-piece[chosen, :, 1].mean(1))]
            thin = 1 - 0.5 * number / _PIECES
            widths = np.full(len(chosen), view.width * thin, np.float32)
            colours = figure.colours[chosen] * _light(piece[chosen], view.lamp)
            canvas.lines(_projected(piece[chosen], view), widths, _encode(colours))
    return canvas.picture()


def _cuts(points: int) -> list[tuple[int, int]]:
    """Return the first and last points of the pieces of a strand."""
    ends = np.rint(np.linspace(0, points - 1, _PIECES + 1)).astype(int).tolist()
    return list(itertools.pairwise(ends))


def _turned(points: Vectors, angle: float) -> Vectors:
    cosine, sine = np.cos(angle), np.sin(angle)
    x, y = points[..., 0], points[..., 1]
    turned = np.stack([cosine * x - sine * y, sine * x + cosine * y, points[..., 2]], -1)
    return turned.astype(np.float32)


def _projected(points: Vectors, view: View) -> Vectors:
    x = view.place[0] + view.scale * points[..., 0]
    y = view.place[1] - view.scale * points[..., 2]
    return np.stack([x, y], -1).astype(np.float32)


def _light(piece: Vectors, lamp: Vectors) -> Vectors:
    """Return the light (n, 1) that strands (n, points, 3) send to the eye."""
    way = piece[:, -1] - piece[:, 0]
    way = way / np.maximum(np.linalg.norm(way, axis=-1, keepdims=True), 1e-6)
    along = np.clip(way @ lamp, -1, 1)[:, None]
    across = np.sqrt(1 - along**2)
    to_eye = np.sqrt(1 - way[:, 1:2] ** 2)
    shine = np.clip(across * to_eye - along * way[:, 1:2], 0, 1) ** 30
    sent: Vectors = (0.25 + 0.75 * across + 1.5 * shine).astype(np.float32)
    return sent


def _draw_body(
    canvas: SupersampledCanvas,
    middle: Vectors,
    body: Ellipsoid,
    colour: Colour,
    view: View,
    shade: Pixels,
) -> None:
    """Draw an ellipsoid with the light on its side of the lamp."""
    side = canvas.side
    x, y = _projected(middle, view).tolist()
    first, second, tall = body.radii
    wide = float(np.hypot(first * np.cos(view.angle), second * np.sin(view.angle)))
    rows, columns = np.mgrid[:side, :side].astype(np.float32)
    u = (columns - x) / (wide * view.scale)
    v = (y - rows) / (tall * view.scale)
    inside = u * u + v * v
    away = np.sqrt(np.clip(1 - inside, 0, 1))
    lit = np.clip(u * view.lamp[0] - away * view.lamp[1] + v * view.lamp[2], 0, 1)
    surface = np.array(colour) * shade * (0.25 + lit)[..., None]
    # The edge falls by a pixel about the outline, so that half of it lies at the outline.
    rim = np.sqrt(inside) - 1
    mask = np.clip(0.5 - rim * min(wide, tall) * view.scale, 0, 1)
    canvas.fill(mask.astype(np.float32), _encode(surface))


def _encode(linear: Pixels) -> Pixels:
    """Return linear light as sRGB, approximately."""
    return (np.clip(linear, 0, 1) ** np.float32(1 / 2.2)).astype(np.float32)


def make_clip(kind: str, side: int, frames: int, rng: Rng) -> list[Pixels]:
    """Draw a figure that turns and drifts; frames are premultiplied (side, side, 4)."""
    figure = make_figure(kind, rng)
    lamp = rng.standard_normal(3)
    lamp[1] = -abs(lamp[1]) if rng.random() < 0.7 else abs(lamp[1])
    toward: Vectors = (lamp / np.linalg.norm(lamp)).astype(np.float32)
    angle, turn = rng.uniform(-np.pi, np.pi), rng.normal(0, 0.04)
    scale = side / 4.2 * rng.uniform(0.6, 1.35)
    place = side * np.array([0.5, 0.42]) + side * rng.normal(0, 0.07, 2)
    drift = side * rng.normal(0, 0.008, 2)
    width = float(np.exp(rng.uniform(np.log(0.4), np.log(1.4)))) * max(1.0, side / 900)
    shade = 1 + 0.5 * noise(side, int(rng.integers(4, 40)), rng)[..., None]
    colour: Pixels = np.repeat(np.clip(shade, 0.1, 1.5), 3, 2).astype(np.float32)
    found = []
    for t in range(frames):
        x, y = (place + t * drift).tolist()
        view = View(angle + t * turn, scale, (x, y), toward, width)
        found.append(draw(figure, view, side, colour))
    return found


def groom_parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m vidmatte.synth.groom", description="Draw hair and fur with exact alpha."
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--split", choices=["train", "held-out"], default="train")
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--frames", type=int, default=1)
    parser.add_argument("--size", type=int, default=512, help="side of the frames")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the clips that the command line asks for; those that are there stay."""
    asked = groom_parser().parse_args(arguments)
    one_in_opencv()
    for number in range(asked.clips):
        # The two splits share no seed.
        rng = np.random.default_rng((number, int(asked.split == "held-out"), 17))
        kind = "head" if rng.random() < 0.75 else "animal"
        folder = asked.folder / f"{asked.split}-{number:04d}-drawn-{kind}"
        if folder.is_dir():
            continue
        partial = folder.with_name(f"{folder.name}.part")
        partial.mkdir(parents=True, exist_ok=True)
        for t, picture in enumerate(make_clip(kind, asked.size, asked.frames, rng)):
            straight = picture[..., :3] / np.maximum(picture[..., 3:], 1e-3)
            codes = np.rint(np.dstack([straight[..., ::-1], picture[..., 3]]).clip(0, 1) * 255)
            cv2.imwrite(str(partial / f"{t:04d}.png"), codes.astype(np.uint8))
        partial.rename(folder)


if __name__ == "__main__":
    main()
