"""Nuke scripts (.nk) that read, premultiply and merge the outputs of a run.

The syntax is that of scripts which Nuke saves: nodes as Tcl commands with their knobs, each taking
its inputs from the stack of nodes before it, the first input from the top.
"""

from __future__ import annotations

import re

from vidmatte.hosts.clips import HostClip, HostShot

_COLORSPACES = {
    1: "rec709",
    4: "Gamma2.2",
    6: "rec709",
    8: "linear",
    13: "sRGB",
    14: "rec709",
    15: "rec709",
    16: "st2084",
    18: "HybridLogGamma",
}
"""Names in Nuke's own colour configuration (nuke-default), by transfer (ITU-T H.273)."""
_FIRST_OF_MOVIE = 1
"""Nuke counts the frames of movies from 1."""
_COLUMN, _ROW = 220, 90
"""Distance of nodes in the node graph."""
_PLAIN = re.compile(r"[\w./:%+,=@~-]+")


def nuke_script(shot: HostShot) -> str:
    """Return a script with a column of nodes for each output, merged over a checkerboard."""
    script = _Script(shot)
    script.begin()
    for clip in shot.clips:
        if clip.holds == "alpha":
            script.matte(clip)
        elif clip.layers:
            script.layered(clip)
        else:
            script.color(clip)
    return "\n".join(script.lines) + "\n"


