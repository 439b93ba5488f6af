"""Build the baselines by name from folders of their networks: given, cached or downloaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

import torch
from torch import nn

from vidmatte.errors import MissingExtraError, ModelError
from vidmatte.model.baselines.correspondence import DinoFeatures
from vidmatte.model.baselines.icmp import IcmpModel, IcmpOptions
from vidmatte.model.baselines.mask import FinishAlpha
from vidmatte.model.baselines.sam import Sam
from vidmatte.model.baselines.sam2 import (
    EDGETAM_SEGMENTER,
    SAM2_SEGMENTER,
    Sam2Model,
    Sam2Options,
    Segmenter,
)
from vidmatte.model.baselines.seggpt import SegGptModel, SegGptOptions
from vidmatte.model.baselines.trimaps import TrimapModel, closed_form
from vidmatte.model.hub import DINOV2, EDGETAM, SAM, SAM2, SEGGPT, VITMATTE, HubFiles, fetch
from vidmatte.model.interface import Model
from vidmatte.model.pretrained import Pretrained, load_pretrained
from vidmatte.model.settings import Settings, as_options
from vidmatte.model.vitmatte import VitMatte

Finisher: TypeAlias = Callable[[], "tuple[FinishAlpha, str | None]"]
"""Return the network from trimap to alpha, and a remark for the user if there is one."""
Loaded: TypeAlias = "tuple[Model, str | None]"
"""A model, and a remark for the user on how it was put together."""


@dataclass(frozen=True)
class Network:
    """A network of a baseline."""

    model: str
    """Name of the baseline."""
    files: HubFiles
    pretrained: Pretrained
    unexpected_keys: bool = False
    """Whether its file also holds tensors of other networks."""


NETWORKS: Mapping[str, Network] = MappingProxyType(
    {
        "dinov2": Network(
            "icmp",
            DINOV2,
            Pretrained("DINOv2", "Dinov2Config", "Dinov2Model", "dinov2", "baselines"),
        ),
        "sam": Network("icmp", SAM, Pretrained("SAM", "SamConfig", "SamModel", "sam", "baselines")),
        "sam2": Network(
            "sam2",
            SAM2,
            Pretrained("SAM 2.1", "Sam2VideoConfig", "Sam2VideoModel", "sam2_video", "baselines"),
            # The file also holds the weights of the image predictor.
            unexpected_keys=True,
        ),
        "edgetam": Network(
            "edgetam",
            EDGETAM,
            Pretrained(
                "EdgeTAM", "EdgeTamVideoConfig", "EdgeTamVideoModel", "edgetam_video", "edgetam"
            ),
        ),
        "seggpt": Network(
            "seggpt",
            SEGGPT,
            Pretrained(
                "SegGPT", "SegGptConfig", "SegGptForImageSegmentation", "seggpt", "baselines"
            ),
        ),
    }
)
"""Networks by the name of their folder inside a given one."""


@dataclass(frozen=True)
class _Choices:
    """The choices of `load_baseline`."""

    name: str
    weights: Path | None
    settings: Settings | None
    device: torch.device
    precision: torch.dtype
    finisher: Finisher = field(repr=False)

    def network(self, part: str) -> nn.Module:
        """Load a network of `NETWORKS` onto the device."""
        wanted = NETWORKS[part]
        folder = self.folder(part, wanted.files)
        net = load_pretrained(folder, wanted.pretrained, unexpected_keys=wanted.unexpected_keys)
        return net.to(self.device)

    def vitmatte(self) -> VitMatte:
        """Load ViTMatte onto the device."""
        folder = self.folder("vitmatte", VITMATTE)
        return VitMatte.from_folder(folder, device=self.device, precision=self.precision)

    def finish(self) -> tuple[FinishAlpha, str | None]:
        """Return the ViTMatte of the given folder, or the result of the finisher."""
        # A folder of several networks may hold ViTMatte's as well.
        if self.weights is not None and (self.weights / "vitmatte").is_dir():
            return self.vitmatte(), None
        return self.finisher()

    def folder(self, part: str, files: HubFiles) -> Path:
        """Return the folder of a network; download it unless a folder was given."""
        if self.weights is None:
            return fetch(files, purpose=f"model {self.name!r}")
        if (self.weights / part).is_dir():
            return self.weights / part
        # The folder itself may be that of the only network.
        if (self.weights / "config.json").is_file():
            return self.weights
        raise ModelError(
            f"{self.weights}: model {self.name!r} needs {files.name}, expected a folder {part} or "
            f"a config.json, found neither; leave --weights out to download it"
        )


def load_baseline(
    name: str,
    weights: Path | None,
    settings: Settings | None,
    *,
    device: torch.device,
    precision: torch.dtype,
    finisher: Finisher,
) -> tuple[Model, str | None]:
    """Load a model of `BASELINES`, with a remark for the user if there is one.

    Args:
        name: of the model.
        weights: a folder with a folder for each of its networks (`dinov2`, `sam`, `sam2`,
            `edgetam`, `seggpt`, `vitmatte`), or the folder of its only network; None downloads
            them.
        settings: values of its options by name.
        device, precision: to compute on and in.
        finisher: replaces ViTMatte if the folder has none.

    Raises:
        ModelError: files are missing or do not fit.
        OptionError: the model does not have such a setting.
        MissingExtraError: a package is missing; nothing is downloaded before this check.
    """
    needed = "pymatting" if name == "closed-form" else "transformers"
    # Checked before anything is downloaded.
    if find_spec(needed) is None:
        raise MissingExtraError(f"model {name!r}", "baselines")
    return BASELINES[name](_Choices(name, weights, settings, device, precision, finisher))


def _icmp(choices: _Choices) -> Loaded:
    options = as_options(IcmpOptions, choices.settings)
    device = choices.device
    precision = choices.precision
    sam = Sam(choices.network("sam"), device, precision)
    features = DinoFeatures(choices.network("dinov2"), device, precision, options.side)
    # Last, as it is a remark at most if ViTMatte is missing.
    finish, remark = choices.finish()
    return IcmpModel(features, sam, finish, options, choices.name, device, precision), remark


def _seggpt(choices: _Choices) -> Loaded:
    options = as_options(SegGptOptions, choices.settings)
    net = choices.network("seggpt")
    finish, remark = choices.finish() if options.matte else (None, None)
    model = SegGptModel(net, finish, options, choices.name, choices.device, choices.precision)
    return model, remark


def _sam2(choices: _Choices) -> Loaded:
    return _video_segmenter(choices, "sam2", SAM2_SEGMENTER)


def _edgetam(choices: _Choices) -> Loaded:
    # The published network has an image encoder of timm. A given one may have another encoder.
    if choices.weights is None and find_spec("timm") is None:
        raise MissingExtraError(f"model {choices.name!r}", "edgetam")
    return _video_segmenter(choices, "edgetam", EDGETAM_SEGMENTER)


def _video_segmenter(choices: _Choices, part: str, segmenter: Segmenter) -> Loaded:
    options = as_options(Sam2Options, choices.settings)
    net = choices.network(part)
    finish, remark = choices.finish()
    model = Sam2Model(
        net, finish, options, choices.name, choices.device, choices.precision, segmenter
    )
    return model, remark


def _vitmatte(choices: _Choices) -> Loaded:
    as_options(_NoOptions, choices.settings)
    model = TrimapModel(choices.vitmatte(), choices.name, choices.device, choices.precision)
    return model, None


def _closed_form(choices: _Choices) -> Loaded:
    as_options(_NoOptions, choices.settings)
    if choices.weights is not None:
        raise ModelError(
            f"{choices.weights}: model {choices.name!r} has no weights; leave --weights out"
        )
    # PyMatting computes in double precision on the CPU.
    return TrimapModel(closed_form, choices.name, torch.device("cpu"), torch.float32), None


@dataclass(frozen=True)
class _NoOptions:
    """Options of a model without any."""


BASELINES: Mapping[str, Callable[[_Choices], Loaded]] = MappingProxyType(
    {
        "icmp": _icmp,
        "seggpt": _seggpt,
        "sam2": _sam2,
        "edgetam": _edgetam,
        "vitmatte": _vitmatte,
        "closed-form": _closed_form,
    }
)
"""Builders by the name of the model."""
