"""Write OpenEXR images of scene-linear light through the OpenEXR library (extra `exr`)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidmatte import __version__
from vidmatte.errors import MissingExtraError, OptionError, WriteError
from vidmatte.frames import Box, ColorSpace, ColorTags, VideoInfo
from vidmatte.imaging import ocio
from vidmatte.imaging.display import for_output
from vidmatte.imaging.primaries import BT709, CHROMATICITIES, chromaticities_of, linear_id_of
from vidmatte.imaging.transfer import HLG, LINEAR, PQ, hlg_decode, linear_to_srgb, pq_decode
from vidmatte.media.timecode import advance_timecode

# Numbers of ITU-T H.273: a matrix, any of them, and a transfer.
_RGB = 0
_UNSPECIFIED = 2
_SRGB = 13
_POWERS = {4: 2.2, 5: 2.8}
"""Exponents of the transfers that are plain gamma: BT.470 of systems M, and of B and G."""
BT709_CURVES = (1, 2, 6, 14, 15)
"""Transfers with the curve of BT.709: BT.709, untagged, BT.601, BT.2020 in 10 and 12 bits."""
PQ_WHITE = 203.0
"""cd/m2 of the value 1: the diffuse white of HDR, ITU-R BT.2408-7, table 1."""
HLG_WHITE = 0.75
"""Signal of the value 1: the diffuse white of HLG, same table."""
_TAKEN = ("r", "g", "b", "a", "y", "z", "rgb", "rgba", "alpha", "depth", "left", "right", "none")
"""Names of channels, layers and views that programs have themselves."""

_Layer: TypeAlias = tuple[Tensor | None, Tensor]
"""(3, H, W) straight linear light, or None for alpha alone, and (1, H, W) alpha as stored."""


def check_exr(
    color: ColorTags, *, alpha_only: bool, space: ColorSpace | None = None, straight: bool = False
) -> None:
    """Raise an error if an EXR cannot be written.

    Args:
        color: Tags of the source.
        alpha_only: Whether the EXR holds no colour.
        space: Colour space that was asked for it.
        straight: Whether its colour is not multiplied with alpha.

    Raises:
        MissingExtraError: If the OpenEXR library is not installed.
        OptionError: If no conversion from the transfer to scene-linear light is known, or colour
            would be multiplied with alpha in a colour space that is not linear.
    """
    try:
        import OpenEXR  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("EXR output", "exr") from error
    if alpha_only:
        return
    known = (LINEAR, PQ, HLG, _SRGB, *_POWERS, *BT709_CURVES)
    if color.space is None and color.transfer not in known:
        raise OptionError(
            f"EXR holds scene-linear colour, and no conversion is known from the transfer "
            f"{color.transfer} (ITU-T H.273) of the source; choose .mov, which keeps it"
        )
    if space is not None and not space.is_linear and not straight:
        raise OptionError(
            f"output_space {space.name!r} is not linear, and colour multiplied with alpha has no "
            f"meaning in it; write straight colour (%06d.exr:straight), or choose a linear space "
            f"such as ACEScg"
        )


def space_of_output(color: ColorTags, asked: ColorSpace | None = None) -> ColorSpace | None:
    """Return the colour space of EXR: the one asked for, else that of the source if it is linear.

    A source in another space gives the scene-linear space that its config composites in. None is
    light with the primaries of the source.
    """
    if asked is not None or color.space is None or color.space.is_linear:
        return asked or color.space
    return ocio.working_space(color.space.config)


def to_light(color: Tensor, tags: ColorTags, space: ColorSpace | None = None) -> Tensor:
    """Return colour of a source as EXR holds it.

    Args:
        color: (3, H, W) straight colour.
        tags: Tags of the source.
        space: Colour space of the output, see `space_of_output`. None gives linear light, see
            `to_linear`.
    """
    if tags.space is not None:
        assert space is not None  # see `space_of_output`
        return ocio.convert(color, tags.space, space)
    light = to_linear(color, tags)
    if space is None:
        return light
    return ocio.from_light(light, chromaticities_of(tags) or CHROMATICITIES[BT709], space)


def to_linear(color: Tensor, tags: ColorTags) -> Tensor:
    """Return the linear light of display-referred colour, with diffuse white as 1.

    Video goes through the inverse of the camera curve of ITU-R BT.709-6 (item 1.2); sRGB and still
    images without tags through that of sRGB (IEC 61966-2-1); the gamma systems of H.273 through
    their powers. HLG gives scene light, by the inverse of its camera curve, and a signal of 75 % is
    1. PQ does not describe the scene: it gives the light of the display, with 203 cd/m2 as 1.
    (Both curves: ITU-R BT.2100-2; the whites: BT.2408-7.)
    """
    # An ICC profile wins over the tags, as in every image viewer.
    if tags.icc is not None:
        color = for_output(color, tags, linear_to_srgb)
    # PNG and TIFF without tags are sRGB by custom.
    is_image = tags.matrix == _RGB and tags.transfer == _UNSPECIFIED
    if tags.transfer == LINEAR:
        return color
    if tags.transfer == PQ:
        return pq_decode(color.clamp(0, 1)) / PQ_WHITE
    if tags.transfer == HLG:
        return hlg_decode(color.clamp(0, 1)) / hlg_decode(torch.tensor(HLG_WHITE))
    if tags.transfer in _POWERS:
        return color.clamp(min=0) ** _POWERS[tags.transfer]
    if tags.transfer == _SRGB or is_image:
        return torch.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)
    return torch.where(color < 0.081, color / 4.5, ((color + 0.099) / 1.099) ** (1 / 0.45))


def write_exr(
    path: Path,
    layers: Mapping[str, tuple[Tensor | None, Tensor]],
    like: VideoInfo,
    *,
    frame: int,
    options: Mapping[str, str],
    command: str = "",
    weights: str = "",
    space: ColorSpace | None = None,
) -> None:
    """Write colour with alpha as R, G, B, A, or alpha alone as Y, of one object or several layers.

    Layers have their names before their channels, as in person.R and person.A. Beside them, the
    channels without a name hold all objects together: programs show these first.

    Args:
        path: The file, which may exist.
        layers: By name, "" for one object without: (3, H, W) straight display-referred colour, or
            None for alpha alone; and (1, H, W) alpha in 0..1.
        like: The clip; gives rate, pixel aspect, primaries, timecode, and data and display window:
            pixels outside of the data window are left out.
        frame: Index in the source, which gives the timecode.
        options: "pixels" (half, float), "compression" (OpenEXR's names in lower case) and, for
            colour, "colour" (premultiplied, straight).
        command: Command line of the run, kept as a comment.
        weights: Names and hashes of the weights of the run, kept as `vidmatteWeights`.
        space: Colour space, see `space_of_output`.

    Raises:
        WriteError: If the library cannot write the file.
    """
    import OpenEXR

    if like.windows is not None:
        stored = like.windows.place_of(like.windows.data)
        layers = {name: _cut(layer, stored) for name, layer in layers.items()}
    channels = _channels(layers, like.color, options, space)
    has_color = any(color is not None for color, _ in layers.values())
    header = _header(like, frame)
    header |= _color_header(like.color, space) if has_color else {"colorInteropID": "data"}
    header["software"] = f"vidmatte {__version__}"
    if command:
        header["comments"] = command
    if weights:
        header["vidmatteWeights"] = weights
    # OpenEXR calls it NO_COMPRESSION; "none" is the word of our format options.
    compression = options["compression"].upper().replace("NONE", "NO")
    header["compression"] = getattr(OpenEXR, f"{compression}_COMPRESSION")
    try:
        OpenEXR.File(header, channels).write(str(path))
    except RuntimeError as error:
        # The reason stands behind a sentence that names the file.
        reason = str(error).rpartition('". ')[2].rstrip(".")
        raise WriteError(reason) from error


def _cut(layer: _Layer, place: tuple[slice, slice]) -> _Layer:
    rows, columns = place
    color, alpha = layer
    return None if color is None else color[:, rows, columns], alpha[:, rows, columns]


def _channels(
    layers: Mapping[str, tuple[Tensor | None, Tensor]],
    tags: ColorTags,
    options: Mapping[str, str],
    space: ColorSpace | None,
) -> dict[str, NDArray[np.floating[Any]]]:
    """Return the (H, W) channels of a file by their full names; arguments as in `write_exr`."""
    dtype = np.float32 if options["pixels"] == "float" else np.float16
    linear: dict[str, _Layer] = {}
    for name, (color, alpha) in zip(layer_names(layers), layers.values(), strict=True):
        # Rounded first, so that colour stays as it is where the stored alpha is 1.
        stored = alpha if dtype == np.float32 else alpha.half().float()
        linear[name] = (None if color is None else to_light(color, tags, space), stored)
    # A single object without a name already is the unnamed layer.
    if "" not in linear:
        linear = {"": _together(list(linear.values())), **linear}
    premultiplied = options.get("colour") == "premultiplied"
    channels: dict[str, NDArray[np.floating[Any]]] = {}
    for name, (light, alpha) in linear.items():
        for channel, plane in _planes(light, alpha, premultiplied=premultiplied).items():
            # Alpha alone is Y in a file of one object, as viewers show that, and A in a layer.
            full_name = f"{name}.{channel.replace('Y', 'A')}" if name else channel
            channels[full_name] = plane.numpy().astype(dtype)
    return channels


def layer_names(objects: Iterable[str]) -> list[str]:
    """Return the name of the layer of each object, as compositing programs show it.

    Programs show letters, digits and underscores of ASCII, and a letter first; a dot would make a
    layer within a layer. Accents are left out, other characters become underscores, and a name that
    is none then, or means something else to a program, gets "object_" before it.
    """
    names: list[str] = []
    for name in objects:
        if not name:
            # One object without a name: plain channels.
            names.append(name)
            continue
        plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
        layer = re.sub(r"[^A-Za-z0-9_]+", "_", plain).strip("_")
        if not layer[:1].isalpha() or layer.lower() in _TAKEN:
            layer = f"object_{layer}" if layer else "object"
        # "1" and "object_1" may both be names of objects.
        while layer in names:
            layer += "_"
        names.append(layer)
    return names


def _together(layers: Sequence[_Layer]) -> _Layer:
    """Return the straight colour and alpha of all layers together: their light adds up."""
    total = torch.stack([alpha for _, alpha in layers]).sum(0)
    lights = [light * alpha for light, alpha in layers if light is not None]
    if not lights:
        return None, total.clamp(max=1)
    first = layers[0][0]
    assert first is not None  # all layers of a file have colour, or none has
    # Colour without alpha still matters to programs that grow a matte: keep that of the first.
    visible = total > 0
    mixed = torch.stack(lights).sum(0) / torch.where(visible, total, 1)
    return torch.where(visible, mixed, first), total.clamp(max=1)


def _planes(light: Tensor | None, alpha: Tensor, *, premultiplied: bool) -> dict[str, Tensor]:
    """Return the (H, W) planes of one layer by their channels."""
    if light is None:
        return {"Y": alpha[0]}
    if premultiplied:
        light = light * alpha
    return dict(zip("RGBA", torch.cat([light, alpha]), strict=True))


def _header(like: VideoInfo, frame: int) -> dict[str, Any]:
    import OpenEXR

    header: dict[str, Any] = {
        "type": OpenEXR.scanlineimage,
        "pixelAspectRatio": float(like.sample_aspect_ratio),
        "framesPerSecond": like.frame_rate,
    }
    if like.windows is not None:
        header["dataWindow"] = _window(like.windows.data)
        header["displayWindow"] = _window(like.windows.display)
    timecode = (
        None if like.timecode is None else advance_timecode(like.timecode, frame, like.frame_rate)
    )
    if timecode is not None:
        stamp = OpenEXR.TimeCode()
        stamp.hours, stamp.minutes, stamp.seconds, stamp.frame = map(
            int, timecode.replace(";", ":").split(":")
        )
        stamp.dropFrame = ";" in timecode
        header["timeCode"] = stamp
    return header


def _window(box: Box) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return a window as OpenEXR has it: its last pixels belong to it."""
    left, top, right, bottom = box
    return np.array([left, top], np.int32), np.array([right - 1, bottom - 1], np.int32)


def _color_header(tags: ColorTags, space: ColorSpace | None) -> dict[str, Any]:
    """Return what a header says of colour: primaries and names, as far as they are known."""
    if space is not None:
        points = ocio.chromaticities_in(space)
        named: dict[str, str | None]
        named = {"colorInteropID": ocio.interop_id(space), "oiio:ColorSpace": space.name}
    else:
        points = chromaticities_of(tags)
        # The light of PQ is that of a display: the names are for scenes.
        name = None if tags.transfer == PQ else linear_id_of(points)
        named = {"colorInteropID": name, "oiio:ColorSpace": name}
    header: dict[str, Any] = {key: value for key, value in named.items() if value}
    if points is not None:
        header["chromaticities"] = points
    if space is None and tags.transfer == PQ:
        header["whiteLuminance"] = PQ_WHITE
    return header
