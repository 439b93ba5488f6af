"""Geometry of strands: hair that falls, curls and clumps, fur, feathers and fringes.

Lengths are in units of the scene, in which a head has a radius of about 1. Strands are (n, points,
3) float32 with z up; their first point is the root.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Colour = tuple[float, float, float]
"""Linear red, green and blue, 0-1."""
Rng = np.random.Generator


@dataclass(frozen=True)
class Ellipsoid:
    """A body part: its middle (3,) and its three radii (3,)."""

    middle: tuple[float, float, float]
    radii: tuple[float, float, float]


@dataclass(frozen=True)
class Style:
    """How hair grows.

    Attributes:
        length: of a strand.
        fall: pull downward per length; 0 stands straight off the body.
        curl: radius of the curls.
        turns: curls along a strand.
        clump: share by which the ends of a lock come together, 0-1; wet hair is near 1.
        spread: radius of a lock at its root.
        stray: share of the strands that leave their lock.
        disorder: standard deviation of a strand's direction at its root.
    """

    length: float
    fall: float = 0.0
    curl: float = 0.0
    turns: float = 0.0
    clump: float = 0.3
    spread: float = 0.12
    stray: float = 0.05
    disorder: float = 0.2


def draw_style(rng: Rng) -> Style:
    """Draw a style: straight, wavy, curly, afro, wet or short."""
    kind = rng.choice(["straight", "wavy", "curly", "afro", "wet", "short"])
    long = float(rng.uniform(0.9, 3.0))
    stray = float(rng.uniform(0.02, 0.3))
    if kind == "straight":
        return Style(long, fall=rng.uniform(2, 7), stray=stray, disorder=rng.uniform(0.1, 0.5))
    if kind == "wavy":
        curl = rng.uniform(0.03, 0.12)
        return Style(long, rng.uniform(2, 5), curl, rng.uniform(1, 4), stray=stray)
    if kind == "curly":
        return Style(
            long,
            rng.uniform(1, 4),
            rng.uniform(0.05, 0.16),
            rng.uniform(4, 11),
            clump=0.5,
            spread=0.08,
            stray=stray,
            disorder=0.5,
        )
    if kind == "afro":
        curl = rng.uniform(0.03, 0.08)
        return Style(rng.uniform(0.4, 0.9), 0, curl, 6, stray=0.4, disorder=0.6)
    if kind == "wet":
        return Style(
            long,
            rng.uniform(3, 8),
            rng.uniform(0, 0.05),
            rng.uniform(0, 3),
            clump=0.95,
            spread=0.1,
            stray=0.05,
            disorder=0.5,
        )
    return Style(rng.uniform(0.12, 0.5), rng.uniform(0, 3), stray=stray, disorder=0.5)


def hair_colour(rng: Rng) -> Colour:
    """Draw a natural colour of hair, or now and then any other."""
    if rng.random() < 0.12:
        return any_colour(rng)
    kinds = np.array([(0.015, 0.01, 0.008), (0.09, 0.04, 0.02), (0.5, 0.33, 0.14), (0.6, 0.6, 0.6)])
    return _colour(kinds[rng.choice(4, p=[0.35, 0.3, 0.2, 0.15])] * np.exp(rng.normal(0, 0.3, 3)))


def skin_colour(rng: Rng) -> Colour:
    """Draw a colour of skin, dark to light."""
    return _colour(np.array((0.62, 0.4, 0.3)) * rng.uniform(0.15, 1.2) * np.exp(rng.normal(0, 0.1)))


def any_colour(rng: Rng) -> Colour:
    """Draw any colour, rather dark than light."""
    return _colour(rng.random(3) ** 1.5)


def _colour(values: NDArray[np.float64]) -> Colour:
    red, green, blue = np.clip(values, 0, 1).tolist()
    return red, green, blue


def roots_on(
    body: Ellipsoid, count: int, rng: Rng, *, lowest: float = -1.0
) -> tuple[Vectors, Vectors]:
    """Draw points on an ellipsoid, and their normals, both (count, 3).

    Args:
        body: the ellipsoid.
        count: number of points.
        rng: of all draws.
        lowest: least height of a point, as a share of the vertical radius; -1 for the whole body.
    """
    up = rng.uniform(lowest, 1, count)
    around = rng.uniform(-np.pi, np.pi, count)
    level = np.sqrt(np.clip(1 - up**2, 0, 1))
    unit = np.stack([level * np.cos(around), level * np.sin(around), up], axis=-1)
    radii = np.array(body.radii)
    points = np.array(body.middle) + unit * radii
    return points.astype(np.float32), _unit(unit / radii)


def grow(
    roots: Vectors, normals: Vectors, style: Style, bodies: list[Ellipsoid], rng: Rng, points: int
) -> Vectors:
    """Grow a strand from each root; strands stay outside of the bodies."""
    count = len(roots)
    length = style.length * np.exp(rng.normal(0, 0.18, (count, 1)))
    way = _unit(normals + style.disorder * rng.standard_normal((count, 3)))
    # Each strand falls in its own degree, and leans to a side of its own.
    fall = style.fall * np.exp(rng.normal(0, 0.3, (count, 1)))
    lean = 0.25 * style.disorder * rng.standard_normal((count, 3))
    down = np.array([0.0, 0.0, -1.0])
    strands = np.empty((count, points, 3))
    strands[:, 0] = roots
    step = length / (points - 1)
    for k in range(1, points):
        way = _unit(way + (fall * down + lean) * step)
        ahead = strands[:, k - 1] + way * step
        for body in bodies:
            ahead = _outside(ahead, body)
        way = _unit(ahead - strands[:, k - 1])
        strands[:, k] = ahead
    return strands.astype(np.float32)


def hair(body: Ellipsoid, others: list[Ellipsoid], style: Style, count: int, rng: Rng) -> Vectors:
    """Grow locks of hair on a head: guides are grown, and each strand follows one of them."""
    locks = int(np.clip(count / rng.uniform(12, 90), 8, 400))
    # Enough for each curl, and few for short hair, which bends little.
    points = int(np.clip(7 * style.turns, 28 if style.length > 0.5 else 12, 64))
    bodies = [body, *others]
    roots, normals = roots_on(body, locks, rng, lowest=rng.uniform(-0.3, 0.3))
    guides = grow(roots, normals, style, bodies, rng, points)
    lock = rng.integers(locks, size=count)
    share = np.linspace(0, 1, points)[None, :, None]
    # Strands begin beside their guide, and come together at its end.
    beside = style.spread * rng.standard_normal((count, 1, 3))
    strands = guides[lock] + beside * (1 - style.clump * share)
    strands += style.curl * _helix(count, lock, style.turns, points, rng) * np.sqrt(share)
    stray = rng.random(count) < style.stray
    away = np.cumsum(rng.standard_normal((count, points, 3)), axis=1) / points**0.5
    reach = np.where(stray, rng.uniform(0.05, 0.35, count), 0.015) * style.length
    strands += reach[:, None, None] * away * share
    for each in bodies:
        strands = _outside(strands, each)
    return strands.astype(np.float32)


def fur(bodies: list[Ellipsoid], style: Style, count: int, rng: Rng) -> Vectors:
    """Cover bodies with short hair that leans one way on each."""
    area = np.array([np.prod(body.radii) ** (2 / 3) for body in bodies])
    found = []
    for body, share in zip(bodies, area / area.sum(), strict=True):
        roots, normals = roots_on(body, max(8, int(count * share)), rng)
        comb = rng.normal(0, 0.6, 3).astype(np.float32)
        found.append(grow(roots, _unit(normals + comb), style, [body], rng, 7))
    return np.concatenate(found)


def feather(length: float, width: float, rng: Rng) -> Vectors:
    """Return the shaft and the barbs of a feather that lies in the plane of x and z."""
    barbs = int(rng.integers(160, 420))
    points = 12
    at = np.linspace(0.08, 1, barbs)
    bow = rng.normal(0, 0.3)
    shaft = np.stack([bow * at**2, np.zeros(barbs), at], -1) * length
    # Widest in the middle, and torn here and there.
    reach = width * np.sin(np.pi * at**0.7) ** 0.6 + 0.02 * width
    gaps = np.cumsum(rng.normal(0, 0.03, barbs))
    angle = rng.uniform(0.4, 0.9) + gaps + rng.normal(0, 0.04, barbs)
    share = np.linspace(0, 1, points)[None, :]
    strands = []
    for side in (-1, 1):
        turn = angle[:, None] * (1 - 0.5 * share)
        x = side * np.cumsum(np.sin(turn), 1) / points * reach[:, None]
        z = np.cumsum(np.cos(turn), 1) / points * reach[:, None]
        droop = 0.1 * rng.standard_normal((barbs, 1)) * share**2 * reach[:, None]
        strands.append(shaft[:, None] + np.stack([x, droop, z], -1))
    stem = np.linspace(0, 1, points)
    middle = np.stack([bow * stem**2, np.zeros(points), stem], -1)[None] * length
    return np.concatenate([*strands, middle]).astype(np.float32)


def fringe(width: float, length: float, count: int, rng: Rng) -> Vectors:
    """Return threads that hang from a hem along x at the origin, in tassels or one by one."""
    points = 14
    across = np.linspace(-width / 2, width / 2, count)
    if rng.random() < 0.5:
        tassels = int(rng.integers(8, 40))
        near = np.round((across / width + 0.5) * tassels) / tassels * width - width / 2
        across = near + 0.25 * (across - near)
    roots = np.stack([across, 0.01 * rng.standard_normal(count), np.zeros(count)], -1)
    normals = np.tile(np.array([0, 0, -1.0]), (count, 1))
    style = Style(length, fall=1.0, disorder=rng.uniform(0.03, 0.25))
    strands = grow(
        roots.astype(np.float32), normals.astype(np.float32), style, [], rng, points
    ).astype(np.float64)
    twist = _helix(count, np.arange(count), rng.uniform(2, 9), points, rng)
    return (strands + 0.012 * twist).astype(np.float32)


def leaf_triangles(bases: Vectors, size: float, rng: Rng) -> tuple[Vectors, NDArray[np.int32]]:
    """Return the corners (m, 3) and faces (k, 4) of leaves, one at each base, bent and turned."""
    count = len(bases)
    long = size * np.exp(rng.normal(0, 0.3, (count, 1)))
    along = _unit(rng.standard_normal((count, 3)).astype(np.float32))
    across = _unit(np.cross(along, rng.standard_normal((count, 3))).astype(np.float32))
    out = np.cross(along, across)
    wide = long * rng.uniform(0.12, 0.4)
    bend = rng.normal(0, 0.3, (count, 1)) * long
    rows = []
    for share, half in ((0, 0.08), (0.3, 0.9), (0.6, 0.75), (1, 0.04)):
        middle = bases + share * long * along + share**2 * bend * out
        rows += [middle - half * wide * across / 2, middle + half * wide * across / 2]
    corners = np.stack(rows, axis=1).reshape(-1, 3)
    quads = np.array([[0, 1, 3, 2], [2, 3, 5, 4], [4, 5, 7, 6]])
    faces = (8 * np.arange(count)[:, None, None] + quads).reshape(-1, 4)
    return corners.astype(np.float32), faces.astype(np.int32)


def _helix(
    count: int, lock: NDArray[np.int64], turns: float, points: int, rng: Rng
) -> NDArray[np.float64]:
    """Return offsets (count, points, 3) on a circle; the strands of a lock turn together."""
    phase = 7.0 * lock[:, None] + 0.4 * rng.standard_normal((count, 1))
    speed = 1 + 0.1 * rng.standard_normal((count, 1))
    angle = phase + speed * 2 * np.pi * turns * np.linspace(0, 1, points)
    third = 0.6 * np.sin(1.3 * angle)
    return np.stack([np.cos(angle), np.sin(angle), third], -1)


def _outside(points: NDArray[np.float64], body: Ellipsoid) -> NDArray[np.float64]:
    """Return points (..., 3) moved onto the surface of a body where they lie inside of it."""
    middle = np.array(body.middle)
    offset = (points - middle) / np.array(body.radii)
    distance = np.maximum(np.linalg.norm(offset, axis=-1, keepdims=True), 1e-6)
    moved = middle + (points - middle) * (1.005 / distance)
    return np.where(distance < 1.005, moved, points)


def _unit(vectors: NDArray[np.floating]) -> Vectors:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    units: Vectors = (vectors / np.maximum(length, 1e-6)).astype(np.float32)
    return units
