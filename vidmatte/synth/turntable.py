"""Renders of a mesh turning in front of a camera: the pictures of a bank's "mesh" entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vidmatte.imaging.arrays import Pixels
from vidmatte.synth.corpus import Corpus, Rng, recolour
from vidmatte.synth.mesh import Mesh, make_mesh
from vidmatte.synth.raster import View, extend, project, render, to_camera

Floats = NDArray[np.float32]

_TEXTURE_SIDE = 192


@dataclass(frozen=True)
class Turntable:
    """Frames of a turning mesh.

    Attributes:
        colours: straight colour of each frame, (S, S, 3) 0-1, continued beyond the alpha.
        alphas: alpha of each frame, (S, S) 0-1.
        yaw: rotation about the upright axis in each frame, radians.
    """

    colours: list[Pixels]
    alphas: list[Pixels]
    yaw: list[float]


def make_turntable(corpus: Corpus, rng: Rng, *, frames: int, side: int) -> Turntable:
    """Render a mesh of a random kind over a quarter turn to a full turn."""
    mesh = make_mesh(rng)
    textures = draw_textures(corpus, len(mesh.gloss), rng)
    return render_turntable(mesh, textures, draw_views(frames, rng), side)


def draw_views(frames: int, rng: Rng) -> list[View]:
    """Return views of a camera around an object of about 2 units, in a moving light."""
    # Most make half a turn or more: later frames then show a side that the reference does not.
    turn = float(rng.choice([1, -1]) * 2 * np.pi * rng.choice([0.25, 0.5, 1.0], p=[0.2, 0.3, 0.5]))
    start = float(rng.uniform(0, 2 * np.pi))
    progress = np.linspace(0, 1, frames)
    # Sometimes the turn speeds up and slows down.
    if rng.random() < 0.4:
        progress = progress + 0.06 * np.sin(2 * np.pi * progress * rng.integers(1, 4))
    elevation = rng.uniform(-0.2, 0.9) + rng.normal(0, 0.12) * np.sin(np.pi * progress)
    roll = rng.normal(0, 0.1)
    # Perspective is strong at 3 units and weak at 9.
    away = float(rng.uniform(3.0, 9.0))
    around = rng.uniform(0, 2 * np.pi) + progress * rng.normal(0, 1.5)
    height = rng.uniform(0.2, 1.2)
    colour = np.clip(1 + rng.normal(0, 0.08, 3), 0.8, 1.2)
    view = View(
        0.0,
        0.0,
        away,
        colour=(float(colour[0]), float(colour[1]), float(colour[2])),
        ambient=float(rng.uniform(0.25, 0.7)),
        roll=float(roll),
    )
    return [
        replace(
            view,
            yaw=start + turn * float(progress[t]),
            elevation=float(elevation[t]),
            # 0.6 keeps the light in front of the object most of the time.
            light=(float(np.cos(around[t])), float(height), float(np.sin(around[t]) + 0.6)),
        )
        for t in range(frames)
    ]


def draw_textures(corpus: Corpus, count: int, rng: Rng) -> Floats:
    """Return textures (count, S, S, 3): crops of photographs, flat colours, and stripes of both."""
    return np.stack([_texture(corpus, rng) for _ in range(count)]).astype(np.float32)


def _texture(corpus: Corpus, rng: Rng) -> Pixels:
    kind = rng.random()
    if kind < 0.4:
        return corpus.texture(_TEXTURE_SIDE, rng)
    flat = np.broadcast_to(rng.random(3).astype(np.float32), (_TEXTURE_SIDE, _TEXTURE_SIDE, 3))
    if kind < 0.75:
        # The brightness of a photograph is the grain of a flat colour.
        grain = corpus.texture(_TEXTURE_SIDE, rng).mean(-1, keepdims=True)
        return np.asarray(np.clip(flat * (0.75 + 0.5 * grain), 0, 1), np.float32)
    if kind < 0.85:
        return np.asarray(flat, np.float32)
    other = recolour(corpus.texture(_TEXTURE_SIDE, rng), rng)
    y, x = np.mgrid[:_TEXTURE_SIDE, :_TEXTURE_SIDE] / _TEXTURE_SIDE
    angle = rng.choice([0, np.pi / 2, rng.uniform(0, np.pi)])
    count = rng.integers(3, 14)
    stripes = np.sin(2 * np.pi * count * (x * np.cos(angle) + y * np.sin(angle))) > rng.uniform(
        -0.7, 0.7
    )
    return np.asarray(np.where(stripes[..., None], flat, other), np.float32)


def render_turntable(mesh: Mesh, textures: Floats, views: Sequence[View], side: int) -> Turntable:
    """Render a mesh in each view, at one scale with the whole mesh visible in every frame."""
    bounds = []
    for view in views:
        plane = project(to_camera(mesh.vertices, view), view)[:, :2]
        bounds.append((*plane.min(0), *plane.max(0)))
    x0, y0, x1, y1 = np.array(bounds).T
    left = float(x0.min())
    top = float(y0.min())
    right = float(x1.max())
    bottom = float(y1.max())
    centre = (left + right) / 2, (top + bottom) / 2
    # A margin of 5 % around the bounds of all frames.
    span = 1.05 * max(right - left, bottom - top)
    colours, alphas = [], []
    for view in views:
        paint, alpha = render(mesh, textures, view, side, centre=centre, span=span)
        colours.append(extend(paint, alpha))
        alphas.append(alpha)
    return Turntable(colours, alphas, [view.yaw for view in views])
