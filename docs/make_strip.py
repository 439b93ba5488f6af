"""Make docs/strip.jpg of the sample: marked frame, alpha of a later frame, object elsewhere."""

from __future__ import annotations

import tempfile
from pathlib import Path

import cv2
import numpy as np

import vidmatte
from vidmatte.prompts.files import load_prompts
from vidmatte.read import parse_position

ROOT = Path(__file__).parents[1]
CLIP = ROOT / "vidmatte" / "sample" / "portrait.mp4"
FRAME = 60
PANEL = (560, 315)
COLORS = {1: (80, 220, 60), 0: (60, 60, 235)}


def marked(prompt: vidmatte.Prompt) -> np.ndarray:
    """The reference frame with its points: green on the object, red off it."""
    with vidmatte.open_video(CLIP) as video:
        picture = to_bgr(video.frame(parse_position(prompt.frame or 0, video)).rgb[0].numpy())
    for x, y, label in prompt.points:
        cv2.circle(picture, (round(x), round(y)), 13, (255, 255, 255), -1, cv2.LINE_AA)
        cv2.circle(picture, (round(x), round(y)), 10, COLORS[label], -1, cv2.LINE_AA)
    return picture


def to_bgr(rgb: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 of (3, H, W), what lies beyond 0..1 clipped."""
    return np.ascontiguousarray(
        np.round(rgb[::-1].transpose(1, 2, 0).clip(0, 1) * 255).astype(np.uint8)
    )


def sunset(height: int, width: int) -> np.ndarray:
    """(H, W, 3) in 0..1, BGR: a plain gradient that shows fringes."""
    down = np.linspace(0, 1, height)[:, None, None]
    return np.broadcast_to(
        (1 - down) * np.array([0.55, 0.45, 0.95]) + down * np.array([0.35, 0.75, 1.0]),
        (height, width, 3),
    )


def main() -> None:
    """Matte the clip as the README's first command would, and lay three pictures side by side."""
    prompts = next(iter(load_prompts(CLIP.with_name("portrait.prompts.json")).values()))
    with tempfile.TemporaryDirectory() as folder:
        vidmatte.matte(
            CLIP,
            prompts,
            output=f"{folder}/%06d.png",
            options=vidmatte.MatteOptions(end=str(FRAME), bit_depth=8),
        )
        cut = cv2.imread(f"{folder}/{FRAME:06d}.png", cv2.IMREAD_UNCHANGED).astype(np.float32) / 255
    alpha = cut[..., 3:]
    over = cut[..., :3] * alpha + sunset(*alpha.shape[:2]) * (1 - alpha)
    panels = [marked(prompts[0]), np.repeat(alpha, 3, axis=2) * 255, over * 255]
    strip = [
        cv2.resize(np.asarray(panel, np.float32), PANEL, interpolation=cv2.INTER_AREA)
        for panel in panels
    ]
    cv2.imwrite(
        str(ROOT / "docs" / "strip.jpg"),
        np.hstack(strip).round().astype(np.uint8),
        [cv2.IMWRITE_JPEG_QUALITY, 88],
    )


if __name__ == "__main__":
    main()
