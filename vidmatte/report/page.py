"""The page: one HTML file with everything in it, that asks no host for anything."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape

from vidmatte.report.invocation import Invocation
from vidmatte.report.summary import SUGGESTED_BELOW, Summary

_WIDTH, _HEIGHT = 1000, 240
_LEFT, _TOP, _RIGHT, _BOTTOM = 44, 22, 12, 34
"""Margins of the plot, for its axes."""
_TICKS = 12
_DOTS = 60
"""Up to this many frames each has its dot."""

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; color: #ddd;
       background: #1c1c1c; }
h1 { font-size: 1.4em; overflow-wrap: anywhere; } h2 { font-size: 1.1em; margin-top: 2em; }
img, svg { max-width: 100%; height: auto; }
table { border-collapse: collapse; } td, th { padding: 0 1.2em 0 0; text-align: left; vertical-align: top; }
th { font-weight: normal; color: #999; } a { color: #7ab8ff; } .quoted { color: #999; font-style: italic; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #2a2a2a; padding: .6em .8em; user-select: all; }
svg { background: #242424; font: 12px system-ui, sans-serif; } svg text { fill: #aaa; }
.grid { stroke: #3a3a3a; } .limit { stroke: #888; stroke-dasharray: 4 4; }
.curve { fill: none; stroke: #7ab8ff; stroke-width: 1.5; } .dot { fill: #7ab8ff; }
.reference { stroke: #78d26e; stroke-width: 2; } svg text.reference { fill: #78d26e; stroke: none; }
.suggested { fill: #ffa03c; } svg text.suggested { fill: #ffa03c; }
"""


def page(
    summary: Summary,
    invocation: Invocation,
    *,
    strips: Mapping[int, bytes],
    sheet: bytes,
    guidance: bytes | None,
) -> str:
    """The HTML of the report; `strips` are the pictures of the suggested frames, all pictures are JPEG files."""
    title = f"vidmatte: {summary.input}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        _facts(summary),
        "<h2>Confidence</h2>",
        confidence_curve(summary),
        "<h2>Frames worth marking too</h2>",
        _suggestions(summary, invocation, strips),
        "<h2>Contact sheet: source, alpha, composite</h2>",
        _image(sheet, "Source, alpha and composite of frames spread over the run"),
    ]
    if guidance is not None:
        parts += [
            "<h2>Guidance</h2>",
            "<p>What the matting head was guided by: how alike each place is to the marked region of the reference, "
            "and how that spreads over the object along the image's self-attention.</p>",
            _image(guidance, "Image, inter-similarity, intra-similarity and alpha of some frames"),
        ]
    return document(title, parts)


def document(title: str, parts: Sequence[str]) -> str:
    """A whole page of some HTML."""
    body = "\n".join(parts)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _facts(summary: Summary) -> str:
    references = ", ".join(map(str, summary.reference_frames)) or "marked on another image"
    mean = sum(summary.confidence) / summary.frames
    rows = {
        "Images"
        if summary.is_set
        else "Frames": f"{summary.frames}, the first is {summary.first_frame}",
        "Model": f"{summary.model} on {summary.device} in {summary.precision}",
        "References": references,
        "Confidence": f"{mean:.2f} on average, {min(summary.confidence):.2f} at the least",
    }
    cells = [f"<tr><th>{name}</th><td>{escape(text)}</td></tr>" for name, text in rows.items()]
    notes = [f"<tr><th>Note</th><td>{escape(note)}</td></tr>" for note in summary.notes]
    return f"<table>{''.join([*cells, *notes])}</table>"


def _suggestions(summary: Summary, invocation: Invocation, strips: Mapping[int, bytes]) -> str:
    if not summary.suggested_reference_frames:
        return (
            f"<p>None: the model is at least {SUGGESTED_BELOW:.0%} sure of every frame that is not close to a "
            f"reference.</p>"
        )
    parts = [
        "<p>Here the model is least sure, and one more reference would help most. To add one, run the command below "
        "with its marks in place of the words in capitals.</p>"
    ]
    for frame in summary.suggested_reference_frames:
        confidence = summary.confidence[frame - summary.first_frame]
        parts.append(f"<h3>Frame {frame}, confidence {confidence:.2f}</h3>")
        if frame in strips:
            parts.append(_image(strips[frame], f"Source, alpha and composite of frame {frame}"))
        entry = invocation.in_prompt_file(frame)
        if entry is not None:
            parts.append(f"<p>Among the prompts of FILE.json:</p><pre>{escape(entry)}</pre>")
        parts.append(f"<pre>{escape(invocation.with_reference(frame))}</pre>")
    return "\n".join(parts)


