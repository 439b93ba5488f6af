"""The one place that builds models by name, with their sizes and files."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, get_args, runtime_checkable

import torch
from torch import Tensor

from vidmatte.errors import ModelError, OptionError
from vidmatte.model.baselines.build import BASELINES, load_baseline
from vidmatte.model.catalogue import (
    CHECKPOINT_SIZE,
    CHECKPOINT_SOURCE,
    DESCRIPTIONS,
    find_checkpoint,
)
from vidmatte.model.compact.inference import DEFAULT_WORKING_SIZE
from vidmatte.model.compact.net import CompactNet
from vidmatte.model.compact.predictor import CompactModel
from vidmatte.model.compact.refine import Refiner
from vidmatte.model.diffusion import load_stable_diffusion
from vidmatte.model.hub import VITMATTE, fetch, own_folder
from vidmatte.model.iconmatting.free import FinishAlpha
from vidmatte.model.iconmatting.net import IconMattingNet, decoder_tensors
from vidmatte.model.iconmatting.options import IconMattingOptions
from vidmatte.model.iconmatting.predictor import build_iconmatting, build_iconmatting_free
from vidmatte.model.interface import Model, Predictor
from vidmatte.model.memory import gigabytes, memory_errors
from vidmatte.model.settings import Settings, as_options
from vidmatte.model.settings import parse_settings as parse_settings
from vidmatte.model.vitmatte import VitMatte, finish_with_compact
from vidmatte.model.weights import (
    WEIGHTS,
    compare,
    load_checkpoint,
    load_packaged,
    load_strictly,
    shapes,
)
from vidmatte.options import Precision
from vidmatte.prompts.prompt import Reference

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SMALLEST_WORKING_SIZE, LARGEST_WORKING_SIZE = 128, 1024
_log = logging.getLogger(__name__)


@runtime_checkable
class HasNotes(Protocol):
    """A model that has something to say of how it was put together or how it ran."""

    @property
    def notes(self) -> tuple[str, ...]:
        """One line each."""
        ...


def list_models() -> dict[str, str]:
    """Names of the models, each with a description; `catalogue.all_models` says which are on this machine."""
    return dict(DESCRIPTIONS)


def load_model(
    name: str | Path = "compact",
    *,
    device: str = "auto",
    precision: Precision = "auto",
    working_size: int | None = None,
    sd: str | Path | None = None,
    weights: str | Path | None = None,
    settings: Settings | None = None,
) -> Model:
    """A model by name (see `list_models`) or from a file of weights.

    Weights that a named model needs and that are not on this machine are downloaded where that can be done; see
    `hub.fetch`.

    Args:
        name: or a file of weights of `compact`'s layout, or the checkpoint of IconMatting's authors.
        device: "auto" (an accelerator if there is one), "cpu", "cuda", "cuda:1", "mps".
        precision: "auto" is bfloat16 where the device computes in it, float32 elsewhere.
        working_size: longer side, in pixels, of what `compact` sees; None for its own.
        sd: Stable Diffusion 2.1 for the models that stand on it: a folder of diffusers' layout or a single safetensors
            file; None downloads it.
        weights: the authors' checkpoint for "iconmatting", a folder of a ViTMatte for "iconmatting-free", a folder of
            their networks for the models of `baselines`, see `load_baseline`.
        settings: of a model that has any, by the names of its options: `IconMattingOptions` and those of `baselines`.

    Raises:
        ModelError: an unknown name, weights that are missing or cannot be used, too little memory.
        OptionError: any other choice that is not offered, or has no meaning for this model.
    """
    place = choose_device(device)
    dtype = choose_precision(precision, place)
    given = {"sd": sd, "weights": weights, "settings": settings or None}
    if str(name) == "iconmatting":
        _refuse(name, working_size=working_size)
        return _iconmatting(
            str(name),
            _path(weights),
            _path(sd),
            as_options(IconMattingOptions, settings),
            place,
            dtype,
        )
    if str(name) == "iconmatting-free":
        _refuse(name, working_size=working_size)
        return _iconmatting_free(
            str(name),
            _path(weights),
            _path(sd),
            as_options(IconMattingOptions, settings),
            place,
            dtype,
        )
    if str(name) in BASELINES:
        _refuse(name, working_size=working_size, sd=sd)
        model, remark = load_baseline(
            str(name),
            _path(weights),
            settings,
            device=place,
            precision=dtype,
            finisher=partial(_finisher, str(name), place, dtype),
        )
        return model if remark is None else NotedModel(model, remark)
    if str(name) in WEIGHTS:
        _refuse(name, **given)
        return _compact(
            str(name), load_packaged(str(name)), f"model {str(name)!r}", place, dtype, working_size
        )
    if not Path(name).is_file():
        known = ", ".join(DESCRIPTIONS)
        raise OptionError(
            f"model {str(name)!r} is not valid: it is neither a known name ({known}) nor a file"
        )
    with memory_errors(f"loading {name}"):
        tensors = load_checkpoint(Path(name))
    if any(key.startswith("in_context_decoder.") for key in tensors):
        _refuse(name, weights=weights, working_size=working_size)
        return _iconmatting(
            str(name), Path(name), _path(sd), as_options(IconMattingOptions, settings), place, dtype
        )
    _refuse(name, **given)
    return _compact(str(name), tensors, str(name), place, dtype, working_size)


def notes_of(model: Model) -> tuple[str, ...]:
    """What a user should know of how a model was put together and how it ran so far."""
    return model.notes if isinstance(model, HasNotes) else ()


@dataclass(frozen=True)
class NotedModel:
    """A model with something to say beside it."""

    model: Model
    remark: str

    @property
    def name(self) -> str:
        """As it was asked for."""
        return self.model.name

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.model.device

    @property
    def precision(self) -> torch.dtype:
        """What it computes in."""
        return self.model.precision

    @property
    def notes(self) -> tuple[str, ...]:
        """The remark, and what the model itself says."""
        return (self.remark, *notes_of(self.model))

    def with_reference(self, references: Sequence[Reference]) -> Predictor:
        """See `Model.with_reference`."""
        return self.model.with_reference(references)


def _compact(
    name: str,
    tensors: Mapping[str, Tensor],
    source: str,
    place: torch.device,
    dtype: torch.dtype,
    size: int | None,
) -> CompactModel:
    net = CompactNet()
    load_strictly(net, tensors, source)
    net.eval().to(place)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # missing in torch's own annotations
    size = _working_size(size)
    return CompactModel(
        net,
        device=place,
        precision=dtype,
        working_size=size,
        refiner=load_refiner(place),
        name=name,
    )


def load_refiner(place: torch.device) -> Refiner:
    """The packaged refiner, which brings mattes of `compact` to full size."""
    refiner = Refiner()
    load_strictly(refiner, load_packaged("refiner"), "the refiner of 'compact'")
    refiner.eval().to(place)
    refiner.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # missing in torch's own annotations
    return refiner


def _iconmatting(
    name: str,
    weights: Path | None,
    sd: Path | None,
    options: IconMattingOptions,
    place: torch.device,
    dtype: torch.dtype,
) -> Model:
    found = weights or find_checkpoint()
    if found is None:
        raise ModelError(
            f"model {name!r} needs the checkpoint of its authors ({gigabytes(CHECKPOINT_SIZE)}), which can only be got "
            f"by hand, from {CHECKPOINT_SOURCE}: give it with --weights FILE, or put it at "
            f"{own_folder() / 'iconmatting.ckpt'}; 'iconmatting-free' and 'compact' run without it"
        )
    with memory_errors(f"loading {found}"):
        tensors = decoder_tensors({"state_dict": load_checkpoint(found)}, str(found))
    if sd is None:
        # Before anything is downloaded; other sizes of Stable Diffusion than the real one's are only ever given.
        with torch.device("meta"):
            mismatch = compare(shapes(tensors), shapes(IconMattingNet().state_dict()))
        if mismatch:
            raise ModelError(f"{found}: is not the checkpoint of IconMatting's authors: {mismatch}")
    diffusion = load_stable_diffusion(sd, device=place, dtype=dtype, purpose=f"model {name!r}")
    with memory_errors(f"model {name!r}"):
        return build_iconmatting(
            diffusion, tensors, name=name, device=place, precision=dtype, options=options
        )


def _iconmatting_free(
    name: str,
    weights: Path | None,
    sd: Path | None,
    options: IconMattingOptions,
    place: torch.device,
    dtype: torch.dtype,
) -> Model:
    given = (
        None if weights is None else VitMatte.from_folder(weights, device=place, precision=dtype)
    )
    diffusion = load_stable_diffusion(sd, device=place, dtype=dtype, purpose=f"model {name!r}")
    finish, remark = (given, None) if given is not None else _finisher(name, place, dtype)
    with memory_errors(f"model {name!r}"):
        model = build_iconmatting_free(
            diffusion, finish, name=name, device=place, precision=dtype, options=options
        )
    return model if remark is None else NotedModel(model, remark)


def _finisher(name: str, place: torch.device, dtype: torch.dtype) -> tuple[FinishAlpha, str | None]:
    """What makes alpha of a trimap: ViTMatte where it can be had, otherwise the embedded network, and then why."""
    if find_spec("transformers") is None:
        reason = "transformers is not installed (pip install 'vidmatte[vitmatte]')"
    else:
        try:
            folder = fetch(VITMATTE, purpose=f"model {name!r}")
        except ModelError as error:
            reason = str(error)
        else:
            return VitMatte.from_folder(folder, device=place, precision=dtype), None
    compact = _compact("compact", load_packaged("compact"), "model 'compact'", place, dtype, None)
    remark = f"alpha was finished by 'compact' instead of ViTMatte, hair is softer so: {reason}"
    return partial(finish_with_compact, compact), remark


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given).expanduser()


def _refuse(name: str | Path, **given: object) -> None:
    """Refuse choices that have no meaning for a model."""
    unused = [choice for choice, value in given.items() if value is not None]
    if unused:
        raise OptionError(
            f"{unused[0].replace('_', ' ')} was given: it has no meaning for model {str(name)!r}; leave it out"
        )


def choose_device(name: str) -> torch.device:
    """The device of a name; "auto" is an accelerator if there is one. Raises OptionError for one that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.split(":")[0] not in ("cpu", "cuda", "mps"):
        raise OptionError(f"device {name!r} is not valid: choose auto, cpu, cuda, cuda:N or mps")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, ValueError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise OptionError(
            f"device {name!r} is not valid: it cannot be used here ({reason}); try --device cpu"
        ) from error
    return device


def choose_precision(precision: Precision, device: torch.device) -> torch.dtype:
    """The number format of a name; "auto" is what the device is fast in. Raises OptionError for an unknown one."""
    if precision not in get_args(Precision):
        raise OptionError(
            f"precision {precision!r} is not valid: choose one of {', '.join(get_args(Precision))}"
        )
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
            f"working size {size} is not valid: it must be {SMALLEST_WORKING_SIZE} to {LARGEST_WORKING_SIZE} pixels"
        )
    return size
