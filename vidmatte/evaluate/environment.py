"""The environment of figures, beside the choices: versions, device, hashes of weights."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from vidmatte import __version__
from vidmatte.model.interface import Model
from vidmatte.model.weights import PARTS, WEIGHTS
from vidmatte.options import MatteOptions

_CHUNK = 1 << 20


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
    found["weights"] = [{"file": name, "sha256": digest} for name, digest in _hashes(options)]
    return found


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)


def _hashes(options: MatteOptions) -> Iterator[tuple[str, str]]:
    """Yield the name and hash of each file of weights in the options."""
    if str(options.model) in WEIGHTS:
        for weights in (WEIGHTS[str(options.model)], *PARTS.values()):
            yield weights.file, weights.sha256
    for given in (options.model, options.weights, options.sd):
        path = Path(given).expanduser() if given is not None else None
        if path is None or not path.exists():
            continue
        files = [path] if path.is_file() else sorted(path.rglob("*.safetensors"))
        for file in files:
            name = file.name if path.is_file() else str(file.relative_to(path.parent))
            yield name, _sha256(file)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
