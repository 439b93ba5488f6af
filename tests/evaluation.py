"""Tiny data sets whose errors are known by hand, and a model that answers with the red channel."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from vidmatte.frames import MatteBatch

HEIGHT, WIDTH = 48, 64


def disk(radius=14, center=(24, 32), size=(HEIGHT, WIDTH)):
    """(H, W) float alpha of a hard disk."""
    y, x = np.mgrid[: size[0], : size[1]]
    return (np.hypot(y - center[0], x - center[1]) <= radius).astype(np.float32)


def codes(plane):
    return np.rint(255 * plane).astype(np.uint8)


def write_pair(folder, found, truth, *, image="image.png", alpha="alpha.png"):
    """An image whose red channel is what `RedModel` finds, and its truth."""
    for path in (folder / image, folder / alpha):
        path.parent.mkdir(parents=True, exist_ok=True)
    bgr = np.stack([np.full_like(found, 0.4), 1 - 0.5 * truth, found], axis=2)
    cv2.imwrite(str(folder / image), codes(bgr))
    cv2.imwrite(str(folder / alpha), codes(truth))


def write_group(root, name, errors, *, trimap=False):
    """Make a group with an image per error: red is the truth but for that many pixels of row 0."""
    for index, wrong in enumerate(errors):
        truth = disk(center=(24, 20 + 4 * index))
        found = truth.copy()
        found[0, :wrong] = 1
        folder = root / name / f"i{index}"
        write_pair(folder, found, truth)
        if trimap:
            area = np.where(truth > 0, 255, 0).astype(np.uint8)
            area[0] = 128
            cv2.imwrite(str(folder / "trimap.png"), area)
    return root


def write_clip(root, name, errors, *, kind="alpha"):
    """A clip with a frame for each error, as `write_group` makes images."""
    for index, wrong in enumerate(errors):
        truth = disk(center=(24, 24 + index))
        found = truth.copy()
        found[0, :wrong] = 1
        file = f"{index:04d}.png"
        write_pair(root / name, found, truth, image=f"frames/{file}", alpha=f"{kind}/{file}")
    return root


class RedModel:
    """Answers with the red channel; looks at each frame alone."""

    name = "red"
    device = torch.device("cpu")
    precision = torch.float32

    def with_reference(self, references):
        assert references
        return RedMatter(tuple(references))


@dataclass(frozen=True)
class RedMatter:
    references: tuple

    def __call__(self, batch):
        return MatteBatch(batch, batch.rgb[:, :1].clone(), (0.5,) * len(batch))

    def tracker(self):
        return None


def load_red(switches):
    """A loader that other processes can be given."""
    return RedModel()


class TrimapModel(RedModel):
    """Answers with the trimap that it is handed for each image."""

    name = "trimaps"

    def with_reference(self, references):
        raise AssertionError("a trimap was to be handed over")

    def with_trimaps(self, trimaps):
        return TrimapPredictor(trimaps)


@dataclass(frozen=True)
class TrimapPredictor:
    trimaps: object

    def __call__(self, batch):
        return MatteBatch(batch, self.trimaps(batch).clone(), (0.5,) * len(batch))

    def tracker(self):
        return None
