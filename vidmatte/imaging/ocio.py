"""Colour spaces of an OpenColorIO config (extra `ocio`): names, conversions, and the view.

Footage of cameras and of film-style pipelines is not made for a display: log looks flat on it, and
scene-linear light dark. A config knows the way from each of its colour spaces to the others, and
its *view* is how it shows them on a display. Models get that picture.

Views such as those of ACES 2 take seconds for a frame. They are sampled once into a cube of
65 x 65 x 65 colours, which is applied in a fraction of a second; see design decision 12.
"""

from __future__ import annotations

import difflib
import functools
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vidmatte.errors import MissingExtraError, OptionError
from vidmatte.frames import Chromaticities, ColorSpace
from vidmatte.imaging.primaries import AP0, LINEAR_IDS, linear_id_of, to_primaries

BUILT_IN = "ocio://studio-config-latest"
"""The config without another one: the ACES studio config that comes with OpenColorIO."""
VARIABLE = "OCIO"
"""The environment variable that names a config, for all programs."""
_ACES = "lin_ap0_scene"
_BT709 = "lin_rec709_scene"
_USUAL: Mapping[str, tuple[str, ...]] = {
    "applelog": ("apple_log",),
    "applelog2": ("apple_log_2",),
    "bmdfilm": ("bmdfilm_widegamut_gen5",),
    "canonlog2": ("canonlog2_cinemagamut_d55",),
    "canonlog3": ("canonlog3_cinemagamut_d55",),
    "cineon": ("Input - ADX - ADX10", "ADX10"),
    "clog2": ("canonlog2_cinemagamut_d55",),
    "clog3": ("canonlog3_cinemagamut_d55",),
    "davinciintermediate": ("davinci_intermediate_widegamut",),
    "dlog": ("dlog_dgamut",),
    "log3g10": ("log3g10_redwidegamutrgb",),
    "logc": ("arri_logc3_ei800", "logc3ei800_alexawide"),
    "logc3": ("arri_logc3_ei800", "logc3ei800_alexawide"),
    "arrilogc3": ("arri_logc3_ei800", "logc3ei800_alexawide"),
    "logc4": ("arri_logc4",),
    "slog3": ("slog3_sgamut3cine",),
    "slog3sgamut3cine": ("slog3_sgamut3cine",),
    "slog3sgamut3": ("slog3_sgamut3",),
    "vlog": ("vlog_vgamut",),
}
"""Names of ACES configs for short names of camera curves, without spaces and punctuation; a curve
that is used with several gamuts stands for the usual one."""
_CUBE = 65
_STOPS = (-10.0, 8.0)
"""Binary logarithms of the darkest and the brightest light in the cube."""
_MOST_NEAR = 4


def config_in_use(given: str | Path | None) -> str:
    """Return the config of an option, else that of $OCIO, else the one built in."""
    return str(given or os.environ.get(VARIABLE) or BUILT_IN)


def find_space(name: str, config: str) -> ColorSpace:
    """Return the colour space of a name, an alias, a role, or a short name as in "LogC4".

    Args:
        name: in any case.
        config: path or URI of the config.

    Raises:
        OptionError: if the config does not load, or has no such space; near names are listed.
        MissingExtraError: if OpenColorIO is not installed.
    """
    found = known_space(name, config)
    if found is None:
        raise OptionError(f"colour space {name!r} is unknown to {config}; {_near(name, config)}")
    return found


def known_space(name: str, config: str) -> ColorSpace | None:
    """Return the colour space like `find_space`, None if the config has none of this name."""
    loaded = _load(config)
    for each in (name, *_USUAL.get(_squeezed(name), ())):
        space = loaded.getColorSpace(each)
        if space is not None:
            return _described(space.getName(), config)
    return None


def space_of_rules(path: str | Path, config: str) -> ColorSpace | None:
    """Return the colour space that the file rules of a config give to a path.

    None if only the rule for all other files applies.
    """
    loaded = _load(config)
    if loaded.filepathOnlyMatchesDefaultRule(str(path)):
        return None
    name, _ = loaded.getColorSpaceFromFilepath(str(path))
    return known_space(name, config)


def working_space(config: str) -> ColorSpace:
    """Return the scene-linear space that a config composites in (its role scene_linear).

    Raises:
        OptionError: if it has none.
    """
    found = known_space("scene_linear", config)
    if found is None:
        raise OptionError(f"{config}: has no role scene_linear; name a colour space for the output")
    return found


