"""Builds the baselines by name, of folders of their networks: given, found or downloaded."""

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
from vidmatte.model.baselines.sam2 import Sam2Model, Sam2Options
from vidmatte.model.baselines.seggpt import SegGptModel, SegGptOptions
from vidmatte.model.baselines.trimaps import TrimapModel, closed_form
from vidmatte.model.hub import DINOV2, SAM, SAM2, SEGGPT, VITMATTE, HubFiles, fetch
from vidmatte.model.interface import Model
from vidmatte.model.pretrained import Pretrained, load_pretrained
from vidmatte.model.settings import Settings, as_options
from vidmatte.model.vitmatte import VitMatte

Finisher: TypeAlias = Callable[[], "tuple[FinishAlpha, str | None]"]
"""Gives what makes alpha of a trimap where no folder of it was given, and what a user should know of that."""
Loaded: TypeAlias = "tuple[Model, str | None]"
"""A model, and what a user should know of how it was put together."""


@dataclass(frozen=True)
class Network:
    """A network that baselines are made of."""

    model: str
    """That it is for."""
    files: HubFiles
    pretrained: Pretrained
    unexpected_keys: bool = False
    """Whether its file holds tensors of other networks too."""


NETWORKS: Mapping[str, Network] = MappingProxyType(
    {
        "dinov2": Network("icmp", DINOV2, Pretrained("DINOv2", "Dinov2Config", "Dinov2Model", "dinov2", "baselines")),
        "sam": Network("icmp", SAM, Pretrained("SAM", "SamConfig", "SamModel", "sam", "baselines")),
        "sam2": Network(
            "sam2",
            SAM2,
            Pretrained("SAM 2.1", "Sam2VideoConfig", "Sam2VideoModel", "sam2_video", "baselines"),
            unexpected_keys=True,
        ),
        "seggpt": Network(
            "seggpt", SEGGPT, Pretrained("SegGPT", "SegGptConfig", "SegGptForImageSegmentation", "seggpt", "baselines")
        ),
    }
)
"""By the name of their folder inside one that is given."""


@dataclass(frozen=True)
class _Choices:
    name: str
    weights: Path | None
    settings: Settings | None
    device: torch.device
    precision: torch.dtype
    finisher: Finisher = field(repr=False)

    def network(self, part: str) -> nn.Module:
        """A network of `NETWORKS` on the device."""
        wanted = NETWORKS[part]
        folder = self.folder(part, wanted.files)
        return load_pretrained(folder, wanted.pretrained, unexpected_keys=wanted.unexpected_keys).to(self.device)

    def vitmatte(self) -> VitMatte:
        folder = self.folder("vitmatte", VITMATTE)
        return VitMatte.from_folder(folder, device=self.device, precision=self.precision)

    def finish(self) -> tuple[FinishAlpha, str | None]:
        """ViTMatte of the given folder, or else what the finisher gives."""
        if self.weights is not None and (self.weights / "vitmatte").is_dir():
            return self.vitmatte(), None
        return self.finisher()

    def folder(self, part: str, files: HubFiles) -> Path:
        """Where a network's files are, downloaded unless a folder was given."""
        if self.weights is None:
            return fetch(files, purpose=f"model {self.name!r}")
        if (self.weights / part).is_dir():
            return self.weights / part
        if (self.weights / "config.json").is_file():
            return self.weights
        raise ModelError(
            f"{self.weights}: model {self.name!r} needs {files.name} of it; looked for a folder {part} and for "
            f"config.json in it and found neither; leave --weights out to download it"
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
    """A model of `BASELINES`, and what a user should know of how it was put together, if anything.

    `weights` is a folder with a folder for each of its networks (`dinov2`, `sam`, `sam2`, `seggpt`, `vitmatte`), or
    that of its only one; None downloads them. `finisher` stands in for ViTMatte where the folder has none.

    Raises ModelError for what is missing or does not fit, OptionError for settings that it does not have, and
    MissingExtraError without the packages that it needs; nothing is downloaded before those are there.
    """
    needed = "pymatting" if name == "closed-form" else "transformers"
    if find_spec(needed) is None:
        raise MissingExtraError(f"model {name!r}", "baselines")
    return BASELINES[name](_Choices(name, weights, settings, device, precision, finisher))


def _icmp(choices: _Choices) -> Loaded:
    options = as_options(IcmpOptions, choices.settings)
    sam = Sam(choices.network("sam"), choices.device, choices.precision)
    features = DinoFeatures(choices.network("dinov2"), choices.device, choices.precision, options.side)
    finish, remark = choices.finish()
    return IcmpModel(features, sam, finish, options, choices.name, choices.device, choices.precision), remark


def _seggpt(choices: _Choices) -> Loaded:
    options = as_options(SegGptOptions, choices.settings)
    net = choices.network("seggpt")
    finish, remark = choices.finish() if options.matte else (None, None)
    return SegGptModel(net, finish, options, choices.name, choices.device, choices.precision), remark


def _sam2(choices: _Choices) -> Loaded:
    options = as_options(Sam2Options, choices.settings)
    net = choices.network("sam2")
    finish, remark = choices.finish()
    return Sam2Model(net, finish, options, choices.name, choices.device, choices.precision), remark


def _vitmatte(choices: _Choices) -> Loaded:
    as_options(_NoOptions, choices.settings)
    return TrimapModel(choices.vitmatte(), choices.name, choices.device, choices.precision), None


def _closed_form(choices: _Choices) -> Loaded:
    as_options(_NoOptions, choices.settings)
    if choices.weights is not None:
        raise ModelError(f"{choices.weights}: model {choices.name!r} has no weights; leave --weights out")
    return TrimapModel(closed_form, choices.name, torch.device("cpu"), torch.float32), None


@dataclass(frozen=True)
class _NoOptions:
    """Of a model that has none."""


BASELINES: Mapping[str, Callable[[_Choices], Loaded]] = MappingProxyType(
    {"icmp": _icmp, "seggpt": _seggpt, "sam2": _sam2, "vitmatte": _vitmatte, "closed-form": _closed_form}
)
"""What builds each."""
