"""DOCTOR: the formats and devices of this installation, and the remedy for missing parts.

Whatever can be tried is tried: a frame is encoded in every format, the embedded model mattes a
picture, and the disks are written to. The network is not used.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import av
import cv2
import numpy as np
import torch
from av.codec.codec import UnknownCodecError

from vidmatte.config import FILE, load_config
from vidmatte.errors import OptionError, VidmatteError
from vidmatte.frames import FrameBatch, MatteBatch, VideoInfo
from vidmatte.imaging.yuv import exact_conversion_works
from vidmatte.model import load_model
from vidmatte.model.build import choose_device, choose_precision
from vidmatte.model.catalogue import all_models
from vidmatte.model.memory import free_memory, gigabytes
from vidmatte.prompts.prompt import Prompt
from vidmatte.threads import cores
from vidmatte.write import FORMATS, Format, OutputSpec, create_outputs

Topic = Literal["versions", "run", "read", "write", "models", "extras", "disk", "network"]

_DEFAULT_OUTPUTS = ("prores-4444", "prores-422-hq")
"""Default outputs, by their names in FORMATS."""
_CAMERA_CODECS = ("h264", "hevc", "av1", "mpeg2video", "mjpeg", "dnxhd", "cfhd", "aac", "pcm_s24le")
"""Decoders for most sources, in addition to those of the output formats."""
_LITTLE_MEMORY = 2 << 30
_LITTLE_SPACE = 2 << 30
_WRITTEN_PIECE, _WRITTEN_PIECES, _WRITTEN_SECONDS = 4 << 20, 16, 1.0
_SIDE = 64
_EXTRA = re.compile(r"^([\w.-]+).*\bextra *== *[\"']([\w-]+)[\"']")
_NO_FEATURES = ("all", "dev")
_WHEEL = "install the wheel of PyAV (pip install --force-reinstall av), whose FFmpeg has it"


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    topic: Topic
    name: str
    found: str
    """The result in words."""
    good: bool = True
    needed: bool = False
    """Whether the embedded model or the default outputs need it."""
    remedy: str = ""
    """Remedy, if it is not good."""


@dataclass(frozen=True)
class Diagnosis:
    """All results."""

    findings: tuple[Finding, ...]

    @property
    def usable(self) -> bool:
        """Return whether the embedded model runs and the default outputs can be written."""
        return all(finding.good for finding in self.findings if finding.needed)

    def as_json(self) -> dict[str, Any]:
        """Return the object for `vidmatte doctor --json`."""
        return {"usable": self.usable, "findings": [asdict(finding) for finding in self.findings]}


def diagnose(folder: Path | None = None) -> Diagnosis:
    """Check everything, in some seconds.

    `folder` is the folder for outputs, by default the working directory.
    """
    return Diagnosis(
        (
            *_versions(),
            _config(),
            *_device(),
            _colour(),
            *_decoders(),
            *_encoders(),
            _embedded_model(),
            *_models(),
            *_extras(),
            _disk(
                "working directory",
                folder or Path.cwd(),
                "outputs go there unless another folder is named",
            ),
            _disk("temporary folder", _temporary_folder(), "the variable TMPDIR names another one"),
            _network(),
        )
    )


def _config() -> Finding:
    """Say which file holds the defaults."""
    try:
        path = load_config().path
    except OptionError as error:
        return Finding("run", FILE, "cannot be used", good=False, needed=True, remedy=str(error))
    return Finding(
        "run", FILE, "none: the defaults are those of vidmatte" if path is None else str(path)
    )


def _versions() -> Iterator[Finding]:
    from vidmatte import __version__

    system = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    yield Finding("versions", "vidmatte", f"{__version__}, {system}")
    yield Finding("versions", "torch", f"{torch.__version__}, {torch.get_num_threads()} threads")
    codecs = av.library_versions["libavcodec"]
    yield Finding("versions", "PyAV", f"{av.__version__}, libavcodec {'.'.join(map(str, codecs))}")
    yield Finding("versions", "OpenCV", cv2.__version__)
    yield Finding("versions", "NumPy", np.__version__)


def _device() -> Iterator[Finding]:
    device = choose_device("auto")
    precision = str(choose_precision("auto", device)).removeprefix("torch.")
    if device.type == "cpu":
        # A driver without a device for PyTorch is a common mistake of installation.
        has_driver = shutil.which("nvidia-smi") is not None
        yield Finding(
            "run",
            "device",
            f"the processor, {cores()} cores, in {precision}; no GPU that PyTorch can use",
            good=not has_driver,
            remedy="there is an NVIDIA driver: install PyTorch for its CUDA (see pytorch.org)"
            * has_driver,
        )
    else:
        yield Finding("run", "device", f"{torch.cuda.get_device_name(device)}, in {precision}")
    # On the CPU once only.
    for place in {device.type: device, "cpu": torch.device("cpu")}.values():
        free = free_memory(place)
        # Not every system tells.
        if free is not None:
            yield Finding(
                "run",
                f"memory of {place.type}",
                f"{gigabytes(free)} free",
                good=free >= _LITTLE_MEMORY,
                remedy="close other programs, or give frames of fewer pixels",
            )


def _colour() -> Finding:
    if exact_conversion_works():
        return Finding(
            "read",
            "colour",
            "FFmpeg's exact conversion gives known patches within 0.01 of a code value",
        )
    found = (
        "FFmpeg's exact conversion is not exact here; vidmatte's own arithmetic is used, which is "
        "exact and slower"
    )
    return Finding(
        "read", "colour", found, good=False, remedy="update PyAV: pip install --upgrade av"
    )


def _decoders() -> Iterator[Finding]:
    written = {_canonical(form.codec) for form in FORMATS if form.is_movie}
    missing = [
        name for name in sorted({*written, *_CAMERA_CODECS} - {""}) if not _has_codec(name, "r")
    ]
    found = f"{len(av.codecs_available)} codecs" + (
        f", but not {', '.join(missing)}" if missing else ""
    )
    yield Finding("read", "decoders", found, good=not missing, remedy=_WHEEL)
    # The decoder of FFmpeg itself drops the alpha.
    has_alpha = _has_codec("libvpx-vp9", "r")
    yield Finding(
        "read",
        "alpha of WebM",
        "libvpx-vp9" if has_alpha else "not read",
        good=has_alpha,
        remedy=_WHEEL,
    )


def _canonical(encoder: str) -> str:
    """Return the name of an encoder's codec, empty if there is no such encoder."""
    try:
        return str(av.Codec(encoder, "w").canonical_name)
    except UnknownCodecError:
        return ""