def view_of(space: ColorSpace) -> tuple[str, str]:
    """Return the display and the view that a config shows a colour space with by default.

    Raises:
        OptionError: if the config has no display.
    """
    config = _load(space.config)
    display = config.getDefaultDisplay()
    view = config.getDefaultView(display, space.name) if display else ""
    if not view:
        raise OptionError(
            f"{space.config}: has no display with a view; add one, or choose another config"
        )
    return display, view


def show(rgb: Tensor, space: ColorSpace) -> Tensor:
    """Return frames as the default view of the config shows them.

    Args:
        rgb: (..., 3, H, W) in the colour space.
        space: the colour space.

    Returns:
        The same shape in 0..1, on the device of `rgb`.
    """
    return _apply(_cube(space), rgb).clamp_(0, 1)


def convert(rgb: Tensor, source: ColorSpace, target: ColorSpace) -> Tensor:
    """Return frames (..., 3, H, W) of one colour space in another one of the same config.

    Raises:
        OptionError: if the config cannot convert them.
    """
    if source == target:
        return rgb
    return _apply(_conversion(source, target), rgb)


def light_in_bt709(rgb: Tensor, space: ColorSpace) -> Tensor:
    """Return frames (..., 3, H, W) as linear light with the primaries of BT.709, not clipped."""
    return _apply(_to_built_in(space, _BT709), rgb)


def from_light(light: Tensor, primaries: Chromaticities, target: ColorSpace) -> Tensor:
    """Return linear light (..., 3, H, W) of any primaries in a colour space of a config."""
    return _apply(_from_built_in(_ACES, target), to_primaries(light, primaries, AP0))


@functools.cache
def chromaticities_in(space: ColorSpace) -> Chromaticities | None:
    """Return the primaries of a linear colour space; None if they are not well known.

    A space is known by what it does: its primaries become the same colours as those of a known one.
    """
    if not space.is_linear:
        return None
    colors = torch.eye(3).reshape(3, 3, 1).float()
    found = _apply(_to_built_in(space, _ACES), colors)
    for known in LINEAR_IDS.values():
        if torch.allclose(found, to_primaries(colors, known, AP0), atol=2e-3):
            return known
    return None


def interop_id(space: ColorSpace) -> str:
    """Return the name of a space by the Color Interop Forum; empty if it is not known."""
    found = linear_id_of(chromaticities_in(space))
    if found is not None:
        return found
    described = _load(space.config).getColorSpace(space.name)
    # Since OpenColorIO 2.5.
    return str(described.getInteropID()) if hasattr(described, "getInteropID") else ""


def _described(name: str, config: str) -> ColorSpace:
    return ColorSpace(name, config, _is_linear(name, config))


def _is_linear(name: str, config: str) -> bool:
    library, loaded = _library(), _load(config)
    space = loaded.getColorSpace(name)
    if space.isData() or space.getReferenceSpaceType() != library.REFERENCE_SPACE_SCENE:
        return False
    return bool(loaded.isColorSpaceLinear(name, library.REFERENCE_SPACE_SCENE))


def _near(name: str, config: str) -> str:
    """Return the names that are spelled like another one, or hold it."""
    names = {_squeezed(each): each for each in _load(config).getColorSpaceNames()}
    short = {each: known_space(each, config) for each in _USUAL}
    names |= {each: space.name for each, space in short.items() if space is not None}
    wanted = _squeezed(name)
    holding = [each for squeezed, each in names.items() if wanted and wanted in squeezed]
    spelled = difflib.get_close_matches(wanted, names, n=_MOST_NEAR, cutoff=0.5)
    near = list(dict.fromkeys([*holding, *(names[each] for each in spelled)]))[:_MOST_NEAR]
    if not near:
        every = sorted(set(names.values()))
        return f"its {len(every)} spaces begin with {', '.join(every[: 2 * _MOST_NEAR])}"
    return f"near names are {', '.join(near)}"


