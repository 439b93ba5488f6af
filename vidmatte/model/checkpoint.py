"""Examine weight files: their layout, whether they load strictly, and their faults.

Also convert checkpoints to safetensors.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vidmatte.errors import MissingExtraError, ModelError, OptionError, WriteError
from vidmatte.media.atomic import atomic_path
from vidmatte.model.baselines.build import NETWORKS
from vidmatte.model.compact.net import CompactNet
from vidmatte.model.diffusion import weights_in
from vidmatte.model.iconmatting.head import TrimapHead
from vidmatte.model.iconmatting.net import IconMattingNet
from vidmatte.model.iconmatting.sd_layout import (
    SD_2_1_UNET,
    SD_2_1_VAE,
    refuse_configs,
    with_present_names,
)
from vidmatte.model.iconmatting.trimap import is_trimap_head
from vidmatte.model.pretrained import load_pretrained, read_json
from vidmatte.model.vitmatte import VitMatte
from vidmatte.model.weights import (
    Mismatch,
    compare,
    first_line,
    is_safetensors,
    load_checkpoint,
    not_finite,
    shapes,
)

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
# Networks of this package share hardly any names, so half of them is a clear sign.
_ALIKE = 0.5
"""Least share of a network's tensor names in a file of that network."""
_NO_DIFFERENCE = Mismatch()
_DECODER, _EXTRACTOR = "in_context_decoder.", "feature_extractor."
"""Beginnings of names in IconMatting's checkpoints: the trained part, and the frozen part."""


@dataclass(frozen=True)
class Findings:
    """The findings about a weight file or a folder of them."""

    path: Path
    kind: str
    """In words: "compact", "decoder of IconMatting" and so on, or "unknown"."""
    use: str | None
    """Command line options for it; None without any."""
    size: int
    """Bytes of the files."""
    tensors: int
    numbers: int
    dtypes: Mapping[str, int]
    """Number of tensors by number format."""
    mismatch: Mismatch
    not_finite: tuple[str, ...]
    """Names of tensors with NaN or infinity."""
    problems: tuple[str, ...]
    """Other reasons against using it."""

    @property
    def usable(self) -> bool:
        """Whether it loads strictly and all numbers are finite."""
        return self.use is not None and not (self.mismatch or self.not_finite or self.problems)

    def as_json(self) -> dict[str, Any]:
        """Return the object for `vidmatte models check --json`."""
        return {
            "path": str(self.path),
            "kind": self.kind,
            "usable": self.usable,
            "use": self.use,
            "bytes": self.size,
            "tensors": self.tensors,
            "numbers": self.numbers,
            "dtypes": dict(self.dtypes),
            "missing": list(self.mismatch.missing),
            "surplus": list(self.mismatch.unexpected_keys),
            "reshaped": list(self.mismatch.reshaped),
            "not_finite": list(self.not_finite),
            "problems": list(self.problems),
        }


@dataclass(frozen=True)
class _File:
    """Facts of a completely read file."""

    path: Path
    shapes: Shapes
    dtypes: tuple[str, ...]
    not_finite: tuple[str, ...]


@dataclass(frozen=True)
class _Verdict:
    """The layout of files, and how well they fit."""

    kind: str
    use: str | None
    mismatch: Mismatch = _NO_DIFFERENCE
    problems: tuple[str, ...] = ()


def examine(path: str | Path) -> Findings:
    """Find out the content of a file of weights, or a folder of them.

    Tensors of safetensors are read one at a time. Raises ModelError if nothing can be read.
    """
    path = Path(path)
    if not path.is_dir():
        files = [_read(path)]
        return _findings(path, files, _identify(files[0]))
    if (path / "unet").is_dir():
        parts = {
            # A missing part is reported by `_diffusers`.
            part: file
            for part in ("unet", "vae")
            if (file := weights_in(path / part)) is not None
        }
        read = {part: _read(file) for part, file in parts.items()}
        return _findings(path, list(read.values()), _diffusers(path, read))
    if (path / "config.json").is_file() and (file := weights_in(path)) is not None:
        whole = _read(file)
        # A folder that is no baseline may still hold the weights of a known network.
        return _findings(path, [whole], _baseline(path) or _identify(whole))
    raise ModelError(
        f"{path}: holds no weights that are known here; name a file, a folder of Stable Diffusion "
        f"in diffusers' layout (unet, vae, scheduler) or that of a ViTMatte"
    )


