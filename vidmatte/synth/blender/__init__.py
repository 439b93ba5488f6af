"""Render foregrounds with exact alpha in Blender: hair, fur, feathers, leaves, cloth and smoke.

`scenes` builds the geometry of `synth.strands` in Blender, and `render` writes clips: `python -m
vidmatte.synth.blender.render FOLDER`. Both need Blender's package `bpy`, in an environment of its
own; see docs/training.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

KINDS = ("head", "animal", "feathers", "tasselled-cloth", "veil", "smoke", "leaves")
SHARES = (0.48, 0.2, 0.06, 0.06, 0.1, 0.04, 0.06)
"""How often each kind is drawn."""


def render_parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments of `render`; needs no `bpy`."""
    parser = argparse.ArgumentParser(
        prog="python -m vidmatte.synth.blender.render",
        description="Render foregrounds with exact alpha.",
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--split", choices=["train", "held-out"], default="train")
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="number of the first clip")
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--size", type=int, nargs=2, default=(768, 768), help="width and height")
    parser.add_argument("--samples", type=int, default=16, help="rays per pixel")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--kind", choices=KINDS, help="one kind instead of all")
    return parser
