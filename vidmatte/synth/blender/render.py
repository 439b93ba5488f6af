"""Render clips of foregrounds with exact alpha, each from its own seed, in Blender's Cycles.

    python -m vidmatte.synth.blender.render FOLDER --clips 100

A clip is a folder `<split>-<number>-<kind>` with frames `0000.png` and on: 16-bit RGBA, straight
colour in sRGB. Alpha is the share of a pixel's samples that the foreground covers. A clip that is
there already is skipped, and the same seed makes the same clip.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from vidmatte.synth.blender import KINDS, SHARES, render_parser
from vidmatte.synth.blender.scenes import build
from vidmatte.synth.strands import Rng


def main() -> None:
    """Render the clips that the command line asks for."""
    asked = render_parser().parse_args()
    for number in range(asked.first, asked.first + asked.clips):
        # The two splits share no seed.
        rng = np.random.default_rng((number, int(asked.split == "held-out"), 16))
        kind = asked.kind or str(rng.choice(KINDS, p=SHARES))
        name = f"{asked.split}-{number:04d}-{kind}"
        render_clip(asked, asked.folder / name, kind, rng)
        sys.stdout.write(f"{name}\n")


def render_clip(asked: argparse.Namespace, folder: Path, kind: str, rng: Rng) -> None:
    """Render a clip into a folder, unless it is there."""
    if folder.is_dir():
        return
    root = build(kind, rng)
    scene = bpy.context.scene
    _set_up(scene, asked)
    camera = _camera(scene, kind, rng)
    _move(root, camera, asked.frames, rng)
    partial = folder.with_name(f"{folder.name}.part")
    for frame in range(asked.frames):
        scene.frame_set(frame + 1)
        scene.render.filepath = str((partial / f"{frame:04d}.png").absolute())
        bpy.ops.render.render(write_still=True)
    partial.rename(folder)


def _set_up(scene: Any, asked: argparse.Namespace) -> None:
    scene.render.engine = "CYCLES"
    cycles = scene.cycles
    cycles.samples = asked.samples
    cycles.use_adaptive_sampling = False
    cycles.use_denoising = False
    cycles.max_bounces = 1
    cycles.transparent_max_bounces = 16
    scene.render.film_transparent = True
    scene.render.use_persistent_data = True
    scene.render.threads_mode = "FIXED"
    scene.render.threads = asked.threads
    scene.render.resolution_x, scene.render.resolution_y = asked.size
    scene.view_settings.view_transform = "Standard"
    settings = scene.render.image_settings
    settings.file_format = "PNG"
    settings.color_mode = "RGBA"
    settings.color_depth = "16"


def _camera(scene: Any, kind: str, rng: Rng) -> Any:
    """Add a camera that sees the whole foreground or a part of it, sometimes with a short focus."""
    data = bpy.data.cameras.new("camera")
    camera = bpy.data.objects.new("camera", data)
    scene.collection.objects.link(camera)
    scene.camera = camera
    around = rng.uniform(-np.pi, np.pi) if kind in ("head", "animal", "leaves") else 0.0
    around += rng.normal(0, 0.3)
    distance = rng.uniform(5.0, 10.0)
    height = rng.normal(0.1, 0.15) * distance
    camera.location = (distance * np.sin(around), -distance * np.cos(around), height)
    camera.rotation_euler = (np.pi / 2 - np.arctan2(height, distance), 0, around)
    # The share of the frame that a sphere of radius 2 fills.
    fill = rng.uniform(0.7, 1.3)
    data.sensor_fit = "VERTICAL"
    data.angle = 2 * np.arctan(2 / fill / distance)
    data.shift_x, data.shift_y = rng.normal(0, 0.06, 2)
    if kind == "head":
        data.shift_y -= 0.1
    if rng.random() < 0.25:
        data.dof.use_dof = True
        data.dof.focus_distance = distance + rng.normal(0, 0.8)
        data.dof.aperture_fstop = float(np.exp(rng.uniform(np.log(0.3), np.log(2.0))))
    return camera


def _move(root: Any, camera: Any, frames: int, rng: Rng) -> None:
    """Let the foreground turn and drift at a steady pace, sometimes fast enough to blur."""
    scene = bpy.context.scene
    scene.frame_start, scene.frame_end = 1, frames
    fast = rng.random() < 0.35
    scene.render.use_motion_blur = fast
    scene.render.motion_blur_shutter = float(rng.uniform(0.3, 0.9))
    reach = 0.14 if fast else 0.03
    turn = rng.normal(0, reach, 3) * (0.4, 0.4, 1)
    drift = rng.normal(0, 0.6 * reach, 3)
    for frame in (0, frames + 1):
        root.rotation_euler = tuple(turn * frame)
        root.location = tuple(drift * frame)
        root.keyframe_insert("rotation_euler", frame=frame)
        root.keyframe_insert("location", frame=frame)
    for curve in root.animation_data.action.fcurves:
        for key in curve.keyframe_points:
            key.interpolation = "LINEAR"


if __name__ == "__main__":
    main()
