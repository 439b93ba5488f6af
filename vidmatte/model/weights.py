"""Weight files: those of the package with their checksums, and any others.

They are loaded safely (no code of a file runs) and strictly (all tensors fit).
"""

from __future__ import annotations

import hashlib
import pickle
import warnings
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from vidmatte.errors import ModelError
from vidmatte.options import MatteOptions

_FOLDER = Path(__file__).parent / "weights"
_CHUNK = 1 << 20
"""Bytes read at a time."""
_SHOWN = 3
"""How many names a message lists."""


@dataclass(frozen=True)
class Weights:
    """Facts of a weight file in the package."""

    file: str
    sha256: str
    licence: str
    description: str

    @property
    def path(self) -> Path:
        """Path of the file in the installed package."""
        return _FOLDER / self.file


WEIGHTS: Mapping[str, Weights] = {
    "compact": Weights(
        file="compact.safetensors",
        sha256="8f0210baa6882227e4b3457f80a0d107b48ad498955a80e87796009a2dd0e3cd",
        licence="Apache-2.0",
        description="small in-context matting network; comes with the package, works offline",
    ),
}
PARTS: Mapping[str, Weights] = {
    "corrector": Weights(
        file="corrector.safetensors",
        sha256="9040ff05a5a38231eb05061c0c0e080615dbc18681a83b54e5baa17c631cf412",
        licence="Apache-2.0",
        description="corrects the mattes of compact at their edges; comes with the package",
    ),
    "refiner": Weights(
        file="refiner.safetensors",
        sha256="c186ae99038c80873b0b1c59441120632450b47eae9f3ca2dabf849bb51a945e",
        licence="Apache-2.0",
        description="brings the mattes of compact to full size; comes with the package",
    ),
}
"""Networks within models."""


def weight_hashes(options: MatteOptions) -> list[dict[str, str]]:
    """Return name and SHA-256 of each file of weights in the options, as JSON values.

    Weights that were downloaded or found in a cache are not named: their revisions are those of
    this version of vidmatte.
    """
    found = []
    if str(options.model) in WEIGHTS:
        packaged = (WEIGHTS[str(options.model)], *PARTS.values())
        found += [{"file": each.file, "sha256": each.sha256} for each in packaged]
    for given in (options.model, options.weights, options.sd, options.prompt_weights):
        path = Path(given).expanduser() if given is not None else None
        if path is None or not path.exists():
            continue
        for file in [path] if path.is_file() else sorted(path.rglob("*.safetensors")):
            name = file.name if path.is_file() else str(file.relative_to(path.parent))
            facts = file.stat()
            digest = _sha256(file, facts.st_size, facts.st_mtime_ns)
            found.append({"file": name, "sha256": digest})
    return found


@lru_cache(maxsize=64)
def _sha256(path: Path, size: int, changed: int) -> str:
    """Hash a file, once as long as its size and time stay: gigabytes take a while."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def load_packaged(name: str) -> dict[str, Tensor]:
    """Load packaged weights of a model, or of a part of models.

    Raises ModelError if the file is missing or has another checksum.
    """
    weights = {**WEIGHTS, **PARTS}[name]
    try:
        found = hashlib.sha256(weights.path.read_bytes()).hexdigest()
    except OSError as error:
        raise ModelError(
            f"model {name!r}: {weights.path} cannot be read ({error.strerror}); reinstall vidmatte"
        ) from error
    if found != weights.sha256:
        raise ModelError(
            f"model {name!r}: {weights.path} is damaged (sha256 {found[:12]}..., expected "
            f"{weights.sha256[:12]}...); reinstall vidmatte"
        )
    return load_tensors(weights.path)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Load the tensors of a safetensors file. Raises ModelError if it is none."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: is not a safetensors file that can be read ({error})") from error


def load_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint, and nothing else of it.

    The content decides the format: safetensors, or a file of `torch.save` (.ckpt, .pth). A
    `state_dict` inside, as PyTorch Lightning writes it, is taken. Objects beside the tensors
    (callback states, OmegaConf hyper-parameters, optimizers) are replaced by inert stand-ins:
    no code named by a file is imported or called.

    Raises:
        ModelError: the file is damaged, or holds anything but named tensors.
    """
    if is_safetensors(path):
        return load_tensors(path)
    content = _unpickle(path)
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not content:
        is_stub = isinstance(content, _Stub)
        kind = "an object of another program" if is_stub else type(content).__name__
        raise ModelError(f"{path}: expected named tensors, got {kind}; give a file of weights")
    others = [str(key) for key, value in content.items() if not isinstance(value, Tensor)]
    if others:
        raise ModelError(
            f"{path}: {_listed(others)} in it is no tensor; give a file of weights alone"
        )
    return {str(key): value for key, value in content.items()}


