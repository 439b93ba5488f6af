"""The catalogue of models: their weights, the licences, and how to get missing ones."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vidmatte.model.diffusion import place_of_prompt
from vidmatte.model.hub import (
    DINOV2,
    EDGETAM,
    SAM,
    SAM2,
    SEGGPT,
    STABLE_DIFFUSION,
    TEXT_ENCODER,
    VITMATTE,
    HubFiles,
    cached,
    own_folder,
)
from vidmatte.model.weights import WEIGHTS

CHECKPOINT_SIZE = 84_400_000
"""Bytes of the authors' decoder without the state of its training."""
CHECKPOINT_SOURCE = "https://github.com/tiny-smart/in-context-matting"
# Looked for in this order.
_CHECKPOINT_NAMES = ("iconmatting.safetensors", "iconmatting.ckpt", "iconmatting.pth")

DESCRIPTIONS = {
    **{name: weights.description for name, weights in WEIGHTS.items()},
    "iconmatting": "IconMatting (CVPR 2024) on Stable Diffusion 2.1, with its authors' weights",
    "iconmatting-free": (
        "IconMatting's similarities from Stable Diffusion 2.1 alone, finished by ViTMatte; "
        "no training"
    ),
    "icmp": (
        "in-context pipeline: DINOv2 carries the marks over, SAM makes a mask, "
        "ViTMatte alpha of its edge"
    ),
    "sam2": "SAM 2.1 follows the object through a clip, ViTMatte mattes its edge",
    "edgetam": (
        "EdgeTAM, a small SAM 2 that runs on a CPU, tracks the object; ViTMatte mattes its edge"
    ),
    "seggpt": "SegGPT, in-context segmentation: its mask is the alpha",
    "vitmatte": "ViTMatte with a trimap of every frame (--trimaps)",
    "closed-form": (
        "closed-form matting by PyMatting with a trimap of every frame (--trimaps); no weights"
    ),
}
"""Descriptions of all models by name."""


@dataclass(frozen=True)
class ModelPart:
    """Required or optional weights of a model."""

    name: str
    path: Path | None
    """On this machine; None if they are not here."""
    size: int
    """Bytes."""
    licence: str
    source: str
    """Address of the publication."""
    get: str
    """How to get them."""
    needed: bool = True
    """Whether the model cannot run without them."""


@dataclass(frozen=True)
class ModelFacts:
    """A model with its weights."""

    name: str
    description: str
    parts: tuple[ModelPart, ...]

    @property
    def installed(self) -> bool:
        """Whether all required weights are on this machine."""
        return all(part.path is not None for part in self.parts if part.needed)

    def as_json(self) -> dict[str, Any]:
        """Return the object for `vidmatte models --json`."""
        return {
            "name": self.name,
            "description": self.description,
            "installed": self.installed,
            "parts": [
                {
                    "name": part.name,
                    "installed": part.path is not None,
                    "needed": part.needed,
                    "path": None if part.path is None else str(part.path),
                    "bytes": part.size,
                    "licence": part.licence,
                    "source": part.source,
                    "get": part.get,
                }
                for part in self.parts
            ],
        }


def all_models() -> tuple[ModelFacts, ...]:
    """Return all models, with the weights on this machine. Does not use the network."""
    diffusion = _stable_diffusion()
    return (
        *(ModelFacts(name, DESCRIPTIONS[name], (_packaged(name),)) for name in WEIGHTS),
        ModelFacts("iconmatting", DESCRIPTIONS["iconmatting"], (*diffusion, _checkpoint())),
        ModelFacts("iconmatting-free", DESCRIPTIONS["iconmatting-free"], (*diffusion, _vitmatte())),
        _baseline("icmp", DINOV2, SAM, finished=True),
        _baseline("sam2", SAM2, finished=True),
        _baseline(
            "edgetam", EDGETAM, finished=True, packages=("transformers", "timm"), extra="edgetam"
        ),
        _baseline("seggpt", SEGGPT),
        _baseline("vitmatte", VITMATTE),
        ModelFacts("closed-form", DESCRIPTIONS["closed-form"], (_pymatting(),)),
    )


def find_checkpoint() -> Path | None:
    """Return the authors' checkpoint in `hub.own_folder`; None if it is not there."""
    places = [own_folder() / name for name in _CHECKPOINT_NAMES]
    return next((place for place in places if place.is_file()), None)


def _packaged(name: str) -> ModelPart:
    path = WEIGHTS[name].path
    found = path if path.is_file() else None
    size = path.stat().st_size if found else 0
    return ModelPart(
        "weights", found, size, WEIGHTS[name].licence, "the package", "comes with vidmatte"
    )


def _stable_diffusion() -> tuple[ModelPart, ModelPart]:
    folder = cached(STABLE_DIFFUSION)
    prompt = None if folder is None else place_of_prompt(folder)
    if prompt is None or not prompt.is_file():
        # Without the kept embedding the text encoder itself is needed.
        prompt = cached(TEXT_ENCODER)
    once = "downloaded on first use, for the embedding of the empty prompt, which is kept"
    return _from_hub(STABLE_DIFFUSION, folder), _from_hub(TEXT_ENCODER, prompt, once)


def _checkpoint() -> ModelPart:
    get = (
        "by hand from its authors: --weights FILE, or put it at "
        f"{own_folder() / _CHECKPOINT_NAMES[1]}"
    )
    licence = "MIT by its README, which asks to be contacted for commercial use"
    return ModelPart(
        "decoder of IconMatting",
        find_checkpoint(),
        CHECKPOINT_SIZE,
        licence,
        CHECKPOINT_SOURCE,
        get,
    )


def _vitmatte() -> ModelPart:
    get = f"downloaded on first use, or {VITMATTE.option}; without it 'compact' finishes the alpha"
    if find_spec("transformers") is None:
        get = "pip install 'vidmatte[vitmatte]', then " + get
    return _from_hub(VITMATTE, cached(VITMATTE), get, needed=False)


def _baseline(
    name: str,
    *networks: HubFiles,
    finished: bool = False,
    packages: tuple[str, ...] = ("transformers",),
    extra: str = "baselines",
) -> ModelFacts:
    """Return a model made of networks of transformers.

    Args:
        finished: whether ViTMatte makes alpha from their masks.
        packages: required by the networks; `extra` installs them.
    """
    is_ready = all(find_spec(package) is not None for package in packages)
    first = "" if is_ready else f"pip install 'vidmatte[{extra}]', then "
    parts = [
        _from_hub(files, cached(files), f"{first}downloaded on first use, or {files.option}")
        for files in networks
    ]
    return ModelFacts(name, DESCRIPTIONS[name], (*parts, _vitmatte()) if finished else tuple(parts))


def _pymatting() -> ModelPart:
    spec = find_spec("pymatting")
    path = None if spec is None or spec.origin is None else Path(spec.origin).parent
    source = "https://github.com/pymatting/pymatting"
    return ModelPart(
        "PyMatting, a package", path, 54_000, "MIT", source, "pip install 'vidmatte[baselines]'"
    )


def _from_hub(
    files: HubFiles, path: Path | None, get: str | None = None, *, needed: bool = True
) -> ModelPart:
    get = get or f"downloaded on first use, or {files.option}"
    return ModelPart(files.name, path, files.size, files.licence, files.source, get, needed)
