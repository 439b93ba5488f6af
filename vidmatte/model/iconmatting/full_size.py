"""Bring alpha at the scale of the squares to the size of the frame."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from vidmatte.model.compact.upsample import guided_upsample


def to_full_size(rgb: Tensor, coarse: Tensor) -> Tensor:
    """Return alpha (1, 1, H, W) of an image (1, 3, H, W) from alpha (1, 1, h, w) of all of it.

    Smaller alpha is upsampled by a guided filter, for the edges of the image.
    """
    size = (rgb.shape[-1], rgb.shape[-2])
    alpha = coarse[0, 0].numpy()
    # A coarse matte as large as the image has nothing to gain from its edges.
    if alpha.shape[0] >= size[1] and alpha.shape[1] >= size[0]:
        full = np.asarray(cv2.resize(alpha, size, interpolation=cv2.INTER_LINEAR), np.float32)
    else:
        full = guided_upsample(rgb[0].numpy(), alpha)
    return torch.from_numpy(full)[None, None]
