"""The page of a batch: what failed, then every shot with its contact sheet, the least sure first."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from vidmatte.batch.run import ShotRun
from vidmatte.errors import WriteError
from vidmatte.media.atomic import atomic_write

PAGE, SHEETS = "index.html", "sheets"

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2em auto; padding: 0 1em; color: #ddd;
       background: #1c1c1c; }
h1 { font-size: 1.4em; } h2 { font-size: 1.1em; margin-top: 2em; overflow-wrap: anywhere; }
img { max-width: 100%; height: auto; } a { color: #7ab8ff; }
table { border-collapse: collapse; } td, th { padding: 0 1.2em 0 0; text-align: left; vertical-align: top; }
th { font-weight: normal; color: #999; } .failed { color: #ff8a7a; } .low { color: #ffa03c; }
"""


def write_page(folder: Path, runs: Sequence[ShotRun], title: str) -> Path:
    """Write the page into a folder that has the contact sheets in `sheets/`. Raises WriteError."""
    failed = [run for run in runs if run.state == "failed"]
    others = sorted((run for run in runs if run.state != "failed"), key=_least)
    parts = [f"<h1>{escape(title)}</h1>", _count(runs)]
    if failed:
        rows = [
            f"<tr><td>{escape(run.name)}</td><td>{escape(run.reason)}</td></tr>" for run in failed
        ]
        parts.append(f'<h2 class="failed">{len(failed)} failed</h2><table>{"".join(rows)}</table>')
    parts += [_shot(folder, run) for run in others]
    text = (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n{chr(10).join(parts)}\n</body>\n</html>\n"
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write(folder / PAGE, text)
    except OSError as error:
        raise WriteError(
            f"{folder}: the page cannot be written ({error.strerror}); choose another folder"
        ) from error
    return folder / PAGE


def _least(run: ShotRun) -> float:
    return float(run.record.get("confidence", {}).get("min", 2.0))


def _count(runs: Sequence[ShotRun]) -> str:
    counts: dict[str, int] = {}
    for run in runs:
        counts[run.state] = counts.get(run.state, 0) + 1
    return f"<p>{len(runs)} shots: {', '.join(f'{count} {state}' for state, count in counts.items())}</p>"


def _shot(folder: Path, run: ShotRun) -> str:
    record = run.record
    rows: dict[str, str] = {"State": run.state}
    if "frames" in record:
        rows["Frames"] = (
            f"{record['frames']} in {record.get('seconds', 0)} s, {record.get('model', '')}"
        )
        confidence = record["confidence"]
        rows["Confidence"] = (
            f"{confidence['mean']:.2f} on average, {confidence['min']:.2f} at the least"
        )
        lowest = ", ".join(f"{frame} ({value:.2f})" for frame, value in record.get("lowest", ()))
        rows["Least sure frames"] = lowest
        rows["Outputs"] = ", ".join(output["path"] for output in record.get("outputs", ()))
    cells = "".join(
        f"<tr><th>{name}</th><td>{escape(text)}</td></tr>" for name, text in rows.items()
    )
    sheet = folder / SHEETS / f"{run.name}.jpg"
    alt = f"Contact sheet of {escape(run.name)}, the least sure frames first"
    image = f'<p><img loading="lazy" alt="{alt}" src="{SHEETS}/'
    image = f'{image}{escape(sheet.name)}"></p>' if sheet.is_file() else ""
    return f"<h2>{escape(run.name)}</h2><table>{cells}</table>{image}"
