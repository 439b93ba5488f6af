"""The environment of figures, beside the choices: versions, device, hashes of weights."""

from __future__ import annotations

import platform
from typing import Any

import torch

from vidmatte import __version__
from vidmatte.model.interface import Model
from vidmatte.model.weights import weight_hashes
from vidmatte.options import MatteOptions


def describe_environment(model: Model | None, options: MatteOptions) -> dict[str, Any]:
    """Return versions, device, number format, and SHA-256 of the weights, as JSON values.

    Args:
        model: the loaded model; None if mattes were given.
        options: name the model and its files. Weights that were downloaded or found in a cache
            are not named there; their revisions are those of this version of vidmatte.
    """
    found: dict[str, Any] = {
        "vidmatte": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    if model is None:
        return found
    found["device"] = _device_name(model.device)
    found["precision"] = str(model.precision).removeprefix("torch.")
    found["weights"] = weight_hashes(options)
    return found


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)
