"""Load networks of transformers from folders: strictly, quietly, and never from the network."""

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
    """For messages."""
    config: str
    """Name of its configuration class in transformers."""
    network: str
    """Name of its model class in transformers."""
    kind: str
    """Its `model_type` in config.json."""
    extra: str
    """Extra of vidmatte for a transformers with these classes."""


def load_pretrained(
    folder: Path,
    wanted: Pretrained,
    *,
    adapt: Callable[[Any], None] | None = None,
    unexpected_keys: bool = False,
) -> nn.Module:
    """Load the network in a folder with `config.json` and `model.safetensors`.

    Args:
        folder: on this machine.
        wanted: the expected network of the folder.
        adapt: changes the configuration before the network is built.
        unexpected_keys: whether to ignore tensors without a place in the network, for files
            of several networks.

    Returns:
        The network in evaluation mode, with frozen weights.

    Raises:
        ModelError: files are missing, damaged or of another network.
        MissingExtraError: transformers is not installed, is too old, or lacks a package that this
            network needs.
    """
    # transformers would report a missing file as a name unknown to the hub.
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise ModelError(
                f"{folder}: has no {name}; a {wanted.name} is a folder with config.json and "
                f"model.safetensors"
            )
    try:
        import transformers

        config_class = getattr(transformers, wanted.config)
        network_class = getattr(transformers, wanted.network)
    except (ImportError, AttributeError) as error:
        raise MissingExtraError(wanted.name, wanted.extra) from error
    if read_json(folder / "config.json").get("model_type") != wanted.kind:
        raise ModelError(
            f"{folder}: config.json does not describe a {wanted.name}; name the folder of one"
        )
    with (
        _translated_errors(folder, wanted),
        _without_progress(),
        memory_errors(f"loading {folder}"),
    ):
        config = config_class.from_pretrained(folder)
        if adapt is not None:
            adapt(config)
        net, info = network_class.from_pretrained(
            folder,
            config=config,
            # Never the network, and never pickles.
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    return _checked(net, info, wanted, folder, unexpected_keys)


@contextmanager
def _translated_errors(folder: Path, wanted: Pretrained) -> Iterator[None]:
    """Translate the errors of transformers and safetensors."""
    try:
        yield
    except ModelError:
        raise
    except ImportError as error:
        # Some networks need one more package, such as timm for an image encoder.
        raise MissingExtraError(wanted.name, wanted.extra) from error
    except (SafetensorError, OSError, ValueError, RuntimeError, TypeError) as error:
        raise ModelError(
            f"{folder}: {wanted.name} cannot be loaded ({first_line(error)}); get its files again"
        ) from error


def _checked(
    net: nn.Module, info: dict[str, Any], wanted: Pretrained, folder: Path, unexpected_keys: bool
) -> nn.Module:
    """Return the network frozen; raise ModelError if its file did not fit it."""
    unexpected = () if unexpected_keys else tuple(sorted(info["unexpected_keys"]))
    # transformers only warns of these.
    mismatch = Mismatch(tuple(sorted(info["missing_keys"])), unexpected)
    if mismatch:
        raise ModelError(f"{folder}: does not fit {wanted.name}: {mismatch}")
    check_finite(net.state_dict(), str(folder))
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
    """Return the object in a JSON file. Raises ModelError if the file holds none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read ({error}); get it again") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path}: expected a JSON object of settings; get it again")
    return content
