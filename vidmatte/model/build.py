"""The one place that knows names, sizes and files of models."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import torch

from vidmatte.errors import ModelError, OptionError
from vidmatte.model.compact.matter import DEFAULT_WORKING_SIZE, CompactModel
from vidmatte.model.compact.net import CompactNet
from vidmatte.model.interface import Model
from vidmatte.model.weights import WEIGHTS, load_packaged, load_strictly, load_tensors

Precision = Literal["auto", "float32", "bfloat16", "float16"]
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SMALLEST_WORKING_SIZE, LARGEST_WORKING_SIZE = 128, 1024


def list_models() -> dict[str, str]:
    """Names of the models that can be loaded here, each with a description."""
    return {name: weights.description for name, weights in WEIGHTS.items()}


def load_model(
    name: str | Path = "compact",
    *,
    device: str = "auto",
    precision: Precision = "auto",
    working_size: int | None = None,
) -> Model:
    """A model by name (see `list_models`) or from a safetensors file of `compact`'s layout.

    `device` is "auto" (an accelerator if there is one), "cpu", "cuda", "cuda:1", "mps". `precision` "auto" is bfloat16
    where the device computes in it, float32 elsewhere. `working_size` is the longer side, in pixels, of what the
    network sees; None for the model's own.

    Raises ModelError for unknown names and unusable weights, OptionError for the other choices.
    """
    net = CompactNet()
    if str(name) in WEIGHTS:
        load_strictly(net, load_packaged(str(name)), f"model {name!r}")
    elif Path(name).is_file():
        load_strictly(net, load_tensors(Path(name)), str(name))
    else:
        known = ", ".join(WEIGHTS)
        raise ModelError(f"model {str(name)!r} asked for: it is neither a known name ({known}) nor a file")
    place = _device(device)
    net.eval().to(place)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # missing in torch's own annotations
    return CompactModel(
        net,
        name=str(name),
        device=place,
        precision=_dtype(precision, place),
        working_size=_working_size(working_size),
    )


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.split(":")[0] not in ("cpu", "cuda", "mps"):
        raise OptionError(f"device {name!r} asked for: choose auto, cpu, cuda, cuda:N or mps")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, ValueError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise OptionError(f"device {name!r} asked for: it cannot be used here ({reason}); try --device cpu") from error
    return device


def _dtype(precision: Precision, device: torch.device) -> torch.dtype:
    if precision not in get_args(Precision):
        raise OptionError(f"precision {precision!r} asked for: choose one of {', '.join(get_args(Precision))}")
    if precision != "auto":
        return _DTYPES[precision]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    # On processors without bf16 instructions emulation is slower than float32.
    has_bf16 = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if has_bf16 else torch.float32


def _working_size(size: int | None) -> int:
    if size is None:
        return DEFAULT_WORKING_SIZE
    if not SMALLEST_WORKING_SIZE <= size <= LARGEST_WORKING_SIZE:
        raise OptionError(
            f"working size {size} asked for: it must be {SMALLEST_WORKING_SIZE} to {LARGEST_WORKING_SIZE} pixels"
        )
    return size
