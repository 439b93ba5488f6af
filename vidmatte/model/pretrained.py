"""Networks of transformers, loaded from folders on this machine: strictly, without a word, never from the network."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import nn

from vidmatte.errors import MissingExtraError, ModelError
from vidmatte.model.memory import memory_errors
from vidmatte.model.weights import Mismatch, check_finite, first_line


@dataclass(frozen=True)
class Pretrained:
    """A network of transformers."""

    name: str
    """For people."""
    config: str
    network: str
    """Names of the two classes in transformers."""
    kind: str
    """What `model_type` in config.json says."""
    extra: str
    """Of vidmatte that brings a transformers with these classes."""


def load_pretrained(
    folder: Path, wanted: Pretrained, *, adapt: Callable[[Any], None] | None = None, unexpected_keys: bool = False
) -> nn.Module:
    """The network in a folder with `config.json` and `model.safetensors`, in evaluation mode, its weights frozen.

    Args:
        adapt: changes the configuration before the network is made.
        surplus: whether tensors that the network has no place for are passed over, as where one file serves several
            networks.

    Raises:
        ModelError: files that are missing, damaged or of another network.
        MissingExtraError: transformers, or a version of it that has this network, is not installed.
    """
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise ModelError(
                f"{folder}: has no {name}; a {wanted.name} is a folder with config.json and model.safetensors"
            )
    try:
        import transformers

        config_class, network_class = getattr(transformers, wanted.config), getattr(transformers, wanted.network)
    except (ImportError, AttributeError) as error:
        raise MissingExtraError(wanted.name, wanted.extra) from error
    if read_json(folder / "config.json").get("model_type") != wanted.kind:
        raise ModelError(f"{folder}: config.json does not describe a {wanted.name}; name the folder of one")
    try:
        with _without_progress(), memory_errors(f"loading {folder}"):
            config = config_class.from_pretrained(folder)
            if adapt is not None:
                adapt(config)
            net, info = network_class.from_pretrained(
                folder, config=config, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
    except ModelError:
        raise
    except ImportError as error:
        # Some networks need a further package, such as timm for an image encoder.
        raise MissingExtraError(wanted.name, wanted.extra) from error
    except (SafetensorError, OSError, ValueError, RuntimeError, TypeError) as error:
        raise ModelError(
            f"{folder}: {wanted.name} cannot be loaded ({first_line(error)}); get its files again"
        ) from error
    return _checked(net, info, f"{folder}: does not fit {wanted.name}", str(folder), unexpected_keys)


def _checked(net: nn.Module, info: dict[str, Any], says: str, source: str, unexpected_keys: bool) -> nn.Module:
    unexpected = () if unexpected_keys else tuple(sorted(info["unexpected_keys"]))
    mismatch = Mismatch(tuple(sorted(info["missing_keys"])), unexpected)
    if mismatch:
        raise ModelError(f"{says}: {mismatch}")
    check_finite(net.state_dict(), source)
    return net.eval().requires_grad_(False)


@contextmanager
def _without_progress() -> Iterator[None]:
    from transformers.utils import logging

    shows_bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shows_bars:
            logging.enable_progress_bar()


def read_json(path: Path) -> dict[str, object]:
    """The object in a JSON file. Raises ModelError where there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read ({error}); get it again") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path}: holds no settings; get it again")
    return content
