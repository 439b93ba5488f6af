"""Make docs/fringes.jpg: one edge of the sample, its alpha read right and in three wrong ways."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

import vidmatte
from vidmatte.imaging.foreground import estimate_foreground

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "vidmatte" / "sample"
FRAME = 0
CROP = (slice(60, 210), slice(500, 650))
"""Rows and columns with hair."""
BACKGROUND = np.array([0.85, 0.82, 0.78], np.float32)
GAP = 8


def straight() -> tuple[np.ndarray, np.ndarray]:
    """(H, W, 3) straight colour, RGB, and (H, W, 1) alpha of the sample."""
    with vidmatte.open_video(SAMPLE / "portrait.mp4") as video:
        rgb = video.frame(FRAME).rgb
    with vidmatte.open_video(SAMPLE / "portrait_alpha.mkv") as video:
        alpha = video.frame(FRAME).rgb[:, :1]
    color = estimate_foreground(rgb, alpha)
    return color[0].permute(1, 2, 0).numpy(), alpha[0].permute(1, 2, 0).numpy()


def main() -> None:
    """Composite the edge in each way, and lay the pictures side by side."""
    color, alpha = (each[CROP] for each in straight())
    behind = BACKGROUND * (1 - alpha)
    pictures = [
        color * alpha + behind,
        # Straight colour, taken for multiplied: it is added without being dimmed.
        color + behind,
        # Multiplied colour, taken for straight: it is dimmed twice.
        color * alpha * alpha + behind,
        # A matte that was read through a colour curve: soft pixels are too thin.
        color * alpha**2.2 + BACKGROUND * (1 - alpha**2.2),
    ]
    gap = np.ones((color.shape[0], GAP, 3), np.float32)
    row = np.hstack([part for picture in pictures for part in (picture, gap)][:-1])
    bgr = (row[..., ::-1].clip(0, 1) * 255).round().astype(np.uint8)
    large = cv2.resize(bgr, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(ROOT / "docs" / "fringes.jpg"), large, [cv2.IMWRITE_JPEG_QUALITY, 90])


if __name__ == "__main__":
    main()
