"""The colour spaces of a run: that of its source, by name or by metadata, and that of its EXR."""

from __future__ import annotations

from dataclasses import replace

from vidmatte.frames import ColorSpace, ColorTags, VideoInfo
from vidmatte.imaging import ocio
from vidmatte.imaging.primaries import chromaticities_of, linear_id_of
from vidmatte.imaging.transfer import LINEAR
from vidmatte.options import MatteOptions

AUTO = "auto"
_BUILT_IN = "ocio://"
_BT709, _UNSPECIFIED = 1, 2


def with_input_space(info: VideoInfo, options: MatteOptions) -> VideoInfo:
    """Return the facts of a source in the colour space of the options, with a note on a guess.

    Raises:
        OptionError: the config does not load, or has no such colour space.
        MissingExtraError: OpenColorIO is not installed.
    """
    if options.input_space is None:
        return info
    config = ocio.config_in_use(options.ocio)
    if options.input_space != AUTO:
        space = ocio.find_space(options.input_space, config)
        return replace(info, color=tagged(info.color, space))
    found = _by_metadata(info, config)
    if found is None:
        note = "the metadata names no colour space of the config: the source is read by its tags"
        return replace(info, notes=(*info.notes, note))
    return replace(info, color=tagged(info.color, found))


def tagged(color: ColorTags, space: ColorSpace) -> ColorTags:
    """Return the tags of footage whose code values are in a colour space.

    Movies keep the tags of their file, which other programs go by.
    """
    if space.is_linear:
        # Outputs that are not EXR get light of BT.709.
        return replace(
            color,
            primaries=_BT709,
            transfer=LINEAR,
            chromaticities=None,
            icc=None,
            space=space,
        )
    if color.transfer == LINEAR:
        color = replace(color, primaries=_UNSPECIFIED, transfer=_UNSPECIFIED, chromaticities=None)
    return replace(color, icc=None, space=space)


def output_space(options: MatteOptions) -> ColorSpace | None:
    """Return the colour space that was asked for EXR outputs, None for the usual one.

    Raises:
        OptionError: the config does not load, or has no such colour space.
    """
    if options.output_space is None:
        return None
    return ocio.find_space(options.output_space, ocio.config_in_use(options.ocio))


def config_file(options: MatteOptions) -> str | None:
    """Return the file of the config in use; None if it comes with OpenColorIO or is not used."""
    if options.input_space is None and options.output_space is None:
        return None
    config = ocio.config_in_use(options.ocio)
    return None if config.startswith(_BUILT_IN) else config


def _by_metadata(info: VideoInfo, config: str) -> ColorSpace | None:
    """Return the space by camera or header, else by primaries, else by the rules of a config."""
    light = chromaticities_of(info.color) if info.color.transfer == LINEAR else None
    for name in (info.declared_space, linear_id_of(light)):
        found = ocio.known_space(name, config) if name else None
        if found is not None:
            return found
    # The rules of the built-in config say how to write files, not what is in files of others.
    return None if config.startswith(_BUILT_IN) else ocio.space_of_rules(info.source, config)
