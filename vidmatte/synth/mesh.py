"""Triangle meshes made of simple solids: vehicles, furniture, bottles, lumps and assemblies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidmatte.synth.corpus import Rng

Floats = NDArray[np.float32]
Faces = NDArray[np.int32]


@dataclass(frozen=True)
class Mesh:
    """Triangles with texture coordinates; y is up and z is forward.

    Attributes:
        vertices: (V, 3).
        faces: (F, 3) indices of vertices. Faces that share vertices are shaded smoothly.
        uv: (F, 3, 2) texture coordinates of the corners; a texture is 1 wide.
        region: (F,) index of the texture.
        gloss: (R,) strength of the highlight of each region.
    """

    vertices: Floats
    faces: Faces
    uv: Floats
    region: NDArray[np.int32]
    gloss: Floats


def solid(
    vertices: NDArray[np.floating],
    faces: NDArray[np.integer],
    region: int = 0,
    *,
    repeat: float = 0.6,
) -> Mesh:
    """Return a mesh of one region, its texture projected along an axis, `repeat` to a unit."""
    points = np.asarray(vertices, np.float32)
    triangles = np.asarray(faces, np.int32)
    return Mesh(
        points,
        triangles,
        box_uv(points, triangles, repeat),
        np.full(len(triangles), region, np.int32),
        np.zeros(region + 1, np.float32),
    )


def box_uv(vertices: Floats, faces: Faces, repeat: float) -> Floats:
    """Return texture coordinates (F, 3, 2) projected along the axis nearest to each normal."""
    corners = vertices[faces]
    first = corners[:, 1] - corners[:, 0]
    second = corners[:, 2] - corners[:, 0]
    normal = np.abs(np.cross(first, second))
    axis = normal.argmax(1)
    # The two axes that span the plane of the texture.
    others = np.array([[2, 1], [0, 2], [0, 1]])[axis]
    flat = np.take_along_axis(corners, others[:, None], axis=2)
    return np.asarray(flat * repeat, np.float32)


def join(parts: Sequence[Mesh], *, gloss: Sequence[float] | None = None) -> Mesh:
    """Return all parts as one mesh; their regions keep their numbers."""
    # Vertices of later parts are numbered after those of the earlier ones.
    starts = np.cumsum([0, *[len(part.vertices) for part in parts[:-1]]])
    regions = 1 + max(int(part.region.max()) for part in parts)
    shine = np.zeros(regions, np.float32)
    if gloss is not None:
        shine[: len(gloss)] = np.asarray(gloss[:regions], np.float32)
    return Mesh(
        np.concatenate([part.vertices for part in parts]),
        np.concatenate(
            [part.faces + start for part, start in zip(parts, starts, strict=True)]
        ).astype(np.int32),
        np.concatenate([part.uv for part in parts]),
        np.concatenate([part.region for part in parts]),
        shine,
    )


def moved(
    mesh: Mesh,
    *,
    by: Sequence[float] | NDArray[np.floating] = (0, 0, 0),
    turn: NDArray[np.float64] | None = None,
) -> Mesh:
    """Return the mesh turned by a (3, 3) rotation, then shifted."""
    vertices = mesh.vertices if turn is None else mesh.vertices @ turn.T
    return Mesh(
        (vertices + np.asarray(by)).astype(np.float32), mesh.faces, mesh.uv, mesh.region, mesh.gloss
    )


def about(axis: int, angle: float) -> NDArray[np.float64]:
    """Return the (3, 3) rotation about an axis (0 x, 1 y, 2 z) by an angle in radians."""
    c = np.cos(angle)
    s = np.sin(angle)
    # The other two axes in cyclic order keep the rotation right-handed.
    i, j = [(1, 2), (2, 0), (0, 1)][axis]
    turn = np.eye(3)
    turn[i, i], turn[i, j], turn[j, i], turn[j, j] = c, -s, s, c
    return turn


def box(
    size: Sequence[float] | NDArray[np.floating], region: int = 0, *, taper: float = 1.0
) -> Mesh:
    """Return a box about the origin, with its size in x, y and z; `taper` narrows its top."""
    # Negative and positive corners, in the order of a binary count of x, y and z.
    x, y, z = (half / 2 for half in size)
    sides = []
    corners = np.array(
        [[sx * x, sy * y, sz * z] for sx in (-1, 1) for sy in (-1, 1) for sz in (-1, 1)], np.float32
    )
    corners[corners[:, 1] > 0] *= np.array([taper, 1, taper], np.float32)
    # Sides have corners of their own, so that edges stay sharp.
    for quad in (
        (0, 1, 3, 2),
        (4, 6, 7, 5),
        (0, 4, 5, 1),
        (2, 3, 7, 6),
        (0, 2, 6, 4),
        (1, 5, 7, 3),
    ):
        sides.append(solid(corners[list(quad)], np.array([[0, 1, 2], [0, 2, 3]]), region))
    return join(sides)


def lathe(profile: NDArray[np.floating], region: int = 0, *, segments: int = 28) -> Mesh:
    """Return a solid of revolution about y: profile (n, 2) of radius and height, upward."""
    angles = np.linspace(0, 2 * np.pi, segments, endpoint=False)
    radius, height = np.asarray(profile, np.float32).T
    rings = np.stack(
        [
            radius[:, None] * np.cos(angles),
            np.repeat(height[:, None], segments, 1),
            radius[:, None] * np.sin(angles),
        ],
        -1,
    )
    rows, columns = np.mgrid[: len(radius) - 1, :segments]
    # Two triangles to each quad between neighbouring rings; the last column meets the first.
    a = (rows * segments + columns).ravel()
    b = (rows * segments + (columns + 1) % segments).ravel()
    faces = np.concatenate(
        [np.stack([a, b, b + segments], 1), np.stack([a, b + segments, a + segments], 1)]
    )
    return solid(rings.reshape(-1, 3), faces, region)


def wheel(radius: float, breadth: float, region: int = 0) -> Mesh:
    """Return a tyre about the origin, with its axle along x."""
    profile = np.array([[0, -0.5], [0.8, -0.5], [1, -0.35], [1, 0.35], [0.8, 0.5], [0, 0.5]]) * [
        radius,
        breadth,
    ]
    return moved(lathe(profile, region, segments=24), turn=about(2, np.pi / 2))


def tube(
    path: NDArray[np.floating],
    radius: float | Sequence[float],
    region: int = 0,
    *,
    segments: int = 10,
) -> Mesh:
    """Return a tube along a path (n, 3), open at its ends; one radius, or one for each point."""
    points = np.asarray(path, np.float64)
    radii = np.broadcast_to(np.asarray(radius, np.float64), len(points))
    along = np.gradient(points, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    # A direction that no path of the kinds below follows, for a frame of the tube.
    aside = np.cross(along, np.array([0.31, 0.17, 0.93]))
    aside /= np.maximum(np.linalg.norm(aside, axis=1, keepdims=True), 1e-9)
    up = np.cross(along, aside)
    angles = np.linspace(0, 2 * np.pi, segments, endpoint=False)
    ring = (
        np.cos(angles)[None, :, None] * aside[:, None] + np.sin(angles)[None, :, None] * up[:, None]
    )
    vertices = points[:, None] + radii[:, None, None] * ring
    rows, columns = np.mgrid[: len(points) - 1, :segments]
    a = (rows * segments + columns).ravel()
    b = (rows * segments + (columns + 1) % segments).ravel()
    faces = np.concatenate(
        [np.stack([a, b, b + segments], 1), np.stack([a, b + segments, a + segments], 1)]
    )
    return solid(vertices.reshape(-1, 3), faces, region)


def extrude(outline: NDArray[np.floating], depth: float, region: int = 0) -> Mesh:
    """Return a slab, `depth` thick in z, of an outline (n, 2), star-shaped about its mean."""
    flat = np.asarray(outline, np.float32)
    count = len(flat)
    middle = flat.mean(0)
    parts = []
    # A fan of triangles around the middle, which is the last vertex.
    i = np.arange(count)
    fan = np.stack([np.full(count, count), i, (i + 1) % count], 1)
    for z in (-depth / 2, depth / 2):
        parts.append(
            solid(np.column_stack([np.vstack([flat, middle]), np.full(count + 1, z)]), fan, region)
        )
    wall = np.concatenate(
        [np.column_stack([flat, np.full(count, z)]) for z in (-depth / 2, depth / 2)]
    )
    quads = np.concatenate([np.stack([i, (i + 1) % count, i + count], 1)])
    others = np.stack([(i + 1) % count, (i + 1) % count + count, i + count], 1)
    parts.append(solid(wall, np.concatenate([quads, others]), region))
    return join(parts)


def sphere(radius: float, region: int = 0, *, segments: int = 40) -> Mesh:
    """Return a ball about the origin."""
    angles = np.linspace(-np.pi / 2, np.pi / 2, segments // 2 + 1)
    return lathe(
        np.stack([radius * np.cos(angles), radius * np.sin(angles)], 1), region, segments=segments
    )


def lump(rng: Rng, region: int = 0, *, roughness: float = 0.35) -> Mesh:
    """Return a ball of radius about 0.5 with smooth dents and bulges, like a stone or a fruit."""
    ball = sphere(0.5, region, segments=56)
    change = np.zeros(len(ball.vertices))
    for octave in range(1, 4):
        # Sums of sines of rising frequency and falling strength, like octaves of noise.
        waves = rng.normal(0, 2.2 * octave, (4, 3))
        change += sum(np.sin(2 * ball.vertices @ wave + rng.uniform(0, 6.3)) for wave in waves) / (
            3 * octave
        )
    stretch = np.exp(rng.normal(0, 0.25, 3))
    vertices = ball.vertices * (1 + roughness * change)[:, None] * stretch
    return solid(vertices, ball.faces, region, repeat=float(rng.uniform(0.6, 1.4)))


def _car(rng: Rng) -> Mesh:
    """Body, cabin with dark windows, four wheels, lamps; a van or a pick-up at times."""
    long = rng.uniform(1.6, 2.3)
    wide = rng.uniform(0.75, 0.95)
    tall = rng.uniform(0.28, 0.45)
    # In any unit: `make_mesh` scales the whole.
    radius = rng.uniform(0.15, 0.22)
    base = radius * 1.1 + tall / 2
    cabin = rng.uniform(0.4, 0.95) * long
    back = rng.uniform(-0.12, 0.05) * long
    roof = rng.uniform(0.25, 0.5)
    parts = [
        moved(box((wide, tall, long), 0, taper=rng.uniform(0.88, 1.0)), by=(0, base, 0)),
        moved(
            box((wide * 0.92, roof, cabin), 1, taper=rng.uniform(0.65, 0.95)),
            by=(0, base + (tall + roof) / 2, back),
        ),
        moved(
            box((wide * 0.8, roof * 0.12, cabin * 0.7), 0, taper=0.9),
            by=(0, base + tall / 2 + roof * 1.02, back),
        ),
    ]
    for x in (-1, 1):
        for z in (-0.32, 0.32):
            parts.append(moved(wheel(radius, 0.16, 2), by=(x * wide * 0.46, radius, z * long)))
            parts.append(
                moved(wheel(radius * 0.55, 0.18, 3), by=(x * wide * 0.46, radius, z * long))
            )
        parts.append(
            moved(box((wide * 0.2, tall * 0.25, 0.05), 4), by=(x * wide * 0.35, base, long / 2))
        )
        parts.append(
            moved(
                box((wide * 0.16, tall * 0.25, 0.05), 5),
                by=(x * wide * 0.36, base + 0.05, -long / 2),
            )
        )
    if rng.random() < 0.4:
        load = rng.uniform(0.2, 0.5)
        parts.append(
            moved(
                box((wide * 0.8, load, long * 0.4), 6),
                by=(0, base + (tall + load) / 2, -long * 0.28),
            )
        )
    # Gloss by region: paint, cabin, tyres, rims, lamps at the front and the rear, load.
    return join(parts, gloss=[0.5, 0.8, 0.05, 0.7, 0.9, 0.5, 0.1])


def _beside(point: NDArray[np.float64], x: float, y: float, z: float) -> NDArray[np.float64]:
    return np.asarray(point + np.array([x, y, z]))


def _motorbike(rng: Rng) -> Mesh:
    """Two wheels, frame, tank, seat, fork and handlebar, at times with a rider of simple parts."""
    radius = rng.uniform(0.28, 0.36)
    base = rng.uniform(0.55, 0.75)
    front = np.array([0, radius, base])
    rear = np.array([0, radius, -base])
    hub = np.array([0, 0.45, 0.0])
    seat = np.array([0, 0.75, -0.3])
    head = np.array([0, 0.95, base * 0.62])
    parts = [
        moved(wheel(radius, 0.12, 0), by=front),
        moved(wheel(radius, 0.14, 0), by=rear),
        moved(wheel(radius * 0.5, 0.14, 1), by=front),
        moved(wheel(radius * 0.5, 0.16, 1), by=rear),
        tube(np.array([front, head]), 0.035, 1),
        tube(np.array([rear, hub, head]), 0.045, 2),
        tube(np.array([rear, seat, head]), 0.04, 2),
        moved(box((0.26, 0.3, 0.4), 2, taper=0.8), by=hub),
        moved(
            solid(
                lump(rng, 3, roughness=0.08).vertices * [0.5, 0.45, 0.8],
                sphere(0.5, segments=56).faces,
                3,
            ),
            by=(0, 0.82, 0.1),
        ),
        moved(box((0.22, 0.1, 0.6), 4, taper=0.8), by=_beside(seat, 0, 0.05, 0)),
        tube(
            np.array([_beside(head, -0.36, 0.1, -0.1), head, _beside(head, 0.36, 0.1, -0.1)]),
            0.025,
            1,
        ),
        moved(sphere(0.1, 5, segments=16), by=_beside(head, 0, -0.05, 0.1)),
    ]
    if rng.random() < 0.6:
        hips = _beside(seat, 0, 0.15, 0.0)
        chest = _beside(seat, 0, 0.65, 0.25)
        parts += [
            tube(np.array([hips, (hips + chest) / 2, chest]), (0.16, 0.18, 0.14), 6),
            moved(sphere(0.15, 7, segments=20), by=_beside(chest, 0, 0.24, 0.08)),
        ]
        for x in (-1, 1):
            hand = _beside(head, x * 0.34, 0.1, -0.1)
            elbow = _beside((chest + hand) / 2, x * 0.12, -0.12, 0)
            knee = _beside(hips, x * 0.2, -0.12, 0.45)
            parts.append(
                tube(np.array([_beside(chest, x * 0.14, 0, 0), elbow, hand]), (0.07, 0.06, 0.04), 6)
            )
            parts.append(
                tube(
                    np.array(
                        [_beside(hips, x * 0.1, 0, 0), knee, _beside(hub, x * 0.2, -0.15, -0.05)]
                    ),
                    (0.1, 0.08, 0.05),
                    8,
                )
            )
    # Gloss by region: tyres, metal, frame, tank, seat, lamp, clothes, helmet, trousers.
    return join(parts, gloss=[0.05, 0.9, 0.3, 0.7, 0.1, 0.8, 0.05, 0.6, 0.05])


def _chair(rng: Rng) -> Mesh:
    """Seat, back and four legs, at times with arms."""
    wide = rng.uniform(0.4, 0.6)
    deep = rng.uniform(0.4, 0.6)
    tall = rng.uniform(0.35, 0.6)
    thick = rng.uniform(0.03, 0.12)
    leg = rng.uniform(0.015, 0.04)
    back = rng.uniform(0.35, 0.8)
    parts = [
        moved(box((wide, thick, deep), 0), by=(0, tall, 0)),
        moved(
            box((wide, back, thick), int(rng.integers(2)), taper=rng.uniform(0.7, 1.1)),
            by=(0, tall + back / 2 + thick, -deep / 2),
        ),
    ]
    for x in (-0.45, 0.45):
        for z in (-0.45, 0.45):
            splay = rng.uniform(1.0, 1.15)
            foot = np.array([splay * x * wide, 0, splay * z * deep])
            parts.append(tube(np.array([foot, [x * wide, tall, z * deep]]), leg, 2))
    if rng.random() < 0.4:
        for x in (-0.5, 0.5):
            parts.append(moved(box((0.05, 0.04, deep), 2), by=(x * wide, tall + 0.22, 0)))
            parts.append(
                tube(
                    np.array([[x * wide, tall, deep * 0.4], [x * wide, tall + 0.22, deep * 0.4]]),
                    leg,
                    2,
                )
            )
    return join(parts, gloss=[0.1, 0.1, 0.4])


def _vessel(rng: Rng) -> Mesh:
    """A bottle, vase or lamp: a turned profile, at times with a cap, a handle or a label."""
    count = int(rng.integers(5, 10))
    height = np.sort(rng.uniform(0, 1.2, count))
    radius = rng.uniform(0.08, 0.35, count)
    smooth = np.interp(
        np.linspace(0, 1.2, 40), np.r_[0, height, 1.2], np.r_[radius[0], radius, radius[-1] * 0.6]
    )
    # A running mean rounds the corners of the random profile.
    smooth = np.convolve(np.pad(smooth, 3, mode="edge"), np.ones(7) / 7, "valid")
    levels = np.linspace(0, 1.2, 40)
    parts = [lathe(np.vstack([[0, 0], np.stack([smooth, levels], 1), [0, 1.2]]), 0, segments=36)]
    if rng.random() < 0.7:
        first = int(rng.integers(5, 18))
        band = slice(first, first + int(rng.integers(6, 16)))
        # The label is a band just outside of the surface.
        parts.append(lathe(np.stack([smooth[band] + 0.006, levels[band]], 1), 1, segments=36))
    if rng.random() < 0.6:
        cap = rng.uniform(0.06, 0.25)
        shape = np.array(
            [[smooth[-1] * 1.08, 1.19], [smooth[-1] * 1.1, 1.19 + cap], [0, 1.19 + cap]]
        )
        parts.append(lathe(shape, 2, segments=24))
    if rng.random() < 0.4:
        turn = np.linspace(-1.4, 1.4, 14)
        reach = float(smooth[10:30].max())
        handle = np.stack(
            [reach * 0.9 + 0.22 * np.cos(turn), 0.6 + 0.28 * np.sin(turn), 0 * turn], 1
        )
        parts.append(tube(handle, 0.035, 2))
    return join(parts, gloss=[float(rng.uniform(0.1, 0.9)), 0.1, 0.4])


def _assembly(rng: Rng) -> Mesh:
    """Three to eight unlike solids that touch: tools, toys, machines, animals."""
    parts = [lump(rng, 0, roughness=float(rng.uniform(0.05, 0.35)))]
    for i in range(1, int(rng.integers(3, 9))):
        # Around the first part, taller than wide.
        at = rng.normal(0, 0.38, 3) * np.array([1, 1.2, 1])
        turn = about(0, rng.uniform(0, 6.3)) @ about(1, rng.uniform(0, 6.3))
        kind = rng.integers(5)
        # Six textures, so that neighbours usually differ.
        region = i % 6
        if kind == 0:
            part = box(rng.uniform(0.1, 0.8, 3), region, taper=float(rng.uniform(0.4, 1.1)))
        elif kind == 1:
            part = wheel(float(rng.uniform(0.1, 0.4)), float(rng.uniform(0.05, 0.4)), region)
        elif kind == 2:
            bow = np.linspace(-1, 1, 12)
            path = np.stack(
                [
                    rng.normal(0, 0.25) * bow**2,
                    rng.uniform(0.2, 0.8) * bow,
                    rng.normal(0, 0.2) * bow**3,
                ],
                1,
            )
            part = tube(
                path,
                np.linspace(rng.uniform(0.02, 0.15), rng.uniform(0.02, 0.15), 12).tolist(),
                region,
            )
        elif kind == 3:
            angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(5, 14))))
            radii = rng.uniform(0.15, 0.5, len(angles))
            part = extrude(
                np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1),
                float(rng.uniform(0.03, 0.3)),
                region,
            )
        else:
            part = solid(
                lump(rng, region).vertices * rng.uniform(0.3, 0.9, 3),
                sphere(0.5, segments=56).faces,
                region,
            )
        parts.append(moved(part, by=at, turn=turn))
    return join(parts, gloss=rng.uniform(0, 0.8, 6).tolist())


KINDS: tuple[Callable[[Rng], Mesh], ...] = (_car, _motorbike, _chair, _vessel, _assembly)


def make_mesh(rng: Rng) -> Mesh:
    """Return a mesh of a random kind, its bounds centred on the origin and its longest side 2."""
    # Vehicles and assemblies most often, as they turn and have parts.
    mesh = KINDS[rng.choice(len(KINDS), p=[0.25, 0.25, 0.12, 0.13, 0.25])](rng)
    low = mesh.vertices.min(0)
    high = mesh.vertices.max(0)
    scaled = (mesh.vertices - (low + high) / 2) * (2 / float((high - low).max()))
    return Mesh(scaled.astype(np.float32), mesh.faces, mesh.uv, mesh.region, mesh.gloss)
