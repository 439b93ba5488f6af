"""Triangle meshes drawn with a z-buffer: coverage by supersampling, textures, a moving light."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

from vidmatte.imaging.arrays import Pixels
from vidmatte.synth.mesh import Mesh

Floats = NDArray[np.float32]

SAMPLES = 3
"""Samples along a pixel's side."""
_NEAR = 0.05
"""Share of the camera's distance; nearer vertices are drawn at this depth."""


@dataclass(frozen=True)
class View:
    """Camera and light of one frame.

    Attributes:
        yaw: rotation of the mesh about its upright axis, radians.
        elevation: angle at which the camera looks down, radians.
        roll: sideways tilt of the camera, radians.
        distance: distance of the camera from the origin, in units of the mesh.
        light: (3,) direction to the light in camera axes: x right, y up, z to the camera.
        colour: (3,) colour of the light.
        ambient: share of light from all directions.
    """

    yaw: float
    elevation: float
    distance: float
    light: tuple[float, float, float] = (0.3, 0.8, 0.5)
    colour: tuple[float, float, float] = (1.0, 1.0, 1.0)
    ambient: float = 0.4
    roll: float = 0.0


def to_camera(vertices: Floats, view: View) -> Floats:
    """Return vertices (V, 3) in camera axes: x right, y up, z to the camera; same origin."""
    return np.asarray(vertices @ _rotation(view).T, np.float32)


def project(vertices: Floats, view: View) -> Floats:
    """Return x right, y down (units of the mesh at the origin) and 1 / depth of vertices (V, 3)."""
    depth = np.maximum(view.distance - vertices[:, 2], _NEAR * view.distance)
    inverse = 1 / depth
    plane = vertices[:, :2] * (view.distance * inverse)[:, None] * np.array([1, -1], np.float32)
    return np.asarray(np.column_stack([plane, inverse]), np.float32)


def render(
    mesh: Mesh, textures: Floats, view: View, side: int, *, centre: tuple[float, float], span: float
) -> tuple[Pixels, Pixels]:
    """Return a mesh as seen by a camera.

    Args:
        mesh: the mesh, with the vertices of this frame.
        textures: (R, S, S, 3) 0-1, one for each region of the mesh, repeated by mirroring.
        view: camera and light.
        side: of the picture in pixels.
        centre: x right, y down of the picture's centre, in units of the mesh at the origin.
        span: side of the picture in the same units.

    Returns:
        Premultiplied colour (side, side, 3) and alpha (side, side), float32 0-1: the means over
        `SAMPLES` x `SAMPLES` samples a pixel.
    """
    # Supersampling: a sample is covered or not, and their mean is the coverage of a pixel.
    fine = side * SAMPLES
    seen = to_camera(mesh.vertices, view)
    screen = project(seen, view)
    screen[:, 0] = (screen[:, 0] - centre[0]) / span * fine + fine / 2
    screen[:, 1] = (screen[:, 1] - centre[1]) / span * fine + fine / 2
    face, weights = rasterise(screen, mesh.faces, fine, fine)
    inside = face >= 0
    colour = np.zeros((fine, fine, 3), np.float32)
    if inside.any():
        # Only covered samples are shaded; the others stay black, so the mean is premultiplied.
        colour[inside] = _shade(mesh, textures, seen, face[inside], weights[inside], view)
    small = (side, side)
    premultiplied = np.asarray(cv2.resize(colour, small, interpolation=cv2.INTER_AREA), np.float32)
    alpha = np.asarray(
        cv2.resize(inside.astype(np.float32), small, interpolation=cv2.INTER_AREA), np.float32
    )
    return premultiplied, alpha


def rasterise(
    screen: Floats, faces: NDArray[np.int32], height: int, width: int
) -> tuple[NDArray[np.int32], Floats]:
    """Return the nearest triangle at the centre of each pixel.

    Args:
        screen: (V, 3) x right and y down in pixels, and 1 / depth.
        faces: (F, 3) vertices of each triangle, in either order.
        height, width: size of the result in pixels.

    Returns:
        The index of the triangle (height, width), or -1 for none, and the weights of its three
        corners (height, width, 3), corrected for perspective.
    """
    face = np.full((height, width), -1, np.int32)
    weights = np.zeros((height, width, 3), np.float32)
    nearest = np.zeros((height, width), np.float32)
    _fill(
        np.ascontiguousarray(screen, np.float32),
        np.ascontiguousarray(faces, np.int32),
        face,
        weights,
        nearest,
    )
    return face, weights


def extend(premultiplied: Pixels, alpha: Pixels) -> Pixels:
    """Return straight colour (h, w, 3) of premultiplied colour, continued beyond its alpha."""
    colour = np.zeros_like(premultiplied)
    known = np.zeros_like(alpha)
    # 0 keeps known pixels; each blur reaches three or four times as far.
    for sigma in (0.0, 1.5, 5.0, 20.0, 80.0):
        paint, cover = premultiplied, alpha
        if sigma:
            paint, cover = (
                np.asarray(cv2.GaussianBlur(plane, (0, 0), sigma), np.float32)
                for plane in (paint, cover)
            )
        # Each scale fills what the finer ones leave.
        share = np.where(cover > 0.004, 1 - known, 0)
        colour += share[..., None] * paint / np.maximum(cover, 0.004)[..., None]
        known += share
    return np.clip(colour, 0, 1).astype(np.float32)