def convert(source: str | Path, target: str | Path, *, overwrite: bool = False) -> tuple[str, ...]:
    """Write the tensors of a checkpoint as safetensors, for good; nothing of the checkpoint runs.

    Values and number formats stay. Tensors of the frozen feature extractor in IconMatting's
    training checkpoints are left out: they are Stable Diffusion's own, and never loaded.

    Args:
        source: a file for `load_checkpoint`.
        target: path ending in .safetensors.
        overwrite: replace an existing file.

    Returns:
        Names of the ignored tensors.

    Raises:
        OptionError: the target has another ending.
        ModelError: the source holds no tensors.
        WriteError: the target exists already or cannot be written.
    """
    target = Path(target)
    if target.suffix.lower() != ".safetensors":
        raise OptionError(f"{target}: the converted file must end in .safetensors")
    if target.exists() and not overwrite:
        raise WriteError(f"{target}: exists already; use --overwrite, or choose another name")
    tensors = load_checkpoint(Path(source))
    # The frozen extractor is left out only beside the decoder.
    has_decoder = any(key.startswith(_DECODER) for key in tensors)
    left_out = tuple(key for key in tensors if has_decoder and key.startswith(_EXTRACTOR))
    # Copies, as safetensors takes no tensors that share memory or lie in another order.
    kept = {
        key: tensor.clone(memory_format=torch.contiguous_format)
        for key, tensor in tensors.items()
        if key not in left_out
    }
    try:
        with atomic_path(target) as partial:
            save_file(kept, partial)
    except (OSError, SafetensorError) as error:
        raise WriteError(
            f"{target}: cannot be written ({first_line(error)}); check the folder"
        ) from error
    return left_out


def _findings(path: Path, files: Sequence[_File], verdict: _Verdict) -> Findings:
    return Findings(
        path,
        verdict.kind,
        verdict.use,
        size=sum(file.path.stat().st_size for file in files),
        tensors=sum(len(file.shapes) for file in files),
        numbers=sum(torch.Size(shape).numel() for file in files for shape in file.shapes.values()),
        dtypes=Counter(name for file in files for name in file.dtypes),
        mismatch=verdict.mismatch,
        not_finite=tuple(key for file in files for key in file.not_finite),
        problems=verdict.problems,
    )


def _read(path: Path) -> _File:
    found: dict[str, tuple[int, ...]] = {}
    dtypes: list[str] = []
    broken: list[str] = []
    # One tensor in memory at a time: files may have several gigabytes.
    for key, tensor in _tensors(path):
        found[key] = tuple(tensor.shape)
        dtypes.append(str(tensor.dtype).removeprefix("torch."))
        broken.extend(not_finite({key: tensor}))
    return _File(path, found, tuple(dtypes), tuple(broken))


def _tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    # Pickles cannot be read tensor by tensor.
    if not is_safetensors(path):
        yield from load_checkpoint(path).items()
        return
    try:
        with safe_open(path, "pt") as file:
            for key in file.keys():  # noqa: SIM118 - no mapping
                yield key, file.get_tensor(key)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: is damaged ({error}); get it again") from error


def _identify(file: _File) -> _Verdict:
    """Identify a single file by the names of its tensors."""
    path, found = file.path, file.shapes
    # Shapes alone identify a network, so no memory is taken for it.
    with torch.device("meta"):
        compact = shapes(CompactNet().state_dict())
    if len(compact.keys() & found.keys()) >= _ALIKE * len(compact):
        return _Verdict("compact", f"--model {_quoted(path)}", compare(found, compact))
    if any(key.startswith(_DECODER) for key in found):
        with torch.device("meta"):
            wanted = shapes(IconMattingNet().state_dict())
        # The frozen extractor is ignored when the checkpoint is used.
        own = {key: shape for key, shape in found.items() if not key.startswith(_EXTRACTOR)}
        return _Verdict(
            "decoder of IconMatting",
            f"--model iconmatting --weights {_quoted(path)}",
            compare(own, wanted),
        )
    if is_trimap_head(found):
        with torch.device("meta"):
            wanted = shapes(TrimapHead().state_dict())
        use = f"--model {_quoted(path)} --trimaps PATH"
        return _Verdict("head of IconMatting that takes trimaps", use, compare(found, wanted))
    if any(key.startswith("model.diffusion_model.") for key in found):
        return _single_file(path, found)
    if "decoder.matting_head.matting_convs.0.weight" in found:
        return _vitmatte(path.parent)
    if "down_blocks.0.resnets.0.conv1.weight" in found:
        return _Verdict("U-Net of Stable Diffusion", None, problems=(_part_alone(path),))
    if "encoder.conv_in.weight" in found and "quant_conv.weight" in found:
        return _Verdict("autoencoder of Stable Diffusion", None, problems=(_part_alone(path),))
    return _Verdict("unknown", None, problems=("it has no layout that is known here",))