def is_safetensors(path: Path) -> bool:
    """Tell whether a file starts like safetensors. Raises ModelError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(9)[8:] == b"{"
    except OSError as error:
        raise ModelError(
            f"{path}: cannot be read ({error.strerror}); check the path and its permissions"
        ) from error


_TENSOR_PARTS: Mapping[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): torch.Size,
    ("torch", "UntypedStorage"): torch.UntypedStorage,
    ("torch.storage", "UntypedStorage"): torch.UntypedStorage,
    ("torch._utils", "_rebuild_tensor"): torch._utils._rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
}
"""All functions that a pickle may call: those for making tensors and dictionaries."""


class _Stub(dict[Any, Any]):
    """Stand-in for any object except tensors: accepts all operations of pickles, and ignores them.

    A dict, as classes of hyper-parameters often are: pickles put items into it.
    """

    def __new__(cls, *given: Any, **named: Any) -> _Stub:
        return super().__new__(cls)

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__()

    def __call__(self, *given: Any, **named: Any) -> _Stub:
        return _Stub()

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        """Ignore an item, as of a list."""

    def extend(self, values: Any) -> None:
        """Ignore items, as of a list."""

    def add(self, value: Any) -> None:
        """Ignore an item, as of a set."""

    # Keys of a dictionary may be stand-ins, which dictionaries themselves cannot be.
    __hash__ = object.__hash__  # type: ignore[assignment]
    __eq__ = object.__eq__


class _InertUnpickler(pickle.Unpickler):
    """Reads tensors; every other class or function in a pickle becomes a stand-in.

    A pickle can only call results of `find_class`: nothing of the file's choice runs.
    """

    def find_class(self, module: str, name: str) -> Any:
        """Return a function for making tensors, or a stand-in."""
        if (module, name) in _TENSOR_PARTS:
            return _TENSOR_PARTS[module, name]
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        return _Stub


class _InertPickle:
    """The module for `torch.load(pickle_module=...)`."""

    Unpickler = _InertUnpickler
    UnpicklingError = pickle.UnpicklingError

    @staticmethod
    def load(file: Any, **options: Any) -> Any:
        """Read one pickle."""
        return _InertUnpickler(file, **options).load()


def _unpickle(path: Path) -> Any:
    """Read a file of `torch.save`, without running any code in it."""
    _refuse_other_kinds(path)
    try:
        # Opened here: by a name that ends in .safetensors torch would take it for such a file.
        with path.open("rb") as file, warnings.catch_warnings():
            # About pickles of an unusual kind; whether they can be read shows at once.
            warnings.simplefilter("ignore", UserWarning)
            if _is_checkpoint_archive(path):
                return torch.load(
                    file, map_location="cpu", weights_only=False, pickle_module=_InertPickle
                )
            # The format before PyTorch 1.6 also has readers that unpack archives: torch's own
            # restrictions, which allow tensors alone.
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path}: is no file of weights that can be loaded without running code of its own; "
            f"give safetensors, or a checkpoint of tensors"
        ) from error
    # What the readers of a damaged pickle or archive raise.
    except (
        RuntimeError,
        OSError,
        EOFError,
        ValueError,
        LookupError,
        AttributeError,
        TypeError,
        AssertionError,
    ) as error:
        raise ModelError(f"{path}: is damaged ({first_line(error)}); get it again") from error


_DISGUISES: Mapping[bytes, str] = {
    b"version https://git-lfs": "a pointer of Git LFS instead of the file: run git lfs pull",
    b"<": "a web page instead of the file: download it again, with its login if it needs one",
}
"""Frequent kinds of wrong downloads, by their first bytes."""


def _refuse_other_kinds(path: Path) -> None:
    """Raise ModelError for an empty file, and for leftovers of failed downloads."""
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        raise ModelError(f"{path}: is empty; get it again")
    for beginning, kind in _DISGUISES.items():
        if start.lstrip().startswith(beginning):
            raise ModelError(f"{path}: is {kind}")


def _is_checkpoint_archive(path: Path) -> bool:
    """Tell whether a file is a zip archive of `torch.save`. Raises ModelError for TorchScript."""
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return False
    # torch's own reader, so that it cannot find another archive in the file than was checked.
    if "constants.pkl" in torch._C.PyTorchFileReader(str(path)).get_all_records():
        raise ModelError(
            f"{path}: is a TorchScript program, which would run code of its own; give its weights "
            f"as safetensors, or a checkpoint of tensors"
        )
    return True


@dataclass(frozen=True)
class Mismatch:
    """Differences between the tensors of a file and those of a network."""

    missing: tuple[str, ...] = ()
    unexpected_keys: tuple[str, ...] = ()
    reshaped: tuple[str, ...] = ()
    """Each with the shape in the file and the shape of the network."""

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected_keys or self.reshaped)

    def __str__(self) -> str:
        wrong = [f"{key} is missing" for key in self.missing] + [
            f"{key} is surplus" for key in self.unexpected_keys
        ]
        return _listed([*wrong, *self.reshaped], "; ")


def compare(
    found: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]
) -> Mismatch:
    """Compare the shapes of a file's tensors with those of a network."""
    return Mismatch(
        missing=tuple(key for key in wanted if key not in found),
        unexpected_keys=tuple(key for key in found if key not in wanted),
        reshaped=tuple(
            f"{key} is {found[key]} instead of {wanted[key]}"
            for key in wanted
            if key in found and found[key] != wanted[key]
        ),
    )


def shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor."""
    return {key: tuple(tensor.shape) for key, tensor in tensors.items()}


def load_strictly(net: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Load tensors into a network.

    Raises ModelError naming missing, surplus, misshapen and non-finite tensors.
    """
    mismatch = compare(shapes(tensors), shapes(net.state_dict()))
    if mismatch:
        raise ModelError(f"{source}: does not fit this network: {mismatch}")
    check_finite(tensors, source)
    net.load_state_dict(dict(tensors))


def not_finite(tensors: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Return the names of tensors with NaN or infinity."""
    return tuple(
        key
        for key, tensor in tensors.items()
        if tensor.is_floating_point() and not _sum(tensor).isfinite()
    )


def _sum(tensor: Tensor) -> Tensor:
    """Return the sum: it is not finite if a term is not, and unlike a test it needs no memory."""
    try:
        return tensor.sum(dtype=torch.float64 if tensor.dtype == torch.float64 else torch.float32)
    except NotImplementedError as error:
        # Packed formats of 4 bits.
        raise ModelError(
            f"weights of format {str(tensor.dtype).removeprefix('torch.')} cannot be used: get "
            f"them as float32, bfloat16 or float16"
        ) from error


def check_finite(tensors: Mapping[str, Tensor], source: str) -> None:
    """Raise ModelError naming tensors with NaN or infinity."""
    broken = not_finite(tensors)
    if broken:
        raise ModelError(
            f"{source}: {_listed(broken)} holds NaN or infinity: the file is damaged; get it again"
        )


def first_line(error: BaseException) -> str:
    """Return the first line of the message of another library's error."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _listed(names: Sequence[str], separator: str = ", ") -> str:
    """Join the first few names, and say how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return separator.join(names[:_SHOWN]) + more
