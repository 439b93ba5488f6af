"""Build models by name: the one place for their sizes and files."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, cast, get_args, runtime_checkable

import torch
from torch import Tensor

from vidmatte.errors import ModelError, OptionError
from vidmatte.model.baselines.build import BASELINES, load_baseline
from vidmatte.model.baselines.trimaps import TrimapModel
from vidmatte.model.catalogue import (
    CHECKPOINT_SIZE,
    CHECKPOINT_SOURCE,
    DESCRIPTIONS,
    find_checkpoint,
)
from vidmatte.model.compact.correct import Corrector
from vidmatte.model.compact.inference import BEST_WORKING_SIZE, DEFAULT_WORKING_SIZE
from vidmatte.model.compact.net import CompactNet
from vidmatte.model.compact.predictor import CompactModel
from vidmatte.model.compact.refine import Refiner
from vidmatte.model.diffusion import load_stable_diffusion
from vidmatte.model.hub import VITMATTE, fetch, own_folder
from vidmatte.model.iconmatting.free import FinishAlpha
from vidmatte.model.iconmatting.net import IconMattingNet, decoder_tensors
from vidmatte.model.iconmatting.options import IconMattingOptions
from vidmatte.model.iconmatting.predictor import build_iconmatting, build_iconmatting_free
from vidmatte.model.iconmatting.stable_diffusion import FeatureSettings, StableDiffusion
from vidmatte.model.iconmatting.trimap import TrimapMatting, is_trimap_head, load_trimap_head
from vidmatte.model.interface import (
    EncodedMarks,
    Model,
    Predictor,
    SupportsEncodedReferences,
    SupportsSeed,
)
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
from vidmatte.options import Precision, Quality
from vidmatte.prompts.prompt import Reference

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SMALLEST_WORKING_SIZE = 128
LARGEST_WORKING_SIZE = 1024
_log = logging.getLogger(__name__)


@runtime_checkable
class HasNotes(Protocol):
    """A model with remarks for the user on how it was put together or how it ran."""

    @property
    def notes(self) -> tuple[str, ...]:
        """One line each."""
        ...


@dataclass(frozen=True)
class _Choices:
    """The choices of `load_model`, checked."""

    name: str
    device: torch.device
    precision: torch.dtype
    working_size: int | None
    quality: Quality | None
    """None for the standard one."""
    sd: Path | None
    weights: Path | None
    settings: Settings | None

    def refuse(self, *names: str) -> None:
        """Raise OptionError if one of these choices was made: they have no meaning here."""
        for name in names:
            if getattr(self, name) not in (None, {}):
                raise OptionError(
                    f"{name.replace('_', ' ')} was given: it has no meaning for model "
                    f"{self.name!r}; leave it out"
                )

    def stable_diffusion(self) -> StableDiffusion:
        """Load Stable Diffusion onto the device."""
        return load_stable_diffusion(
            self.sd, device=self.device, dtype=self.precision, purpose=f"model {self.name!r}"
        )


def list_models() -> dict[str, str]:
    """Return the names of the models with their descriptions.

    `catalogue.all_models` lists those on this machine.
    """
    return dict(DESCRIPTIONS)


def load_model(
    name: str | Path = "compact",
    *,
    device: str = "auto",
    precision: Precision = "auto",
    working_size: int | None = None,
    quality: Quality = "standard",
    sd: str | Path | None = None,
    weights: str | Path | None = None,
    settings: Settings | None = None,
) -> Model:
    """Load a model by name (see `list_models`) or from a file of weights.

    Missing weights of a named model are downloaded if they can be, see `hub.fetch`.

    Args:
        name: of a model, or a file: weights of `compact`'s layout, the checkpoint of IconMatting's
            authors, or a trained head of IconMatting for trimaps.
        device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", "mps".
        precision: "auto" is bfloat16 if the device computes in it, otherwise float32.
        working_size: longer side of the network's input in pixels, for `compact`; None for that of
            the quality.
        quality: "best" for a larger working size of `compact`, which takes a third longer.
        sd: Stable Diffusion 2.1 for the models built on it: a folder of diffusers' layout
            or a single safetensors file; None downloads it.
        weights: the authors' checkpoint for "iconmatting", a folder of a ViTMatte for
            "iconmatting-free", a folder of networks for the baselines, see `load_baseline`.
        settings: options of the model by name: `IconMattingOptions`, or those of the baseline.

    Raises:
        ModelError: weights are missing or cannot be used, or there is too little memory.
        OptionError: If the name is unknown, or a choice is not valid or has no meaning for this
            model.
    """
    if quality not in get_args(Quality):
        raise OptionError(
            f"quality {quality!r} is not valid: choose one of {', '.join(get_args(Quality))}"
        )
    # The device first: "auto" precision depends on it.
    place = choose_device(device)
    choices = _Choices(
        str(name),
        place,
        choose_precision(precision, place),
        working_size,
        None if quality == "standard" else quality,
        _path(sd),
        _path(weights),
        settings,
    )
    # Known names before files: a file called "compact" in the folder must not change the model.
    if choices.name == "iconmatting":
        choices.refuse("working_size", "quality")
        return _iconmatting(choices, choices.weights)
    if choices.name == "iconmatting-free":
        choices.refuse("working_size", "quality")
        return _iconmatting_free(choices)
    if choices.name in BASELINES:
        choices.refuse("working_size", "quality", "sd")
        return _baseline(choices)
    if choices.name in WEIGHTS:
        choices.refuse("sd", "weights", "settings")
        return _compact(choices, load_packaged(choices.name), f"model {choices.name!r}")
    return _from_file(choices, Path(name))


def _from_file(choices: _Choices, path: Path) -> Model:
    if not path.is_file():
        known = ", ".join(DESCRIPTIONS)
        raise OptionError(
            f"model {choices.name!r} is not valid: it is neither a known name ({known}) nor a file"
        )
    with memory_errors(f"loading {path}"):
        tensors = load_checkpoint(path)
    # The kind of network follows from the names of its tensors, not from the file's name.
    if any(key.startswith("in_context_decoder.") for key in tensors):
        choices.refuse("weights", "working_size", "quality")
        return _iconmatting(choices, path)
    if is_trimap_head(tensors):
        choices.refuse("weights", "working_size", "quality")
        return _iconmatting_trimap(choices, path, tensors)
    choices.refuse("sd", "weights", "settings")
    return _compact(choices, tensors, choices.name)


def notes_of(model: Model) -> tuple[str, ...]:
    """Return the remarks for the user on how a model was put together and how it ran so far."""
    return model.notes if isinstance(model, HasNotes) else ()


def with_note(model: Model, *remarks: str) -> Model:
    """Return a model with remarks for the user; it answers marks if the model does."""
    is_marker = isinstance(model, SupportsEncodedReferences)
    return (_NotedMarker if is_marker else NotedModel)(model, remarks)


@dataclass(frozen=True)
class NotedModel:
    """A model with remarks for the user."""

    model: Model
    remarks: tuple[str, ...]

    @property
    def name(self) -> str:
        """Its given name."""
        return self.model.name

    @property
    def device(self) -> torch.device:
        """Its device."""
        return self.model.device

    @property
    def precision(self) -> torch.dtype:
        """Its number format."""
        return self.model.precision

    @property
    def notes(self) -> tuple[str, ...]:
        """The remarks, and those of the model itself."""
        return (*self.remarks, *notes_of(self.model))

    def with_reference(self, references: Sequence[Reference]) -> Predictor:
        """See `Model.with_reference`."""
        return self.model.with_reference(references)

    def with_seed(self, seed: int) -> Model | None:
        """See `SupportsSeed.with_seed`."""
        model = self.model.with_seed(seed) if isinstance(self.model, SupportsSeed) else None
        return None if model is None else NotedModel(model, self.remarks)


class _NotedMarker(NotedModel):
    """A noted model that encodes references one by one."""

    def encode(self, reference: Reference, *, after: Any | None = None) -> EncodedMarks:
        """See `SupportsEncodedReferences.encode`."""
        return cast("SupportsEncodedReferences", self.model).encode(reference, after=after)

    def with_encoded(self, references: Sequence[Any]) -> Predictor:
        """See `SupportsEncodedReferences.with_encoded`."""
        return cast("SupportsEncodedReferences", self.model).with_encoded(references)


def _baseline(choices: _Choices) -> Model:
    model, remark = load_baseline(
        choices.name,
        choices.weights,
        choices.settings,
        device=choices.device,
        precision=choices.precision,
        finisher=partial(_finisher, choices),
    )
    return model if remark is None else with_note(model, remark)


def _compact(choices: _Choices, tensors: Mapping[str, Tensor], source: str) -> CompactModel:
    net = CompactNet()
    load_strictly(net, tensors, source)
    net.eval().to(choices.device)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return CompactModel(
        net,
        device=choices.device,
        precision=choices.precision,
        working_size=_working_size(choices),
        corrector=load_corrector(choices.device),
        refiner=load_refiner(choices.device),
        name=choices.name,
    )


def load_corrector(place: torch.device) -> Corrector:
    """Return the packaged corrector of the mattes of `compact`, for inference."""
    corrector = Corrector()
    load_strictly(corrector, load_packaged("corrector"), "the corrector of 'compact'")
    folded = corrector.folded().to(place)
    folded.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return folded


def load_refiner(place: torch.device) -> Refiner:
    """Return the packaged refiner, for bringing mattes of `compact` to full size."""
    refiner = Refiner()
    load_strictly(refiner, load_packaged("refiner"), "the refiner of 'compact'")
    refiner.eval().to(place)
    refiner.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return refiner


def _iconmatting(choices: _Choices, weights: Path | None) -> Model:
    options = as_options(IconMattingOptions, choices.settings)
    found = weights or find_checkpoint()
    if found is None:
        raise ModelError(
            f"model {choices.name!r} needs the checkpoint of its authors "
            f"({gigabytes(CHECKPOINT_SIZE)}), which has to be downloaded by hand from "
            f"{CHECKPOINT_SOURCE}: give it with --weights FILE, or put it at "
            f"{own_folder() / 'iconmatting.ckpt'}; 'iconmatting-free' and 'compact' run without it"
        )
    with memory_errors(f"loading {found}"):
        tensors = decoder_tensors({"state_dict": load_checkpoint(found)}, str(found))
    if choices.sd is None:
        # Checked before anything is downloaded. A given Stable Diffusion may have another size.
        # On the meta device only shapes are made.
        with torch.device("meta"):
            mismatch = compare(shapes(tensors), shapes(IconMattingNet().state_dict()))
        if mismatch:
            raise ModelError(f"{found}: is not the checkpoint of IconMatting's authors: {mismatch}")
    diffusion = choices.stable_diffusion()
    with memory_errors(f"model {choices.name!r}"):
        return build_iconmatting(
            diffusion,
            tensors,
            name=choices.name,
            device=choices.device,
            precision=choices.precision,
            options=options,
        )


def _iconmatting_free(choices: _Choices) -> Model:
    options = as_options(IconMattingOptions, choices.settings)
    finish: FinishAlpha | None = None
    # ViTMatte if its folder is given or it can be fetched; see `_finisher`.
    remark = None
    if choices.weights is not None:
        finish = VitMatte.from_folder(
            choices.weights, device=choices.device, precision=choices.precision
        )
    diffusion = choices.stable_diffusion()
    if finish is None:
        finish, remark = _finisher(choices)
    with memory_errors(f"model {choices.name!r}"):
        model = build_iconmatting_free(
            diffusion,
            finish,
            name=choices.name,
            device=choices.device,
            precision=choices.precision,
            options=options,
        )
    return model if remark is None else with_note(model, remark)


def _iconmatting_trimap(choices: _Choices, path: Path, tensors: Mapping[str, Tensor]) -> Model:
    settings = as_options(FeatureSettings, choices.settings)
    diffusion = choices.stable_diffusion()
    head = load_trimap_head(tensors, path, diffusion, choices.device)
    matting = TrimapMatting(diffusion, head, settings, choices.device, choices.precision)
    return TrimapModel(matting, choices.name, choices.device, choices.precision)


def _finisher(choices: _Choices) -> tuple[FinishAlpha, str | None]:
    """Return the network from trimap to alpha.

    ViTMatte if available, otherwise the embedded network, with a remark.
    """
    if find_spec("transformers") is None:
        reason = "transformers is not installed (pip install 'vidmatte[vitmatte]')"
    else:
        try:
            folder = fetch(VITMATTE, purpose=f"model {choices.name!r}")
        except ModelError as error:
            reason = str(error)
        else:
            vitmatte = VitMatte.from_folder(
                folder, device=choices.device, precision=choices.precision
            )
            return vitmatte, None
    embedded = replace(choices, name="compact", working_size=None, quality=None)
    compact = _compact(embedded, load_packaged("compact"), "model 'compact'")
    remark = (
        f"alpha was finished by 'compact' instead of ViTMatte, which makes hair softer: {reason}"
    )
    return partial(finish_with_compact, compact), remark


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given).expanduser()


def choose_device(name: str) -> torch.device:
    """Return the device of a name; "auto" is CUDA, else Apple's GPU (mps), else the CPU.

    Raises OptionError if the device is not there.
    """
    if name == "auto":
        # CUDA before MPS, MPS before the CPU.
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if name.split(":")[0] not in ("cpu", "cuda", "mps"):
        raise OptionError(f"device {name!r} is not valid: choose auto, cpu, cuda, cuda:N or mps")
    try:
        device = torch.device(name)
        # Allocating is the only sure test: torch accepts names of absent devices.
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, ValueError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise OptionError(
            f"device {name!r} is not valid: it cannot be used here ({reason}); try --device cpu"
        ) from error
    return device


def choose_precision(precision: Precision, device: torch.device) -> torch.dtype:
    """Return the number format of a name; "auto" is the fast one of the device.

    Raises OptionError for an unknown name.
    """
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


def _working_size(choices: _Choices) -> int:
    size = choices.working_size
    if size is None:
        return BEST_WORKING_SIZE if choices.quality == "best" else DEFAULT_WORKING_SIZE
    if not SMALLEST_WORKING_SIZE <= size <= LARGEST_WORKING_SIZE:
        raise OptionError(
            f"working size {size} is not valid: it must be {SMALLEST_WORKING_SIZE} to "
            f"{LARGEST_WORKING_SIZE} pixels"
        )
    return size