def _rotation(view: View) -> Floats:
    cy = np.cos(view.yaw)
    sy = np.sin(view.yaw)
    ce = np.cos(view.elevation)
    se = np.sin(view.elevation)
    cr = np.cos(view.roll)
    sr = np.sin(view.roll)
    # Turned about the upright axis first, then tilted, then rolled.
    turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    tilt = np.array([[1, 0, 0], [0, ce, -se], [0, se, ce]])
    roll = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return np.asarray(roll @ tilt @ turn, np.float32)


def _shade(
    mesh: Mesh, textures: Floats, seen: Floats, face: NDArray[np.int32], weights: Floats, view: View
) -> Floats:
    """Return the colour (n, 3) of samples on faces (n,) with weights (n, 3) (Blinn, 1977)."""
    corners = mesh.faces[face]
    normals = vertex_normals(seen, mesh.faces)
    normal = np.einsum("nk,nkc->nc", weights, normals[corners])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
    # Surfaces are seen from both sides.
    normal *= np.where(normal[:, 2:] < 0, -1, 1)
    place = np.einsum("nk,nkc->nc", weights, mesh.uv[face])
    size = textures.shape[1]
    # Mirrored repetition has no seams.
    folded = np.abs((place + 1) % 2 - 1)
    u, v = np.clip((folded * size).astype(int), 0, size - 1).T
    region = mesh.region[face]
    albedo = textures[region, v, u]
    light = np.array(view.light) / max(1e-6, float(np.linalg.norm(view.light)))
    lit = np.maximum(0, normal @ light)
    sky = 0.5 + 0.5 * normal[:, 1]
    # More of the ambient light comes from above than from below.
    diffuse = view.ambient * (0.75 + 0.25 * sky) + (1.15 - view.ambient) * lit
    # Blinn's half vector, with the camera on the z axis.
    half = light + np.array([0, 0, 1.0])
    half /= max(1e-6, float(np.linalg.norm(half)))
    # The exponent halves the highlight at 12 degrees.
    gloss = mesh.gloss[region] * np.maximum(0, normal @ half) ** 30
    colour = albedo * diffuse[:, None] * np.array(view.colour) + gloss[:, None] * np.array(
        view.colour
    )
    return np.asarray(np.clip(colour, 0, 1), np.float32)


def vertex_normals(vertices: Floats, faces: NDArray[np.int32]) -> Floats:
    """Return unit normals (V, 3), the mean over the faces at a vertex weighted by their area."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    # Twice the area of the face in the normal's direction: the weight of the mean.
    normal = np.cross(b - a, c - a)
    total = np.zeros_like(vertices)
    for axis in range(3):
        total[:, axis] = sum(
            np.bincount(faces[:, i], normal[:, axis], len(vertices)) for i in range(3)
        )
    return np.asarray(
        total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12), np.float32
    )


@njit(cache=True)
def _fill(
    screen: Floats,
    faces: NDArray[np.int32],
    face: NDArray[np.int32],
    weights: Floats,
    nearest: Floats,
) -> None:
    height, width = face.shape
    for f in range(faces.shape[0]):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, ay, az = screen[i, 0], screen[i, 1], screen[i, 2]
        bx, by, bz = screen[j, 0], screen[j, 1], screen[j, 2]
        cx, cy, cz = screen[k, 0], screen[k, 1], screen[k, 2]
        # Signed: triangles of either order are drawn.
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0:
            continue
        # Pixels whose centres lie in the bounds.
        x0 = max(0, int(np.ceil(min(ax, bx, cx) - 0.5)))
        x1 = min(width - 1, int(np.floor(max(ax, bx, cx) - 0.5)))
        y0 = max(0, int(np.ceil(min(ay, by, cy) - 0.5)))
        y1 = min(height - 1, int(np.floor(max(ay, by, cy) - 0.5)))
        for y in range(y0, y1 + 1):
            py = y + 0.5
            for x in range(x0, x1 + 1):
                px = x + 0.5
                wa = ((bx - px) * (cy - py) - (by - py) * (cx - px)) / area
                wb = ((cx - px) * (ay - py) - (cy - py) * (ax - px)) / area
                wc = 1 - wa - wb
                if wa < 0 or wb < 0 or wc < 0:
                    continue
                # 1 / depth is linear on the screen, depth itself is not.
                inverse = wa * az + wb * bz + wc * cz
                if inverse > nearest[y, x]:
                    nearest[y, x] = inverse
                    face[y, x] = f
                    # Perspective correction of the weights.
                    weights[y, x, 0] = wa * az / inverse
                    weights[y, x, 1] = wb * bz / inverse
                    weights[y, x, 2] = wc * cz / inverse
