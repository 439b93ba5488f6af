"""Named weights: where they are, what they must hash to, under which licence; loaded safely and strictly."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from vidmatte.errors import ModelError

_FOLDER = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class Weights:
    """Facts of a weight file that comes with the package."""

    file: str
    sha256: str
    licence: str
    description: str

    @property
    def path(self) -> Path:
        """Where the file lies in the installed package."""
        return _FOLDER / self.file


WEIGHTS: Mapping[str, Weights] = {
    "compact": Weights(
        file="compact.safetensors",
        sha256="9a4db00c42316ccf2008b8a6f0f05208e01aea8d49728e53e61be982919fbf73",
        licence="Apache-2.0",
        description="small in-context matting network; comes with the package, works offline",
    ),
}


def load_packaged(name: str) -> dict[str, Tensor]:
    """Tensors of packaged weights. Raises ModelError when the file is missing or its checksum is another."""
    weights = WEIGHTS[name]
    try:
        found = hashlib.sha256(weights.path.read_bytes()).hexdigest()
    except OSError as error:
        raise ModelError(
            f"model {name!r}: {weights.path} cannot be read ({error.strerror}); reinstall vidmatte"
        ) from error
    if found != weights.sha256:
        raise ModelError(
            f"model {name!r}: {weights.path} is damaged (sha256 {found[:12]}..., expected {weights.sha256[:12]}...); "
            f"reinstall vidmatte"
        )
    return load_tensors(weights.path)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file. Raises ModelError when it is none."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: is not a safetensors file that can be read ({error})") from error


def load_strictly(net: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Put tensors into a network. Raises ModelError naming what is missing, surplus or of another shape."""
    wanted = net.state_dict()
    wrong = [f"{key} is missing" for key in wanted if key not in tensors]
    wrong += [f"{key} is surplus" for key in tensors if key not in wanted]
    wrong += [
        f"{key} is {tuple(tensors[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in wanted
        if key in tensors and tensors[key].shape != wanted[key].shape
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ModelError(f"{source}: does not fit this network: {'; '.join(wrong[:3])}{more}")
    net.load_state_dict(dict(tensors))
