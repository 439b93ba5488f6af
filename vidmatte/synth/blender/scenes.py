"""Build one foreground in Blender from a seed: its shape, its materials, light and camera."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bpy
import numpy as np

from vidmatte.synth.strands import (
    Colour,
    Ellipsoid,
    Rng,
    Style,
    Vectors,
    any_colour,
    draw_style,
    feather,
    fringe,
    fur,
    hair,
    hair_colour,
    leaf_triangles,
    skin_colour,
)


def build(kind: str, rng: Rng) -> Any:
    """Build a foreground, of a kind of `blender.KINDS`, in an empty scene; return its root object.

    All parts are children of the root, which the clip moves.
    """
    bpy.ops.wm.read_factory_settings(use_empty=True)
    root = bpy.data.objects.new("root", None)
    bpy.context.scene.collection.objects.link(root)
    _BUILDERS[kind](root, rng)
    _light(rng)
    return root


def head(root: Any, rng: Rng) -> None:
    """A head with long or short hair, on shoulders or alone."""
    skull = Ellipsoid((0, 0, 0), (0.78, 0.9, 1.0))
    others = []
    if rng.random() < 0.75:
        others = [
            Ellipsoid((0, 0, -1.2), (0.38, 0.38, 0.7)),
            Ellipsoid((0, 0, -2.6), (1.7, 0.7, 1.1)),
        ]
    skin = _matte_material(skin_colour(rng), rng)
    cloth = _matte_material(any_colour(rng), rng)
    _ellipsoid(root, skull, skin)
    for part, material in zip(others, (skin, cloth), strict=False):
        _ellipsoid(root, part, material)
    style = draw_style(rng)
    count = int(np.exp(rng.uniform(np.log(2500), np.log(22000))))
    strands = hair(skull, others, style, count, rng)
    _strands(root, strands, _width(rng), _hair_material(hair_colour(rng), rng), rng)


def animal(root: Any, rng: Rng) -> None:
    """A furry body with a head and legs."""
    bodies = [Ellipsoid((0, 0, 0), (0.7, 1.2, 0.75))]
    bodies.append(Ellipsoid((0.1, -1.3, 0.7), (0.5, 0.55, 0.5)))
    for x, y in ((-0.35, -0.8), (0.35, -0.8), (-0.35, 0.8), (0.35, 0.8)):
        bodies.append(Ellipsoid((x, y, -0.9), (0.2, 0.22, 0.8)))
    for x in (-0.25, 0.4):
        bodies.append(Ellipsoid((x, -1.35, 1.25), (0.14, 0.08, 0.28)))
    colour = hair_colour(rng)
    skin = _matte_material(colour, rng)
    for body in bodies:
        _ellipsoid(root, body, skin)
    style = Style(
        length=rng.uniform(0.06, 0.45),
        fall=rng.uniform(0, 4),
        disorder=rng.uniform(0.1, 0.5),
    )
    strands = fur(bodies, style, int(rng.integers(14000, 42000)), rng)
    _strands(root, strands, 0.7 * _width(rng), _hair_material(colour, rng), rng)


def feathers(root: Any, rng: Rng) -> None:
    """A few large feathers, or a tuft of down."""
    material = _hair_material(any_colour(rng), rng)
    for _ in range(int(rng.integers(2, 9))):
        strands = feather(rng.uniform(1.2, 3.0), rng.uniform(0.2, 0.8), rng)
        turn = _rotation(rng.normal(0, 0.9, 3))
        moved = strands @ turn.T + rng.normal(0, 0.5, 3)
        _strands(root, moved.astype(np.float32), _width(rng), material, rng)


def tasselled_cloth(root: Any, rng: Rng) -> None:
    """A wavy cloth with a fringe."""
    width = rng.uniform(1.8, 3.0)
    tall = rng.uniform(0.6, 2.0)
    material = _matte_material(any_colour(rng), rng)
    _sheet(root, width, tall, material, rng, waves=0.0)
    strands = fringe(width, rng.uniform(0.4, 1.4), int(rng.integers(150, 1400)), rng)
    threads = _hair_material(any_colour(rng), rng)
    _strands(root, strands, 1.4 * _width(rng), threads, rng)


def veil(root: Any, rng: Rng) -> None:
    """Translucent cloth or lace, alone or over a head."""
    if rng.random() < 0.6:
        _ellipsoid(
            root, Ellipsoid((0, 0.5, 0), (0.7, 0.3, 1.0)), _matte_material(skin_colour(rng), rng)
        )
    for _ in range(int(rng.integers(1, 4))):
        pattern = str(rng.choice(["plain", "lace", "net", "noise"], p=[0.4, 0.25, 0.15, 0.2]))
        cover = float(rng.uniform(0.15, 0.7))
        material = _veil_material(any_colour(rng), pattern, cover, rng)
        sheet = _sheet(root, rng.uniform(1.4, 3), rng.uniform(1.4, 3), material, rng, waves=0.25)
        sheet.location = (rng.normal(0, 0.3), -0.5 - rng.random(), rng.normal(0.8, 0.4))


def smoke(root: Any, rng: Rng) -> None:
    """Puffs of smoke: layers of soft noise, denser in the middle."""
    gray = float(rng.uniform(0.3, 0.95))
    colour: Colour = (gray, gray, gray)
    for depth in range(int(rng.integers(2, 6))):
        material = _veil_material(colour, "puff", float(rng.uniform(0.2, 0.7)), rng)
        puff = _sheet(root, 2.6, 2.6, material, rng, waves=0.0)
        puff.location = (rng.normal(0, 0.5), 0.2 * depth, rng.normal(-1.3, 0.4))


def leaves(root: Any, rng: Rng) -> None:
    """Twigs with leaves."""
    trunk = Ellipsoid((0, 0, -1.0), (0.1, 0.1, 0.6))
    style = Style(rng.uniform(1.2, 2.6), fall=rng.uniform(-0.2, 1.0), disorder=0.7, stray=0.3)
    twigs = hair(trunk, [], style, int(rng.integers(12, 60)), rng)
    _strands(root, twigs, 3 * _width(rng), _hair_material((0.1, 0.06, 0.03), rng), rng)
    along = twigs[:, twigs.shape[1] // 4 :].reshape(-1, 3)
    kept = along[rng.random(len(along)) < rng.uniform(0.15, 0.6)]
    corners, faces = leaf_triangles(kept, rng.uniform(0.06, 0.4), rng)
    mesh = bpy.data.meshes.new("leaves")
    mesh.from_pydata(corners.tolist(), [], faces.tolist())
    green: Colour = (rng.uniform(0.02, 0.5), rng.uniform(0.1, 0.5), rng.uniform(0.01, 0.1))
    mesh.materials.append(_matte_material(green, rng))
    _add(root, "leaves", mesh)


_BUILDERS: dict[str, Callable[[Any, Rng], None]] = {
    "head": head,
    "animal": animal,
    "feathers": feathers,
    "tasselled-cloth": tasselled_cloth,
    "veil": veil,
    "smoke": smoke,
    "leaves": leaves,
}


def _strands(root: Any, strands: Vectors, width: float, material: Any, rng: Rng) -> None:
    """Add strands (n, points, 3) as curves that thin out towards their ends."""
    count, points = strands.shape[:2]
    curves = bpy.data.hair_curves.new("strands")
    curves.add_curves([points] * count)
    curves.attributes["position"].data.foreach_set("vector", strands.ravel())
    taper = np.linspace(1, rng.uniform(0.15, 0.8), points)
    each = width * np.exp(rng.normal(0, 0.25, (count, 1)))
    radius = curves.attributes.get("radius") or curves.attributes.new("radius", "FLOAT", "POINT")
    radius.data.foreach_set("value", (each * taper).astype(np.float32).ravel())
    curves.materials.append(material)
    _add(root, "strands", curves)


def _ellipsoid(root: Any, body: Ellipsoid, material: Any) -> None:
    bpy.ops.mesh.primitive_uv_sphere_add(segments=48, ring_count=32, location=body.middle)
    ball = bpy.context.object
    ball.scale = body.radii
    ball.data.polygons.foreach_set("use_smooth", [True] * len(ball.data.polygons))
    ball.data.materials.append(material)
    ball.parent = root


def _sheet(root: Any, width: float, tall: float, material: Any, rng: Rng, *, waves: float) -> Any:
    """Add a wavy sheet in the plane of x and z that hangs from the origin upward."""
    n = 60
    x, z = np.meshgrid(np.linspace(-0.5, 0.5, n), np.linspace(0, 1, n))
    y = np.zeros_like(x)
    for _ in range(4):
        direction = rng.normal(0, 1, 2)
        y += rng.normal(0, 0.05) * np.sin(
            rng.uniform(3, 14) * (direction[0] * x + 0.4 * direction[1] * z) + rng.uniform(0, 6)
        )
    y = y * (z if waves == 0 else 1) * (1 + 3 * waves)
    corners = np.stack([x * width, y, z * tall - (tall if waves else 0)], -1).reshape(-1, 3)
    start = np.arange(n * n).reshape(n, n)
    faces = np.stack([start[:-1, :-1], start[:-1, 1:], start[1:, 1:], start[1:, :-1]], -1)
    mesh = bpy.data.meshes.new("sheet")
    mesh.from_pydata(corners.tolist(), [], faces.reshape(-1, 4).tolist())
    mesh.polygons.foreach_set("use_smooth", [True] * len(mesh.polygons))
    mesh.materials.append(material)
    return _add(root, "sheet", mesh)


def _add(root: Any, name: str, data: Any) -> Any:
    added = bpy.data.objects.new(name, data)
    bpy.context.scene.collection.objects.link(added)
    added.parent = root
    return added


def _material(name: str) -> tuple[Any, Any, Any]:
    """Return a new material, its node tree, and its output."""
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    tree = material.node_tree
    tree.nodes.clear()
    return material, tree, tree.nodes.new("ShaderNodeOutputMaterial")


def _matte_material(colour: Colour, rng: Rng) -> Any:
    """Return an opaque material: one colour with spots of a second."""
    material, tree, output = _material("opaque")
    shader = tree.nodes.new("ShaderNodeBsdfPrincipled")
    shader.inputs["Roughness"].default_value = float(rng.uniform(0.3, 0.9))
    noise = tree.nodes.new("ShaderNodeTexNoise")
    noise.inputs["Scale"].default_value = float(np.exp(rng.uniform(0, 3)))
    mix = tree.nodes.new("ShaderNodeMix")
    mix.data_type = "RGBA"
    second = np.clip(np.array(colour) * np.exp(rng.normal(0, 0.5, 3)), 0, 1)
    mix.inputs["A"].default_value = (*colour, 1)
    mix.inputs["B"].default_value = (*second.tolist(), 1)
    tree.links.new(noise.outputs["Fac"], mix.inputs["Factor"])
    tree.links.new(mix.outputs["Result"], shader.inputs["Base Color"])
    tree.links.new(shader.outputs["BSDF"], output.inputs["Surface"])
    return material


def _hair_material(colour: Colour, rng: Rng) -> Any:
    """Return a material of strands: a diffuse and a shiny part, each strand a little different."""
    material, tree, output = _material("strands")
    info = tree.nodes.new("ShaderNodeHairInfo")
    mix = tree.nodes.new("ShaderNodeMix")
    mix.data_type = "RGBA"
    contrast = rng.uniform(0.1, 0.8)
    for name, sign in (("A", -1), ("B", 1)):
        shade = np.clip(np.array(colour) * np.exp(sign * contrast), 0, 1)
        mix.inputs[name].default_value = (*shade.tolist(), 1)
    diffuse = tree.nodes.new("ShaderNodeBsdfDiffuse")
    shine = tree.nodes.new("ShaderNodeBsdfHair")
    both = tree.nodes.new("ShaderNodeMixShader")
    both.inputs["Fac"].default_value = float(rng.uniform(0.1, 0.6))
    tree.links.new(info.outputs["Random"], mix.inputs["Factor"])
    for shader in (diffuse, shine):
        tree.links.new(mix.outputs["Result"], shader.inputs["Color"])
    tree.links.new(diffuse.outputs["BSDF"], both.inputs[1])
    tree.links.new(shine.outputs["BSDF"], both.inputs[2])
    tree.links.new(both.outputs["Shader"], output.inputs["Surface"])
    return material


def _veil_material(colour: Colour, pattern: str, cover: float, rng: Rng) -> Any:
    """Return a material of which a share is transparent, everywhere alike or in a pattern.

    Args:
        colour: of what is not transparent.
        pattern: "plain", "lace" (cells), "net" (threads), "noise" or "puff" (noise, none at the
            rim).
        cover: opaque share of the plain material; others are about as dense.
        rng: of all draws.
    """
    material, tree, output = _material(pattern)
    clear = tree.nodes.new("ShaderNodeBsdfTransparent")
    solid = tree.nodes.new("ShaderNodeBsdfDiffuse")
    solid.inputs["Color"].default_value = (*colour, 1)
    mix = tree.nodes.new("ShaderNodeMixShader")
    mix.inputs["Fac"].default_value = cover
    where = tree.nodes.new("ShaderNodeTexCoord").outputs["Generated"]
    if pattern in ("lace", "net"):
        cells = tree.nodes.new("ShaderNodeTexVoronoi")
        cells.feature = "DISTANCE_TO_EDGE"
        cells.inputs["Scale"].default_value = float(rng.uniform(12, 70))
        cells.inputs["Randomness"].default_value = 0.2 if pattern == "net" else 1.0
        tree.links.new(where, cells.inputs["Vector"])
        thread = tree.nodes.new("ShaderNodeMath")
        thread.operation = "LESS_THAN"
        thread.inputs[1].default_value = float(rng.uniform(0.03, 0.15 if pattern == "net" else 0.3))
        tree.links.new(cells.outputs["Distance"], thread.inputs[0])
        tree.links.new(thread.outputs["Value"], mix.inputs["Fac"])
    elif pattern in ("noise", "puff"):
        noise = tree.nodes.new("ShaderNodeTexNoise")
        noise.inputs["Scale"].default_value = float(rng.uniform(2, 8))
        noise.inputs["Detail"].default_value = float(rng.uniform(1, 8))
        tree.links.new(where, noise.inputs["Vector"])
        spread = tree.nodes.new("ShaderNodeMapRange")
        spread.inputs["From Min"].default_value = 0.3
        spread.inputs["From Max"].default_value = 0.7
        spread.inputs["To Max"].default_value = min(1.0, 2.5 * cover)
        tree.links.new(noise.outputs["Fac"], spread.inputs["Value"])
        density = spread.outputs["Result"]
        if pattern == "puff":
            density = _fade_to_rim(tree, where, density)
        tree.links.new(density, mix.inputs["Fac"])
    tree.links.new(clear.outputs["BSDF"], mix.inputs[1])
    tree.links.new(solid.outputs["BSDF"], mix.inputs[2])
    tree.links.new(mix.outputs["Shader"], output.inputs["Surface"])
    return material


def _fade_to_rim(tree: Any, where: Any, density: Any) -> Any:
    """Return a density times a ball that is 1 in the middle of a sheet and 0 at its rim."""
    centred = tree.nodes.new("ShaderNodeMapping")
    centred.inputs["Location"].default_value = (-1, 0, -1)
    centred.inputs["Scale"].default_value = (2, 0, 2)
    ball = tree.nodes.new("ShaderNodeTexGradient")
    ball.gradient_type = "QUADRATIC_SPHERE"
    product = tree.nodes.new("ShaderNodeMath")
    product.operation = "MULTIPLY"
    tree.links.new(where, centred.inputs["Vector"])
    tree.links.new(centred.outputs["Vector"], ball.inputs["Vector"])
    tree.links.new(ball.outputs["Fac"], product.inputs[0])
    tree.links.new(density, product.inputs[1])
    return product.outputs["Value"]


def _light(rng: Rng) -> None:
    """Add a weak sky and one to three lamps, one of them often behind the object."""
    world = bpy.data.worlds.new("sky")
    world.use_nodes = True
    sky = world.node_tree.nodes["Background"]
    sky.inputs["Color"].default_value = (*any_colour(rng), 1)
    sky.inputs["Strength"].default_value = float(rng.uniform(0.1, 0.8))
    bpy.context.scene.world = world
    for _ in range(int(rng.integers(1, 4))):
        lamp = bpy.data.lights.new("lamp", "SUN")
        lamp.energy = float(rng.uniform(0.8, 4))
        lamp.angle = float(rng.uniform(0.02, 0.6))
        lamp.color = tuple((1 - 0.35 * rng.random(3)).tolist())
        held = bpy.data.objects.new("lamp", lamp)
        held.rotation_euler = (rng.normal(0.9, 0.6), rng.normal(0, 0.5), rng.uniform(-3.1, 3.1))
        bpy.context.scene.collection.objects.link(held)


def _width(rng: Rng) -> float:
    """Draw the radius of a strand: at 768 pixels it is a third of a pixel to two pixels wide."""
    return float(np.exp(rng.uniform(np.log(0.0011), np.log(0.0055))))


def _rotation(angles: np.ndarray) -> np.ndarray:
    """Return the (3, 3) rotation by three angles about x, y and z, in radians."""
    turned = np.eye(3)
    for axis, angle in enumerate(angles):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        about = np.eye(3)
        about[first, first] = about[second, second] = np.cos(angle)
        about[first, second] = -np.sin(angle)
        about[second, first] = np.sin(angle)
        turned = about @ turned
    return turned