def _image(jpeg: bytes, text: str) -> str:
    return (
        f'<p><img alt="{escape(text)}" src="data:image/jpeg;base64,{b64encode(jpeg).decode()}"></p>'
    )


def confidence_curve(summary: Summary) -> str:
    """Confidence over frames as SVG, with the reference frames, the suggested ones, and the limit for suggestions."""
    first, last = summary.first_frame, summary.first_frame + summary.frames - 1
    width = _WIDTH - _LEFT - _RIGHT

    def x(frame: int) -> float:
        return _LEFT + width * ((frame - first) / (last - first) if last > first else 0.5)

    points = [
        (x(frame), _y(confidence))
        for frame, confidence in extremes(summary.confidence, first, width)
    ]
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" role="img">'
    ]
    parts.append("<title>Confidence of each frame</title>")
    parts += _axes(
        "image" if summary.is_set else "frame", {frame: x(frame) for frame in ticks(first, last)}
    )
    for frame in summary.reference_frames:
        if first <= frame <= last:
            parts.append(_line(x(frame), _TOP, x(frame), _y(0), "reference"))
            parts.append(_text(x(frame), _TOP - 7, f"reference {frame}", kind="reference"))
    parts.append(
        f'<polyline class="curve" points="{" ".join(f"{px:.1f},{py:.1f}" for px, py in points)}"/>'
    )
    if summary.frames <= _DOTS:
        parts += [f'<circle class="dot" cx="{px:.1f}" cy="{py:.1f}" r="2.5"/>' for px, py in points]
    for frame in summary.suggested_reference_frames:
        at = _y(summary.confidence[frame - first])
        parts.append(f'<circle class="suggested" cx="{x(frame):.1f}" cy="{at:.1f}" r="5"/>')
        parts.append(_text(x(frame), at - 9, str(frame), kind="suggested"))
    return "\n".join([*parts, "</svg>"])


def _y(confidence: float) -> float:
    return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - confidence)


def _axes(unit: str, frames: Mapping[int, float]) -> list[str]:
    """Both axes; `frames` are the places of frame numbers."""
    parts = []
    for value in (0, 0.25, 0.5, 0.75, 1):
        parts.append(_line(_LEFT, _y(value), _WIDTH - _RIGHT, _y(value), "grid"))
        parts.append(_text(_LEFT - 6, _y(value) + 4, f"{value:g}", anchor="end"))
    for frame, at in frames.items():
        parts.append(_line(at, _y(0), at, _y(0) + 4, "grid"))
        parts.append(_text(at, _y(0) + 17, str(frame)))
    parts.append(_text(_WIDTH - _RIGHT, _HEIGHT - 4, unit, anchor="end"))
    parts.append(_line(_LEFT, _y(SUGGESTED_BELOW), _WIDTH - _RIGHT, _y(SUGGESTED_BELOW), "limit"))
    return parts


def _line(x0: float, y0: float, x1: float, y1: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "middle", kind: str = "") -> str:
    # Near an end the text would leave the picture.
    anchor = (
        "start"
        if x < _LEFT + 20 and anchor == "middle"
        else "end"
        if x > _WIDTH - _RIGHT - 30
        else anchor
    )
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'


def ticks(first: int, last: int) -> list[int]:
    """At most a dozen round frame numbers from `first` to `last`."""
    step, factors = 1, (2, 2.5, 2)
    for n in range(60):
        if (last - first) / step < _TICKS:
            break
        step = round(step * factors[n % 3])
    return list(range(-(-first // step) * step, last + 1, step))


def extremes(confidence: Sequence[float], first: int, most: int) -> list[tuple[int, float]]:
    """(frame, confidence) of every frame; of a long run the least and the most of each of `most` stretches."""
    if len(confidence) <= 2 * most:
        return list(enumerate(confidence, first))
    points = []
    for n in range(most):
        stretch = range(n * len(confidence) // most, (n + 1) * len(confidence) // most)
        ends = {min(stretch, key=confidence.__getitem__), max(stretch, key=confidence.__getitem__)}
        points += [(first + index, confidence[index]) for index in sorted(ends)]
    return points
