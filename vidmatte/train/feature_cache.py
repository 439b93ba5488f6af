"""Features of the frozen Stable Diffusion for training, computed once per crop and kept on disk."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vidmatte.media.atomic import atomic_path
from vidmatte.model.iconmatting import FeatureSettings, InContextFeatures, StableDiffusion
from vidmatte.model.iconmatting.stable_diffusion import Role

_log = logging.getLogger(__name__)
_NAMES = ("coarse", "fine", "coarse_attention", "fine_attention")


class FeatureCache:
    """Features of crops. All are rounded to float16, so features from the disk are the same.

    Args:
        identity: of the weights, for the name of the folder; other weights have other features.
        cache: folder to keep them in; None keeps none.
        gigabytes: of it at most.
    """

    def __init__(
        self,
        sd: StableDiffusion,
        settings: FeatureSettings,
        *,
        identity: str = "",
        cache: Path | None = None,
        gigabytes: float = 100.0,
    ) -> None:
        self._sd = sd
        self._settings = settings
        self._left = gigabytes * 1e9
        self._folder: Path | None = None
        if cache is not None:
            name = f"{identity[:16]}-t{settings.time_step}-e{settings.ensemble}-s{settings.seed}"
            self._folder = cache / name
            self._folder.mkdir(parents=True, exist_ok=True)
            self._left -= sum(path.stat().st_size for path in cache.glob("*/*.safetensors"))
        self.kept = 0
        """Number of crops written so far."""

    def __call__(self, rgb: Tensor, role: Role, keys: Tensor) -> InContextFeatures:
        """Return features of crops (N, 3, S, S) 0-1 with keys (N,); targets have attention maps.

        Keys are those of `groups.Crop`.
        """
        found = [self._encode(rgb[i : i + 1], role, int(key)) for i, key in enumerate(keys)]
        whole = {
            name: torch.stack([each[name].to(self._sd.device) for each in found])
            for name in found[0]
        }
        return InContextFeatures(**{name: part.float() for name, part in whole.items()})

    def _encode(self, rgb: Tensor, role: Role, key: int) -> dict[str, Tensor]:
        """Compute or load one crop, alone: a batch would change the last bits."""
        known = self._load(role, key)
        if known is not None:
            return known
        seen = self._sd(rgb, self._settings, role=role, maps=role == "target")
        parts = {name: getattr(seen, name) for name in _NAMES}
        # Cloned out of inference mode: autograd refuses tensors from it.
        own = {name: part[0].half().clone() for name, part in parts.items() if part is not None}
        self._store(role, key, own)
        return own

    def _path(self, role: Role, key: int) -> Path | None:
        return (
            None
            if self._folder is None or key < 0
            else self._folder / f"{key:014x}-{role}.safetensors"
        )

    def _load(self, role: Role, key: int) -> dict[str, Tensor] | None:
        path = self._path(role, key)
        if path is None or not path.is_file():
            return None
        try:
            return load_file(path)
        except (SafetensorError, OSError):
            # A run was killed while it wrote this file.
            path.unlink(missing_ok=True)
            return None

    def _store(self, role: Role, key: int, tensors: dict[str, Tensor]) -> None:
        path = self._path(role, key)
        if path is None:
            return
        size = sum(tensor.nbytes for tensor in tensors.values())
        # Room for four more is kept free for other users of the disk.
        if self._left < size or shutil.disk_usage(path.parent).free < 4 * size:
            if self._left > 0:
                _log.warning(
                    "%s: features no longer fit; those of further crops are computed each time",
                    path.parent,
                )
            # 0 switches the cache off for the rest of the run, with one warning.
            self._left = 0
            return
        contiguous = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        try:
            # Several processes may see the same crop.
            with atomic_path(path, durable=False) as part:
                save_file(contiguous, part)
        except (OSError, SafetensorError) as error:
            _log.warning(
                "%s: features cannot be kept (%s); they are computed each time", path.parent, error
            )
            self._left = 0
            return
        self._left -= size
        self.kept += 1
