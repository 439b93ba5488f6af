"""Load Stable Diffusion 2.1: given, cached or downloaded, with its empty prompt from a cache.

The text encoder is only needed for the embedding of the empty prompt. That is computed once and
kept for later runs.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from vidmatte.errors import ModelError
from vidmatte.model.hub import STABLE_DIFFUSION, TEXT_ENCODER, fetch, own_folder
from vidmatte.model.iconmatting.empty_prompt import embed_empty_prompt, from_open_clip
from vidmatte.model.iconmatting.stable_diffusion import StableDiffusion
from vidmatte.model.memory import memory_errors, require_memory
from vidmatte.model.weights import check_finite, load_tensors

_log = logging.getLogger(__name__)
_SAMPLES, _SAMPLE_BYTES = 256, 4096
_WITH_WORK = 1.5
"""Memory for the weights and the work on one frame, as a multiple of the weights alone."""


def load_stable_diffusion(
    path: Path | None, *, device: torch.device, dtype: torch.dtype, purpose: str
) -> StableDiffusion:
    """Load the frozen part of IconMatting.

    Args:
        path: a folder of diffusers' layout or a safetensors file; None for `hub.STABLE_DIFFUSION`,
            downloaded if it is not cached.
        device, dtype: to compute on and in.
        purpose: for messages.

    Raises:
        ModelError: files are missing, damaged or of another version, or memory is too small.
    """
    is_given = path is not None
    if path is None:
        path = fetch(STABLE_DIFFUSION, purpose=purpose)
    elif not path.exists():
        raise ModelError(
            f"{path}: no such file or folder; --sd takes a folder of Stable Diffusion 2.1 in "
            f"diffusers' layout, or its "
            f"single safetensors file, and downloads it when left out"
        )
    require_room(path, device, dtype)
    prompt = empty_prompt(path, is_given=is_given, purpose=purpose)
    load = StableDiffusion.from_folder if path.is_dir() else StableDiffusion.from_single_file
    with memory_errors(f"loading {path}"):
        return load(path, device=device, dtype=dtype, empty_prompt=prompt)


def require_room(path: Path, device: torch.device, dtype: torch.dtype) -> None:
    """Raise ModelError if the weights and the work on one frame do not fit into memory."""
    numbers = 0
    for file in (
        (path,) if path.is_file() else (weights_in(path / "unet"), weights_in(path / "vae"))
    ):
        if file is not None:
            numbers += _numbers(file)
    # In the precision of the run, not of the file.
    weights = numbers * dtype.itemsize
    what = f"Stable Diffusion of {path}"
    # Weights are read on the CPU first.
    if device.type != "cpu":
        require_memory(weights, torch.device("cpu"), what)
    require_memory(int(_WITH_WORK * weights), device, what)


def empty_prompt(path: Path, *, is_given: bool, purpose: str) -> Tensor | None:
    """Return the embedding (1, 77, 1024) float32 of the empty prompt, from the cache or computed.

    It is kept under a fingerprint of the U-Net, or of the whole file if it is a single one. None is
    returned if there is no U-Net: the loader names the missing files. The text encoder is
    downloaded only for missing weights, and if the embedding is not in the cache.
    """
    place = place_of_prompt(path)
    if place is None:
        return None
    text_folder = path / "text_encoder"
    text = path if path.is_file() else weights_in(text_folder)
    made_by = None if text is None else fingerprint(text)
    # An embedding by another text encoder is not used.
    kept = _kept(place, made_by)
    if kept is not None:
        return kept
    if text is None:
        if is_given:
            raise ModelError(
                f"{path}: has no text_encoder, which is needed once, for the empty prompt; copy "
                f"that of the same model "
                f"there (it may go again afterwards)"
            )
        text_folder = fetch(TEXT_ENCODER, purpose=purpose) / "text_encoder"
        text = text_folder / "model.safetensors"
        made_by = fingerprint(text)
    with memory_errors(f"the text encoder of {text}"):
        embedding = _embed(text, text_folder)
    _keep(place, embedding, made_by or "")
    return embedding


def place_of_prompt(path: Path) -> Path | None:
    """Return the cache file of the embedding for the weights at `path`; None without a U-Net."""
    network = path if path.is_file() else weights_in(path / "unet")
    return (
        None
        if network is None
        else own_folder() / f"empty-prompt-{fingerprint(network)[:32]}.safetensors"
    )


def fingerprint(file: Path) -> str:
    """Return a hexadecimal hash of a file's size and of 256 pieces spread evenly over it.

    Only a megabyte of several thousand is read. Trained networks differ everywhere, so no two
    share the hash; a deliberately changed file might.
    """
    size = file.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with file.open("rb") as opened:
        for k in range(_SAMPLES):
            # Evenly spread over the file, its first and last bytes included.
            opened.seek(max(0, size - _SAMPLE_BYTES) * k // (_SAMPLES - 1))
            digest.update(opened.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def _embed(text: Path, folder: Path) -> Tensor:
    """Compute the embedding with a text encoder, in its folder or inside a single file."""
    tensors = load_tensors(text)
    if text.parent == folder:
        embedding = embed_empty_prompt(tensors, heads=_heads(folder / "config.json"))
    else:
        embedding = embed_empty_prompt(from_open_clip(tensors, text))
    check_finite({"embedding of the empty prompt": embedding}, str(text))
    return embedding


def _heads(config: Path) -> int:
    try:
        return int(json.loads(config.read_text(encoding="utf-8"))["num_attention_heads"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{config}: does not describe a text encoder; get it again") from error


def _kept(place: Path, made_by: str | None) -> Tensor | None:
    """Return the embedding in a file, unless another text encoder made it or it is unreadable."""
    with suppress(OSError, SafetensorError, KeyError):
        with safe_open(place, "pt") as file:
            maker = (file.metadata() or {}).get("text_encoder")
        # Without a text encoder at hand, the kept embedding cannot be checked, and is used.
        if made_by is None or maker == made_by:
            return load_file(place)["empty_prompt"]
    return None


def _keep(place: Path, embedding: Tensor, made_by: str) -> None:
    # The process number keeps two runs apart; the rename is atomic.
    part = place.with_name(f"{place.name}.{os.getpid()}.part")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        save_file(
            {"empty_prompt": embedding.contiguous()}, part, metadata={"text_encoder": made_by}
        )
        part.replace(place)
    except (OSError, SafetensorError) as error:
        _log.warning(
            "%s: the embedding of the empty prompt cannot be kept (%s); it is computed each time",
            place,
            error,
        )


def weights_in(folder: Path) -> Path | None:
    """Return the safetensors file of a part in diffusers' layout; None if it has none."""
    names = [
        f"{stem}{variant}.safetensors"
        for stem in ("diffusion_pytorch_model", "model")
        for variant in ("", ".fp16")
    ]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _numbers(file: Path) -> int:
    """Return how many numbers a safetensors file holds; 0 if its header is unreadable."""
    with suppress(OSError, SafetensorError), safe_open(file, "pt") as opened:
        return sum(_product(opened.get_slice(key).get_shape()) for key in opened.keys())  # noqa: SIM118 - no mapping
    return 0


def _product(sides: list[int]) -> int:
    return int(torch.Size(sides).numel())
