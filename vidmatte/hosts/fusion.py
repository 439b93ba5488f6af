"""Fusion settings (.setting) that load and merge the outputs of a run.

A setting is a Lua table of tools, as Fusion copies them to the clipboard. Fusion's Merge expects
multiplied colour, so Loaders of straight files multiply it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from vidmatte.hosts.clips import HostClip, HostShot

_FORMATS = {
    ".mov": "QuickTimeMovies",
    ".mp4": "QuickTimeMovies",
    ".mxf": "MXFFormat",
    ".png": "PNGFormat",
    ".exr": "OpenEXRFormat",
    ".dpx": "DPXFormat",
    ".tif": "TiffFormat",
    ".tiff": "TiffFormat",
    ".jpg": "JpegFormat",
    ".jpeg": "JpegFormat",
}
_COMBINE_RED = 1
"""Matte Control: take the red channel of the foreground."""
_COLUMN, _ROW = 165, 66
"""Distance of tools in the flow."""


def fusion_setting(shot: HostShot) -> str:
    """Return a setting with a row of tools for each output, merged over a background."""
    flow = _Flow(shot)
    for clip in shot.clips:
        for layer in clip.layers or ("",):
            if clip.holds == "alpha":
                flow.matte(clip, layer)
            else:
                flow.color(clip, layer)
            flow.next_row()
    return flow.text()


class _Flow:
    """The tools of a setting, and the place of the next one."""

    def __init__(self, shot: HostShot) -> None:
        self._shot = shot
        self._tools: list[str] = []
        self._names: set[str] = set()
        self._column = self._row = 0
        width, height = shot.clips[0].size
        inputs = {
            "Width": str(width),
            "Height": str(height),
            "TopLeftAlpha": "1",
            "GlobalOut": str(shot.first + shot.clips[0].frames - 1),
            "GlobalIn": str(shot.first),
        }
        values = {name: f"Input {{ Value = {value}, }}" for name, value in inputs.items()}
        values["Comments"] = _text_input("Put your background here.")
        self._background = self._tool("Background", "YourBackground", values)
        self.next_row()

    def next_row(self) -> None:
        """Begin a new row of tools."""
        self._row += 1
        self._column = 0

    def color(self, clip: HostClip, layer: str) -> None:
        """Add the tools for colour with alpha, or for colour on black and its matte."""
        loaded = self._loader(clip, layer)
        if clip.holds in ("fill", "flat"):
            matte = self._shot.matte_of(clip) if clip.holds == "fill" else None
            if matte is None:
                return
            loaded = self._combined(loaded, self._loader(matte, ""), multiply=False)
        self._merge(loaded)

    def matte(self, clip: HostClip, layer: str) -> None:
        """Add the tools that cut the plate out with a matte; without a plate only its Loader."""
        loaded = self._loader(clip, layer)
        if self._shot.plate is not None:
            plate = self._loader(self._shot.plate, "")
            self._merge(self._combined(plate, loaded, multiply=True))

    def text(self) -> str:
        """Return the setting."""
        shot = self._shot
        notes = [shot.made_by, *(f"not read by Fusion: {name}" for name in shot.left_out)]
        comments = "\n".join(f"-- {note}" for note in notes)
        tools = "\n".join(self._tools)
        return f"{comments}\n{{\n\tTools = ordered() {{\n{tools}\n\t}}\n}}\n"

    def _combined(self, color: str, matte: str, *, multiply: bool) -> str:
        inputs = {
            "Background": _link(color),
            "Foreground": _link(matte),
            "MatteCombine": f"Input {{ Value = {_COMBINE_RED}, }}",
            "PostMultiply": f"Input {{ Value = {int(multiply)}, }}",
        }
        return self._tool("MatteControl", f"{color}_Matte", inputs)

    def _merge(self, tool: str) -> None:
        inputs = {
            "Background": _link(self._background),
            "Foreground": _link(tool),
            "PerformDepthMerge": "Input { Value = 0, }",
        }
        self._tool("Merge", f"{tool}_Over", inputs)

    def _loader(self, clip: HostClip, layer: str) -> str:
        shot, is_movie = self._shot, clip.pattern is None
        # A movie may begin before the matted part; images begin with their first file.
        trim = clip.first if is_movie else 0
        facts = {
            "ID": '"Clip1"',
            "Filename": _text(str(clip.first_file)),
            "FormatID": f'"{_FORMATS[clip.path.suffix.lower()]}"',
            "Length": str(trim + clip.frames),
            "Multiframe": "true",
            **({} if is_movie else {"StartFrame": str(clip.first)}),
            "LengthSetManually": "true",
            "TrimIn": str(trim),
            "TrimOut": str(trim + clip.frames - 1),
            "ExtendFirst": "0",
            "ExtendLast": "0",
            "Loop": "0",
            "AspectMode": "0",
            "Depth": "0",
            "TimeCode": "0",
            "GlobalStart": str(shot.first),
            "GlobalEnd": str(shot.first + clip.frames - 1),
        }
        lines = "".join(f"\t\t\t\t\t{name} = {value},\n" for name, value in facts.items())
        head = f"\t\t\tClips = {{\n\t\t\t\tClip {{\n{lines}\t\t\t\t}},\n\t\t\t}},\n"
        multiplies = int(clip.holds == "straight")
        inputs = {
            "PostMultiplyByAlpha": f"Input {{ Value = {multiplies}, }}",
            "Comments": _text_input(_comment(clip)),
            **_channels(clip, layer),
        }
        return self._tool("Loader", layer or clip.name, inputs, head)

    def _tool(self, kind: str, name: str, inputs: Mapping[str, str], head: str = "") -> str:
        """Add a tool, and return its name, which is made unique."""
        found = self._unique(_word(name))
        lines = "".join(f"\t\t\t\t{_key(key)} = {value},\n" for key, value in inputs.items())
        place = f"{self._column * _COLUMN}, {self._row * _ROW}"
        self._tools.append(
            f"\t\t{found} = {kind} {{\n\t\t\tNameSet = true,\n{head}\t\t\tInputs = {{\n{lines}"
            f"\t\t\t}},\n\t\t\tViewInfo = OperatorInfo {{ Pos = {{ {place} }}, }},\n\t\t}},"
        )
        self._column += 1
        return found

    def _unique(self, name: str) -> str:
        number, found = 1, name
        while found in self._names:
            number += 1
            found = f"{name}_{number}"
        self._names.add(found)
        return found


def _channels(clip: HostClip, layer: str) -> dict[str, str]:
    """Return the inputs that choose the channels of an EXR; none for other files."""
    if clip.path.suffix.lower() != ".exr":
        return {}
    names = dict(zip(("Red", "Green", "Blue", "Alpha"), "RGBA", strict=True))
    if clip.holds == "alpha":
        # The one channel everywhere: it is seen, and any channel of it is the matte.
        names = dict.fromkeys(names, "A" if layer else clip.channel)
    return {
        f"Clip1.OpenEXRFormat.{role}Name": f"Input {{ Value = FuID {{ {_text(full)} }}, }}"
        for role, name in names.items()
        for full in (f"{layer}.{name}" if layer else name,)
    }


def _comment(clip: HostClip) -> str:
    meanings = {
        "straight": "Straight colour with alpha: Post-Multiply by Alpha is on.",
        "premultiplied": "Colour multiplied with alpha.",
        "fill": "Colour on black; its alpha is another file.",
        "alpha": "Matte: black to white is alpha 0 to 1. It is no colour: use no gamut or gamma.",
        "flat": "Without alpha.",
    }
    light = " Scene-linear." if clip.is_linear and clip.holds != "alpha" else ""
    if clip.space:
        light = f" Colour space {clip.space}."
    return f"{meanings[clip.holds]}{light} {float(clip.rate):.3f} frames/s."


def _link(tool: str) -> str:
    return f'Input {{ SourceOp = "{tool}", Source = "Output", }}'


def _text_input(text: str) -> str:
    return f"Input {{ Value = {_text(text)}, }}"


def _text(text: str) -> str:
    """Return text as a Lua string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) else f"[{_text(name)}]"


def _word(name: str) -> str:
    """Return a name with only the characters that names of tools have."""
    word = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return f"_{word}" if word[:1].isdigit() else word