class _Script:
    """The lines of a script, and the place of the next node."""

    def __init__(self, shot: HostShot) -> None:
        self.lines: list[str] = []
        self._shot = shot
        self._start = shot.first if shot.has_numbers else _FIRST_OF_MOVIE
        self._names: set[str] = set()
        self._column = self._row = 0

    def begin(self) -> None:
        """Write the layers, a note on the shot, and the background of all merges."""
        shot, clip = self._shot, self._shot.clips[0]
        self.lines.append(f"# {shot.made_by}")
        for layer in dict.fromkeys(layer for each in shot.clips for layer in each.layers):
            channels = " ".join(f"{_word(layer)}.{c}" for c in ("red", "green", "blue", "alpha"))
            self.lines.append(f"add_layer {{{_word(layer)} {channels}}}")
        note = [
            shot.made_by,
            f"frames {self._start} to {self._start + clip.frames - 1}",
            f"{clip.size[0]} x {clip.size[1]}, {float(clip.rate):.3f} frames/s",
            *(f"not read by Nuke: {name}" for name in shot.left_out),
            *(["colour spaces are those of OpenColorIO"] if shot.spaces else []),
        ]
        self._node("StickyNote", 0, "note", label="\n".join(note))
        self._next_column()
        form = _format(clip)
        self._node("CheckerBoard2", 0, "background", format=form, label="your background")
        self.lines.append("set background [stack 0]")

    def color(self, clip: HostClip) -> None:
        """Write the nodes for colour with alpha, or for colour on black and its matte."""
        self._next_column()
        matte = self._shot.matte_of(clip) if clip.holds == "fill" else None
        if clip.holds == "flat" or (clip.holds == "fill" and matte is None):
            self._read(clip, label="no alpha")
            return
        if matte is not None:
            self._read(matte, label="matte")
        self._read(clip, label="" if matte is None else "on black")
        if matte is not None:
            self._copy("rgba.red")
        if clip.holds == "straight":
            self._node("Premult", 1, f"premult_{clip.name}", label="the file is straight")
        self._merge(clip.name)

    def layered(self, clip: HostClip) -> None:
        """Write the nodes for each layer of colour with alpha."""
        self._next_column()
        self._read(clip)
        variable = f"layers_{_word(clip.name)}"
        self.lines.append(f"set {variable} [stack 0]")
        for layer in clip.layers:
            self._next_column()
            self.lines.append(f"push ${variable}")
            self._node("Shuffle", 1, f"layer_{layer}", **{"in": _word(layer), "label": layer})
            if clip.holds == "straight":
                self._node("Premult", 1, f"premult_{layer}", label="the file is straight")
            self._merge(layer)

    def matte(self, clip: HostClip) -> None:
        """Write the nodes that cut the plate out with a matte; without a plate only its Read."""
        self._next_column()
        plate = self._shot.plate
        self._read(clip, label="matte: black to white is alpha 0 to 1")
        if plate is None:
            return
        variable = f"matte_{_word(clip.name)}"
        self.lines.append(f"set {variable} [stack 0]")
        for layer in clip.layers or ("",):
            if layer:
                self._next_column()
                self.lines.append(f"push ${variable}")
            self._read(plate, label="source")
            self._copy(f"{_word(layer)}.alpha" if layer else "rgba.red")
            name = layer or clip.name
            self._node("Premult", 1, f"premult_{name}", label="")
            self._merge(name)

    def _copy(self, channel: str) -> None:
        """Write the node that brings a channel of the second node on the stack into alpha."""
        self._node("Copy", 2, "copy_alpha", from0=channel, to0="rgba.alpha", label="")

    def _merge(self, name: str) -> None:
        self.lines.append("push $background")
        self._node("Merge2", 2, f"over_{name}", operation="over", label="")

    def _read(self, clip: HostClip, label: str = "") -> None:
        pattern = clip.pattern
        path = clip.path
        # Nuke counts the frames of a movie from 1, and images by their numbers.
        first = clip.first + _FIRST_OF_MOVIE if pattern is None else clip.first
        if pattern is not None:
            plain = pattern.whole
            path = path.with_name(f"{plain.before}%0{plain.digits}d{plain.after}")
        last = first + clip.frames - 1
        knobs: dict[str, object] = {
            "file_type": path.suffix[1:].lower(),
            "file": _path(path.as_posix()),
            "format": _format(clip),
            "first": first,
            "last": last,
            "origfirst": first,
            "origlast": last,
            "origset": "true",
        }
        if first != self._start:
            knobs |= {"frame_mode": "start at", "frame": str(self._start)}
        if clip.holds == "alpha":
            # Alpha is no colour: without raw, Nuke would take a curve out of it.
            knobs["raw"] = "true"
        else:
            knobs["colorspace"] = clip.space or _COLORSPACES.get(clip.transfer, "rec709")
            # The multiplication in display space is undone and redone in linear light.
            if clip.holds == "premultiplied" and not clip.is_linear:
                knobs["premultiplied"] = "true"
        self._node("Read", 0, f"read_{clip.name}", **knobs, label=label)

    def _next_column(self) -> None:
        self._column += 1
        self._row = 0

    def _node(self, kind: str, inputs: int, name: str, **knobs: object) -> None:
        """Write a node. Its name is made unique, and empty knobs are left out."""
        lines = [f"{kind} {{"] if inputs == 1 else [f"{kind} {{", f" inputs {inputs}"]
        lines += [f" {knob} {_value(value)}" for knob, value in knobs.items() if value != ""]
        lines += [f" name {self._unique(_word(name))}"]
        lines += [f" xpos {self._column * _COLUMN}", f" ypos {self._row * _ROW}", "}"]
        self.lines += lines
        self._row += 1

    def _unique(self, name: str) -> str:
        number, found = 1, name
        while found in self._names:
            number += 1
            found = f"{name}_{number}"
        self._names.add(found)
        return found


def _format(clip: HostClip) -> str:
    width, height = clip.size
    return f"{width} {height} 0 0 {width} {height} {clip.pixel_aspect:g} "


def _word(name: str) -> str:
    """Return a name with only the characters that names of nodes and layers have."""
    word = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return f"_{word}" if word[:1].isdigit() else word


def _path(path: str) -> str:
    """Return a path for a file knob, which evaluates brackets, dollars and backslashes itself."""
    return re.sub(r"([\[\]$\\])", r"\\\1", path)


def _value(value: object) -> str:
    """Return the value of a knob as a Tcl word."""
    text = str(value)
    if _PLAIN.fullmatch(text):
        return text
    escaped = re.sub(r'([\\"$\[\]{}])', r"\\\1", text).replace("\n", "\\n")
    return f'"{escaped}"'
