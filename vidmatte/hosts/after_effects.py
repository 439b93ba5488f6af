"""After Effects scripts (.jsx) that import and interpret the outputs of a run.

The script is ExtendScript, the JavaScript of 1999: no `let`, no arrow functions, no JSON.
"""

from __future__ import annotations

from vidmatte.hosts.clips import HostClip, HostShot

_ALPHA = {"straight": "STRAIGHT", "premultiplied": "PREMULTIPLIED"}
_LONGEST = 10_800
"""Seconds: the longest composition of After Effects."""


def after_effects_script(shot: HostShot) -> str:
    """Return a script that imports each output, and makes a composition of it."""
    lines = [_HEAD.format(made_by=shot.made_by, name=_text(shot.name))]
    for clip in shot.clips:
        lines.append(_import("item", clip))
        lines += _composition(clip, shot)
    problems = [f"After Effects does not read {name}." for name in shot.left_out]
    if any(clip.layers for clip in shot.clips):
        problems.append(
            "Layers of EXR files: only all objects together are shown; the effect EXtractoR "
            "shows one."
        )
    lines += [f"    problems.push({_text(problem)});" for problem in problems]
    return "\n".join([*lines, _TAIL])


def _composition(clip: HostClip, shot: HostShot) -> list[str]:
    """Return the lines that put a clip, and what it needs, into a composition."""
    if clip.holds == "flat":
        return []
    width, height = clip.size
    seconds = min(_LONGEST, float(clip.frames / clip.rate))
    facts = f"{width}, {height}, {clip.pixel_aspect:.6g}, {seconds!r}, {float(clip.rate)!r}"
    begin = f"    comp = newComposition({_text(clip.name)}, {facts});"
    if clip.holds in _ALPHA:
        return [begin, "    comp.layers.add(item);"]
    if clip.holds == "fill":
        other = shot.matte_of(clip)
        # On black: the matte multiplies nothing, so the composition is for a look only.
        if other is None:
            return []
        return [_import("matte", other), begin, "    layerWithMatte(comp, item, 0, matte);"]
    plate = shot.plate
    if plate is None:
        return []
    # A movie may begin before the matted part.
    begins = -float(plate.first / plate.rate) if plate.pattern is None else 0.0
    return [
        _import("plate", plate),
        begin,
        f"    layerWithMatte(comp, plate, {begins!r}, item);",
    ]


def _import(variable: str, clip: HostClip) -> str:
    alpha = _ALPHA.get(clip.holds, "IGNORE")
    sequence = "true" if clip.pattern is not None else "false"
    path = _text(clip.first_file.as_posix())
    facts = f"{path}, {sequence}, {float(clip.rate)!r}, {_text(alpha)}"
    line = f"    {variable} = importFootage({facts});"
    if not clip.space:
        return line
    return f"{line}\n    {variable}.comment = {_text(f'Colour space {clip.space}')};"


def _text(text: str) -> str:
    """Return text as a JavaScript string in ASCII: ExtendScript guesses the encoding of files."""
    plain = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    # Code units of UTF-16, as JavaScript counts.
    units = [
        char
        if char.isascii()
        else "".join(
            f"\\u{pair.hex()}" for pair in _pairs(char.encode("utf-16-be", "surrogatepass"))
        )
        for char in plain
    ]
    return f'"{"".join(units)}"'


def _pairs(data: bytes) -> list[bytes]:
    return [data[n : n + 2] for n in range(0, len(data), 2)]


_HEAD = """\
// {made_by}
// File > Scripts > Run Script File imports the files of this shot, and interprets their alpha.
(function () {{
    var problems = [];
    if (app.project === null) {{
        app.newProject();
    }}
    app.beginUndoGroup("vidmatte");
    var folder = app.project.items.addFolder({name});
    var item, matte, plate, comp;

    function importFootage(path, isSequence, rate, alpha) {{
        var options = new ImportOptions(new File(path));
        options.sequence = isSequence;
        options.forceAlphabetical = false;
        var footage = app.project.importFile(options);
        var source = footage.mainSource;
        source.conformFrameRate = rate;
        if (source.hasAlpha) {{
            source.alphaMode = AlphaMode[alpha];
            if (alpha === "PREMULTIPLIED") {{
                source.premulColor = [0, 0, 0];
            }}
        }} else if (alpha !== "IGNORE") {{
            problems.push(path + ": After Effects finds no alpha in it.");
        }}
        footage.parentFolder = folder;
        return footage;
    }}

    function newComposition(name, width, height, aspect, seconds, rate) {{
        var made = app.project.items.addComp(name, width, height, aspect, seconds, rate);
        made.parentFolder = folder;
        return made;
    }}

    function layerWithMatte(comp, color, begins, alpha) {{
        var below = comp.layers.add(color);
        below.startTime = begins;
        var above = comp.layers.add(alpha);
        if (below.setTrackMatte) {{
            below.setTrackMatte(above, TrackMatteType.LUMA);
        }} else {{
            below.trackMatteType = TrackMatteType.LUMA;
        }}
        above.enabled = false;
    }}
"""
_TAIL = """\
    app.endUndoGroup();
    if (problems.length > 0) {
        alert("vidmatte:\\n" + problems.join("\\n"));
    }
}());
"""