def _squeezed(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _library() -> Any:
    try:
        import PyOpenColorIO
    except ImportError as error:
        raise MissingExtraError("colour management by OpenColorIO", "ocio") from error
    return PyOpenColorIO


@functools.cache
def _load(config: str) -> Any:
    library = _library()
    try:
        loaded = library.Config.CreateFromFile(config)
        loaded.validate()
    except (library.Exception, library.ExceptionMissingFile) as error:
        raise OptionError(
            f"{config}: is not an OpenColorIO config that loads ({_one_line(error)}); give a "
            f".ocio or .ocioz file, or {BUILT_IN}"
        ) from error
    return loaded


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")


@functools.cache
def _conversion(source: ColorSpace, target: ColorSpace) -> Any:
    library = _library()
    try:
        processor = _load(source.config).getProcessor(source.name, target.name)
        return processor.getDefaultCPUProcessor()
    except (library.Exception, library.ExceptionMissingFile) as error:
        raise _no_conversion(source.config, source, target.name, error) from error


@functools.cache
def _to_built_in(space: ColorSpace, name: str) -> Any:
    """Return the processor from a colour space to one of the config built into the library.

    It finds the common ground of both by the roles of the config, or by its names.
    """
    library = _library()
    make = library.Config.GetProcessorToBuiltinColorSpace
    try:
        return make(_load(space.config), space.name, name).getDefaultCPUProcessor()
    except (library.Exception, library.ExceptionMissingFile) as error:
        raise _no_conversion(space.config, space, name, error) from error


@functools.cache
def _from_built_in(name: str, space: ColorSpace) -> Any:
    library = _library()
    make = library.Config.GetProcessorFromBuiltinColorSpace
    try:
        return make(name, _load(space.config), space.name).getDefaultCPUProcessor()
    except (library.Exception, library.ExceptionMissingFile) as error:
        raise _no_conversion(space.config, space, name, error) from error


def _no_conversion(config: str, space: ColorSpace, other: str, error: Exception) -> OptionError:
    return OptionError(
        f"{config}: cannot convert between {space.name!r} and {other!r} ({_one_line(error)}); "
        f"choose another colour space, or mend the config"
    )


@functools.cache
def _cube(space: ColorSpace) -> Any:
    """Return the processor of the view, sampled into a cube of colours."""
    library = _library()
    display, view = view_of(space)
    transform = library.DisplayViewTransform(src=space.name, display=display, view=view)
    shaper = _shaper() if space.is_linear else None
    colors = _grid()
    try:
        if shaper is not None:
            _own_processor(shaper, inverse=True).applyRGB(colors)
        _load(space.config).getProcessor(transform).getDefaultCPUProcessor().applyRGB(colors)
    except (library.Exception, library.ExceptionMissingFile) as error:
        raise _no_conversion(space.config, space, f"{view} of {display}", error) from error
    cube = library.Lut3DTransform(_CUBE)
    cube.setData(colors.ravel())
    cube.setInterpolation(library.INTERP_TETRAHEDRAL)
    both = library.GroupTransform()
    for part in filter(None, (shaper, cube)):
        both.appendTransform(part)
    return _own_processor(both)


def _grid() -> npt.NDArray[np.float32]:
    """Return (N, 3) colours of the cube, blue first to change, as OpenColorIO orders them."""
    axis = np.linspace(0, 1, _CUBE, dtype=np.float32)
    planes = np.meshgrid(axis, axis, axis, indexing="ij")
    return np.ascontiguousarray(np.stack(planes, -1).reshape(-1, 3))


def _shaper() -> Any:
    """Return the logarithm that spreads light evenly over the cube."""
    library = _library()
    # The offset keeps black, and light a little below it, finite.
    return library.AllocationTransform(library.ALLOCATION_LG2, [*_STOPS, 2.0 ** _STOPS[0]])


def _own_processor(transform: Any, *, inverse: bool = False) -> Any:
    """Return the processor of a transform without config."""
    library = _library()
    # Cached processors are found by a text that does not hold the numbers of a cube.
    config = library.Config.CreateRaw()
    config.setProcessorCacheFlags(library.PROCESSOR_CACHE_OFF)
    direction = library.TRANSFORM_DIR_INVERSE if inverse else library.TRANSFORM_DIR_FORWARD
    return config.getProcessor(transform, direction).getDefaultCPUProcessor()


def _apply(processor: Any, rgb: Tensor) -> Tensor:
    """Return (..., 3, H, W) after a processor; the input is not changed."""
    library = _library()
    *_, height, width = rgb.shape
    planes = np.array(rgb.detach().cpu().numpy(), np.float32, order="C", copy=True)
    for red, green, blue in planes.reshape(-1, 3, height, width):
        processor.apply(library.PlanarImageDesc(red, green, blue, width, height))
    return torch.from_numpy(planes).to(rgb.device)
