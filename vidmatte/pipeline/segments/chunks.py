"""Files of propagated chunks: the coarse matte of each frame, and the last state of the tracker."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vidmatte.errors import WriteError
from vidmatte.imaging.packing import pack_alpha, unpack_alpha
from vidmatte.media.atomic import atomic_path
from vidmatte.model.interface import CoarseMatte

_STATE = "state."
"""Prefix of the names of tensors that belong to the tracker."""
_FACTS = "mattes"
"""Name of the metadata: size, confidence and window of each matte, as JSON."""


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, str] | None = None
) -> None:
    """Write tensors and facts about them to a file, whole or not at all. Raises WriteError."""
    # safetensors refuses slices of a larger tensor, and tensors that share memory: a tracker may
    # remember one frame in two ways.
    copies = {
        name: tensor.clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as partial:
            save_file(copies, partial, dict(facts or {}))
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise WriteError(
            f"{path}: cannot be written ({reason}); free some space, and continue with --resume"
        ) from error


def load_tensors(
    path: Path, wanted: Callable[[str], bool] = bool
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors with a wanted name, and the metadata of the file.

    Raises WriteError if the file cannot be read.
    """
    try:
        with safe_open(path, "pt") as file:
            names = [name for name in file.keys() if wanted(name)]  # noqa: SIM118 - no dictionary
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise WriteError(
            f"{path}: cannot be read ({error}); delete {path.parent.parent} to start over"
        ) from error


def save_chunk(path: Path, mattes: Mapping[int, CoarseMatte], state: Mapping[str, Tensor]) -> None:
    """Write the mattes of a chunk by frame, and the state of its tracker."""
    tensors = {f"{_STATE}{name}": tensor for name, tensor in state.items()}
    # Packed mattes are 1-D byte tensors of any length: size and window stand in the metadata.
    facts = {}
    for frame, matte in mattes.items():
        # frombuffer needs a writable buffer; bytes are read-only.
        tensors[str(frame)] = torch.frombuffer(
            bytearray(pack_alpha(matte.alpha)), dtype=torch.uint8
        )
        facts[frame] = [list(matte.alpha.shape), matte.confidence, list(matte.window)]
    save_tensors(path, tensors, {_FACTS: json.dumps(facts)})


def load_state(path: Path) -> dict[str, Tensor]:
    """Return the state of the tracker at the end of a chunk."""
    tensors, _ = load_tensors(path, lambda name: name.startswith(_STATE))
    return {name.removeprefix(_STATE): tensor for name, tensor in tensors.items()}


def load_mattes(path: Path, first: int, end: int) -> dict[int, CoarseMatte]:
    """Return the mattes of a chunk from frame `first` to `end` (exclusive)."""
    frames = set(map(str, range(first, end)))
    # One tensor per frame, so that a segment reads no more frames than it renders.
    tensors, facts = load_tensors(path, frames.__contains__)
    known = json.loads(facts[_FACTS])
    mattes = {}
    for name, packed in tensors.items():
        size, confidence, (left, top, right, bottom) = known[name]
        alpha = unpack_alpha(packed.numpy().tobytes(), size)
        mattes[int(name)] = CoarseMatte(alpha, confidence, (left, top, right, bottom))
    return mattes