def _has_codec(name: str, mode: Literal["r", "w"]) -> bool:
    try:
        av.Codec(name, mode)
    except UnknownCodecError:
        return False
    return True


def _encoders() -> Iterator[Finding]:
    """Write a frame in every format, as a run would do it."""
    for form in FORMATS:
        problem = _problem_of_writing(form)
        yield Finding(
            "write",
            f"{'--alpha' if form.alpha_only else '-o'} {form.extension}:{form.name}",
            problem or f"{form.description} ({form.codec})",
            good=not problem,
            needed=form.name in _DEFAULT_OUTPUTS,
            remedy="choose another format, or "
            + (_WHEEL if form.is_movie else "see the extras below"),
        )
    # Sound is copied where possible, and encoded in some containers only.
    for codec in sorted({form.audio_codec for form in FORMATS} - {""}):
        good = _has_codec(codec, "w")
        yield Finding(
            "write",
            f"sound as {codec}",
            "an encoder" if good else "no encoder",
            good=good,
            remedy=_WHEEL,
        )


def _problem_of_writing(form: Format) -> str:
    # Some codecs have a smallest frame.
    width, height = (max(_SIDE, least) for least in form.smallest)
    info = VideoInfo("doctor", width, height, Fraction(25), Fraction(1, 25))
    path = Path(f"frame{form.extension}" if form.is_movie else f"%d{form.extension}")
    try:
        with tempfile.TemporaryDirectory(prefix="vidmatte-doctor-") as name:
            spec = OutputSpec(name / path, form.alpha_only, format_options=(form.name,))
            with create_outputs([spec], like=info, audio=False) as out:
                out.write(
                    MatteBatch(
                        _picture(width, height), torch.full((1, 1, height, width), 0.5), (1.0,)
                    )
                )
    except VidmatteError as error:
        # Only the reason, without the path in a temporary folder.
        return str(error).split(f"{path}: ")[-1]
    except OSError as error:
        return f"there is no temporary folder to try it in ({error.strerror})"
    return ""