def _part_alone(path: Path) -> str:
    folder = path.parent.parent
    return (
        "it is a part: check the folder with unet, vae and scheduler that it belongs to "
        f"({folder}?)"
    )


def _baseline(folder: Path) -> _Verdict | None:
    """Identify the folder of a baseline's network; None for any other folder."""
    kind = read_json(folder / "config.json").get("model_type")
    for network in NETWORKS.values():
        if network.pretrained.kind == kind:
            # A model of several networks takes the folder that theirs lie in.
            several = sum(other.model == network.model for other in NETWORKS.values()) > 1
            use = (
                f"--model {network.model} --weights {_quoted(folder.parent if several else folder)}"
            )
            try:
                load_pretrained(folder, network.pretrained, unexpected_keys=network.unexpected_keys)
            except (ModelError, MissingExtraError) as error:
                return _Verdict(network.pretrained.name, use, problems=(str(error),))
            return _Verdict(network.pretrained.name, use)
    return None


def _vitmatte(folder: Path) -> _Verdict:
    use = f"--model iconmatting-free --weights {_quoted(folder)}"
    try:
        VitMatte.from_folder(folder, device=torch.device("cpu"))
    except ModelError as error:
        return _Verdict("ViTMatte", use, problems=(str(error),))
    return _Verdict("ViTMatte", use)


def _diffusers(path: Path, files: Mapping[str, _File]) -> _Verdict:
    use = f"--model iconmatting --sd {_quoted(path)}"
    absent = [part for part in ("unet", "vae") if part not in files]
    if absent:
        return _Verdict(
            "Stable Diffusion", use, problems=(f"{absent[0]} holds no weights as safetensors",)
        )
    try:
        unet, vae = (read_json(path / part / "config.json") for part in ("unet", "vae"))
        refuse_configs(unet, vae, read_json(path / "scheduler" / "scheduler_config.json"))
    except ModelError as error:
        return _Verdict("Stable Diffusion", use, problems=(str(error),))
    wanted = _stable_diffusion_shapes(unet, vae)
    found = _prefixed("unet.", files["unet"].shapes) | _prefixed(
        "vae.", _as_today(files["vae"].shapes)
    )
    return _Verdict("Stable Diffusion 2.1", use, compare(found, wanted))


def _single_file(path: Path, found: Shapes) -> _Verdict:
    """Check the original layout after diffusers' own conversion, without values."""
    from diffusers.loaders.single_file_utils import (
        convert_ldm_unet_checkpoint,
        convert_ldm_vae_checkpoint,
    )

    kind = "Stable Diffusion in a single file"
    use = f"--model iconmatting --sd {_quoted(path)}"
    # Conversions only rename and reshape, which works without values.
    tensors = {key: torch.empty(shape, device="meta") for key, shape in found.items()}
    try:
        unet = shapes(convert_ldm_unet_checkpoint(dict(tensors), dict(SD_2_1_UNET)))
        vae = shapes(convert_ldm_vae_checkpoint(dict(tensors), dict(SD_2_1_VAE)))
    except (KeyError, IndexError, ValueError) as error:
        return _Verdict(
            kind, use, problems=(f"its tensors are not those of Stable Diffusion 2.1 ({error})",)
        )
    wanted = _stable_diffusion_shapes(SD_2_1_UNET, SD_2_1_VAE)
    mismatch = compare(_prefixed("unet.", unet) | _prefixed("vae.", vae), wanted)
    if mismatch:
        return _Verdict(kind, use, mismatch)
    # Version 2.1 for 512 pixels has the same tensors.
    return _Verdict(
        "Stable Diffusion 2.1 in a single file (that it is the one for 768 pixels shows on "
        "loading)",
        use,
    )


def _stable_diffusion_shapes(
    unet: Mapping[str, Any], vae: Mapping[str, Any]
) -> dict[str, tuple[int, ...]]:
    from diffusers import AutoencoderKL, UNet2DConditionModel

    with torch.device("meta"):
        networks = (
            UNet2DConditionModel.from_config(dict(unet)),
            AutoencoderKL.from_config(dict(vae)),
        )
    first, second = (shapes(network.state_dict()) for network in networks)
    return _prefixed("unet.", first) | _prefixed("vae.", second)


def _as_today(found: Shapes) -> dict[str, tuple[int, ...]]:
    return shapes(
        with_present_names({key: torch.empty(shape, device="meta") for key, shape in found.items()})
    )


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _prefixed(prefix: str, found: Shapes) -> dict[str, tuple[int, ...]]:
    return {prefix + key: shape for key, shape in found.items()}
