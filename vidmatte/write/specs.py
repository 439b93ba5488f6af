"""Parse an output as given, such as `shot.mov:prores-4444-xq`, into a frozen value."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from vidmatte.errors import OptionError
from vidmatte.media.patterns import NAME, matching_names, parse_pattern
from vidmatte.write.backdrop import check_backdrop
from vidmatte.write.formats import FORMATS, Format, formats_of

_OVER = "over="
_WITH_BACKDROP = re.compile(r"(.+?\.(?:mov|mp4|mxf)):(?:([^:/\\]*),)?(over=.+)", re.IGNORECASE)


@dataclass(frozen=True)
class OutputSpec:
    """One output: a movie, or a pattern for one image per frame.

    A pattern has a place for the frame number (`%06d`, `######`; see `media.patterns`), or `{name}`
    for the name of the source image.
    """

    path: Path | str
    alpha_only: bool = False
    object_name: str = ""
    """Name of its object; empty for one object without a name."""
    layers: tuple[str, ...] = ()
    """Objects in the layers of one EXR, as in person.R; empty for all other outputs."""
    format_options: tuple[str, ...] = ()
    """Name of a format of the extension, presets, and numbers such as crf=18."""
    format: Format = field(init=False, compare=False, repr=False)
    """The entry of FORMATS, with the chosen options; parsed once, when the spec is made."""

    def __post_init__(self) -> None:
        """Parse the format. Raises OptionError, see `parse_output`."""
        object.__setattr__(self, "format", _chosen_format(self))
        _check(self)

    @property
    def folder(self) -> Path:
        """The folder of the output."""
        return Path(self.path).parent

    @property
    def backdrop(self) -> str:
        """What stands behind the object of an output without alpha; empty for black."""
        found = [word for word in self.format_options if word.startswith(_OVER)]
        return found[0].removeprefix(_OVER) if found else ""

    @property
    def argument(self) -> str:
        """Path and format options joined by a colon, as on the command line."""
        return ":".join(filter(None, (str(self.path), ",".join(self.format_options))))

    def image_name(self, *, number: int, name: str) -> str:
        """Return the file name of one image of a pattern."""
        pattern = Path(self.path).name
        if NAME in pattern:
            return pattern.replace(NAME, name)
        frames = parse_pattern(pattern)
        assert frames is not None  # `_check` refuses names without a place
        return frames.name_of(number)

    @property
    def is_named(self) -> bool:
        """Whether the pattern takes the names of images instead of frame numbers."""
        return NAME in Path(self.path).name

    @property
    def file_names(self) -> re.Pattern[str]:
        """Expression that matches every possible file name of the output."""
        if self.format.is_movie:
            return re.compile(re.escape(Path(self.path).name))
        return matching_names(self.path)

    def __str__(self) -> str:
        return str(self.path)


def split_format_options(path: Path | str) -> tuple[Path | str, tuple[str, ...]]:
    """Split an output into path and format options: shot.exr:float,dwaa has float and dwaa.

    A colon anywhere but behind a known extension belongs to the path.
    """
    if found := _WITH_BACKDROP.fullmatch(str(path)):
        # The path of an image may have slashes and a colon.
        return found[1], (*filter(None, (found[2] or "").split(",")), found[3])
    start, _, words = str(path).rpartition(":")
    # "C:/x.mov" has a colon as well, but no known extension before it.
    extensions = {form.extension for form in FORMATS}
    if Path(start).suffix.lower() not in extensions or re.search(r"[/\\]", words):
        return path, ()
    return start, tuple(words.split(","))


def parse_output(
    path: Path | str,
    *,
    alpha_only: bool,
    object_name: str = "",
    layers: tuple[str, ...] = (),
) -> OutputSpec:
    """Return the spec of an output path with its format options.

    Args:
        path: As on the command line, such as "shot.mov:prores-4444-xq".
        alpha_only: Whether the output holds alpha alone.
        object_name: Name of its object.
        layers: Names of several objects in one EXR.

    Raises:
        OptionError: If the extension or a format option is unknown, or an image path has no place
            for the frame number or the name of the image.
    """
    plain, format_options = split_format_options(path)
    return OutputSpec(plain, alpha_only, object_name, layers, format_options)


def _check(spec: OutputSpec) -> None:
    """Raise OptionError for images without a place for the frame number, and layers outside EXR."""
    path = Path(spec.path)
    # Of a movie everything in its name is plain text.
    frames = None if spec.format.is_movie else parse_pattern(path)
    places = path.name.count(NAME) + (frames is not None)
    if not spec.format.is_movie and places != 1:
        found = f"{'no' if places == 0 else 'more than one'} place for their numbers"
        raise OptionError(
            f"{spec}: images are written one per frame, and the file name has {found}; use "
            f"{path.stem if places == 0 else 'frame'}_%06d{path.suffix}, "
            f"or {{name}}{path.suffix} for a set of images"
        )
    if spec.layers and spec.format.codec != "exr":
        raise OptionError(f"{spec}: only EXR has layers; write each object to a file of its own")


def _chosen_format(spec: OutputSpec) -> Format:
    forms = formats_of(Path(spec.path).suffix, alpha_only=spec.alpha_only)
    if not forms:
        raise OptionError(_no_format(spec))
    named = [form for form in forms if form.name in spec.format_options]
    if spec.backdrop:
        check_backdrop(spec.backdrop)
        # Such an output has no alpha, so that its extension has one format for it.
        named = named or [form for form in forms if form.over_black]
        if not named or not named[0].over_black:
            raise OptionError(
                f"{spec.argument}: a background is for colour in .mp4, .mov and .mxf, without alpha"
            )
    if len(named) > 1:
        names = " and ".join(form.name for form in named)
        raise OptionError(f"{spec.argument}: asks for {names}; choose one")
    # Without a name, the default: never a format that loses alpha.
    usable = named or [form for form in forms if not form.over_black]
    if not usable:
        without_alpha = [f"{spec}:{form.name} ({form.description})" for form in forms]
        raise OptionError(
            f"{spec}: {forms[0].extension} has no alpha; use .mov or .webm, "
            f"or a format without alpha: {', '.join(without_alpha)}"
        )
    form = usable[0]
    plain = [word for word in spec.format_options if not word.startswith(_OVER)]
    words = [word for word in plain if word != form.name]
    chosen = _options_of(words, form, forms, spec)
    return replace(form, options={**form.options, **chosen})


def _options_of(
    words: Iterable[str], form: Format, forms: Sequence[Format], spec: OutputSpec
) -> Mapping[str, str]:
    """Return the encoder options that format options set.

    Raises OptionError for a format option that is unknown or contradicts another one.
    """
    options: dict[str, str] = {}
    chosen_by: dict[str, str] = {}
    for word in words:
        for option, value in _parse_option(word, form, forms, spec).items():
            if option in chosen_by:
                raise OptionError(
                    f"{spec.argument}: {chosen_by[option]} and {word} exclude each other; keep one"
                )
            options[option] = value
            chosen_by[option] = word
    return options


def _parse_option(
    word: str, form: Format, forms: Sequence[Format], spec: OutputSpec
) -> Mapping[str, str]:
    if word in form.presets:
        return form.presets[word]
    name, _, value = word.partition("=")
    if name in form.parameters and value.isdecimal() and int(value) in form.parameters[name]:
        return {name: str(int(value))}
    numbers = [f"{name}={span[0]} to {name}={span[-1]}" for name, span in form.parameters.items()]
    formats = [f"{form.name} ({form.description})" for form in forms if len(forms) > 1]
    offered = [*formats, *form.presets, *numbers]
    what = f"choose from {', '.join(offered)}" if offered else "it has none at all"
    raise OptionError(f"{spec.argument}: {form.extension} has no format option {word!r}; {what}")


def _no_format(spec: OutputSpec) -> str:
    extension = Path(spec.path).suffix
    # The default of each extension is its first format.
    defaults: dict[str, Format] = {}
    for form in FORMATS:
        if form.alpha_only == spec.alpha_only and not form.over_black:
            defaults.setdefault(form.extension, form)
    kind = "an alpha matte" if spec.alpha_only else "colour with alpha"
    found = f"the extension {extension.lower()!r}" if extension else "no extension"
    other = ""
    if formats_of(extension, alpha_only=not spec.alpha_only):
        other = "; give it to -o/--output" if spec.alpha_only else "; give it to --alpha"
    offered = ", ".join(f"{end} ({form.description})" for end, form in defaults.items())
    return f"{spec}: {kind} cannot be written with {found}{other}; choose from {offered}"
