"""Names for NumPy arrays of pixels, one for each meaning."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Alpha: TypeAlias = NDArray[np.float32]
"""(H, W) float32 in 0..1: a matte, a mask, or a share of each pixel."""
Pixels: TypeAlias = NDArray[np.float32]
"""float32 with any number of channels; the function documents the order of the axes."""
Flow: TypeAlias = NDArray[np.float32]
"""(H, W, 2) float32: x and y displacement in pixels."""
Gray8: TypeAlias = NDArray[np.uint8]
"""(H, W) 8-bit luma."""
Rgb8: TypeAlias = NDArray[np.uint8]
"""(H, W, 3) 8-bit red, green, blue."""
Bgr8: TypeAlias = NDArray[np.uint8]
"""(H, W, 3) 8-bit blue, green, red, as in OpenCV."""