def _picture(width: int = _SIDE, height: int = _SIDE) -> FrameBatch:
    """Return a picture of a light square on a dark ground."""
    rgb = torch.full((1, 3, height, width), 0.2)
    rgb[..., _SIDE // 4 : 3 * _SIDE // 4, _SIDE // 4 : 3 * _SIDE // 4] = 0.9
    return FrameBatch(rgb, (0,), (0,), (1,))


def _embedded_model() -> Finding:
    began = time.monotonic()
    picture = _picture()
    try:
        # The middle of the light square.
        reference = Prompt(points=((_SIDE / 2, _SIDE / 2, 1),)).reference(picture.rgb, frame=0)
        model = load_model()
        matte = model.with_reference([reference])(picture)
    except VidmatteError as error:
        return Finding(
            "models",
            "compact runs",
            str(error),
            good=False,
            needed=True,
            remedy="reinstall vidmatte",
        )
    # Some devices compute NaN in half precision, and say nothing.
    good = bool(torch.isfinite(matte.alpha).all())
    found = (
        f"on {model.device}, {time.monotonic() - began:.1f} s with loading"
        if good
        else "gives no numbers"
    )
    remedy = "try --precision float32 or --device cpu"
    return Finding("models", "compact runs", found, good=good, needed=True, remedy=remedy)


def _models() -> Iterator[Finding]:
    for model in all_models():
        missing = [part for part in model.parts if part.path is None]
        found = (
            model.description if model.installed else "not on this machine: " + model.description
        )
        remedy = "; ".join(
            f"{part.name} ({gigabytes(part.size)}): {part.get}" for part in missing if part.needed
        )
        yield Finding("models", model.name, found, good=model.installed, remedy=remedy)


def _extras() -> Iterator[Finding]:
    try:
        # What the package itself states, so that no list is kept here.
        stated = metadata.requires("vidmatte") or []
    except metadata.PackageNotFoundError:
        yield Finding(
            "extras",
            "all",
            "unknown: vidmatte is not installed as a package",
            good=False,
            remedy="pip install . in its folder",
        )
        return
    wanted: dict[str, list[str]] = {}
    for line in stated:
        match = _EXTRA.match(line)
        # Collections of other extras, and tools for developers.
        if match and match[2] not in _NO_FEATURES:
            wanted.setdefault(match[2], []).append(match[1])
    for extra, packages in sorted(wanted.items()):
        there = {package: version for package in packages if (version := _version_of(package))}
        missing = [package for package in packages if package not in there]
        found = ", ".join(
            [*map(" ".join, there.items()), *(f"{package} is not installed" for package in missing)]
        )
        yield Finding(
            "extras",
            extra,
            found,
            good=not missing,
            remedy=f"pip install 'vidmatte[{extra}]', if wanted",
        )


def _version_of(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _disk(name: str, folder: Path, purpose: str) -> Finding:
    remedy = f"free some space, or use another folder: {purpose}"
    try:
        free = shutil.disk_usage(folder).free
        speed = _write_speed(folder)
    except OSError as error:
        found = f"{folder} cannot be written ({error.strerror})"
        return Finding("disk", name, found, good=False, needed=True, remedy=remedy)
    found = f"{folder}: {gigabytes(free)} free, {speed / 1e6:.0f} MB/s written"
    return Finding("disk", name, found, good=free >= _LITTLE_SPACE, remedy=remedy)


def _temporary_folder() -> Path:
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:  # none of the usual places can be written
        return Path(os.environ.get("TMPDIR", "/tmp"))


def _write_speed(folder: Path) -> float:
    """Return the bytes per second of writing a file to the disk; it is removed afterwards."""
    # Random bytes: some disks compress.
    piece = os.urandom(_WRITTEN_PIECE)
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        began, written = time.monotonic(), 0
        # A second at most: a slow disk must not stop the diagnosis.
        while written < _WRITTEN_PIECES and time.monotonic() - began < _WRITTEN_SECONDS:
            file.write(piece)
            # Without it, the speed would be that of memory.
            os.fsync(file.fileno())
            written += 1
        return written * _WRITTEN_PIECE / (time.monotonic() - began)


def _network() -> Finding:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return Finding(
            "network", "downloads", "forbidden by HF_HUB_OFFLINE; models have to be here already"
        )
    return Finding(
        "network",
        "downloads",
        "allowed, of models that are asked for; HF_HUB_OFFLINE=1 forbids them",
    )
