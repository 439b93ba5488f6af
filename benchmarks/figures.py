"""Measure the figures of the documents, and write them where they stand.

    python benchmarks/figures.py sample                         # needs the package alone
    python benchmarks/figures.py clips best adapted --clips DIR # eight clips as `evaluate clips` reads them
    python benchmarks/figures.py --write                        # write what is known into the pages

docs/figures.json keeps each measurement with its command, date, commit, machine and the hash of the
weights it was made with. A figure stands in a page as `<!--f:sample.mad-->0.0054<!--/f-->`.
`tests/test_figures.py` compares both, and refuses measurements of other weights than those that
ship.
"""  # noqa: E501

from __future__ import annotations

import datetime
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from vidmatte.model.weights import PARTS, WEIGHTS

ROOT = Path(__file__).parents[1]
RECORDS = ROOT / "docs" / "figures.json"
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
MARKED = re.compile(r"<!--f:([\w.-]+)-->(.*?)<!--/f-->")


@dataclass(frozen=True)
class Measurement:
    """A command whose output has figures."""

    arguments: tuple[str, ...]
    """Of `vidmatte`; {clips} is the folder of the clips, {out} an empty folder."""
    read: Callable[[str, Path], Mapping[str, str]]
    """Gives the figures of standard output and of the files in {out}."""


def read_sample(text: str, out: Path) -> dict[str, str]:
    """Return the figures of `vidmatte demo`."""
    found = re.search(r"MAD (\S+) \(worst frame (\S+)\), dtSSD (\S+), overlap J (\S+)$", text, re.M)
    assert found, f"no figures in {text!r}"
    mad, worst, dtssd, overlap = found.groups()
    return {"mad": mad, "worst": worst, "dtssd": dtssd, "j": f"{float(overlap):.3f}"}


def read_clips(text: str, out: Path) -> dict[str, str]:
    """Return J of an evaluation of clips: the mean, the worst, and each by its name."""
    document = json.loads((out / "summary.json").read_text())
    rows = {row["label"]: row["values"]["J"] for row in document["rows"]}
    worst = min(rows, key=rows.__getitem__)
    return {
        "j": f"{document['mean']['J']:.3f}",
        "worst": f"{rows[worst]:.3f}",
        "worst_clip": worst,
        **{name: f"{overlap:.3f}" for name, overlap in rows.items()},
    }


CLIPS = ("evaluate", "clips", "--root", "{clips}", "--frames", "50", "-o", "{out}", "--quiet")
MEASUREMENTS: Mapping[str, Measurement] = {
    "sample": Measurement(("demo", "{out}/demo"), read_sample),
    "clips": Measurement(CLIPS, read_clips),
    "best": Measurement((*CLIPS, "--quality", "best"), read_clips),
    "adapted": Measurement((*CLIPS, "--adapt-steps", "12"), read_clips),
}


def weights_hash() -> str:
    """Return the hash of the weights that ship, as short as it can be told from others."""
    each = [WEIGHTS["compact"].sha256, *(part.sha256 for part in PARTS.values())]
    return hashlib.sha256(" ".join(each).encode()).hexdigest()[:16]


def measure(name: str, clips: Path | None) -> dict[str, Any]:
    """Run a measurement, and return its record."""
    measurement = MEASUREMENTS[name]
    with tempfile.TemporaryDirectory() as folder:
        places = {"clips": str(clips), "out": folder}
        arguments = [word.format(**places) for word in measurement.arguments]
        command = [sys.executable, "-m", "vidmatte", *arguments]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        values = dict(measurement.read(done.stdout, Path(folder)))
    shown = [word for word in measurement.arguments if "{out}" not in word and word != "-o"]
    return {
        "values": values,
        "command": " ".join(["vidmatte", *shown]).replace("{clips}", "DIR"),
        "date": datetime.date.today().isoformat(),
        "commit": git("rev-parse", "--short", "HEAD") + ("+" if git("status", "-s") else ""),
        "machine": machine(),
        "weights": weights_hash(),
        "how": "by the command",
    }


def git(*arguments: str) -> str:
    """Return what git says."""
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def machine() -> str:
    """Return the processor, the number of its cores and the release of PyTorch."""
    import torch

    name = platform.processor() or platform.machine()
    facts = Path("/proc/cpuinfo")
    if facts.exists():
        found = re.search(r"^model name\s*: (.*)$", facts.read_text(), re.MULTILINE)
        name = found[1] if found else name
    return f"{os.cpu_count()} cores of {name}, PyTorch {torch.__version__}"


def figures(records: Mapping[str, Any]) -> dict[str, str]:
    """Return all figures by the name in the pages, such as "sample.mad"."""
    return {
        f"{name}.{key}": value
        for name, record in records.items()
        for key, value in (*record["values"].items(), *_facts(record))
    }


def _facts(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key in ("command", "date", "commit", "machine", "how"):
        yield key, record[key]


def written(text: str, values: Mapping[str, str]) -> str:
    """Return a page with its figures replaced by those that are known."""
    return MARKED.sub(lambda found: f"<!--f:{found[1]}-->{values[found[1]]}<!--/f-->", text)


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(MEASUREMENTS)))
@click.option("--clips", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--write", is_flag=True, help="Write the pages although nothing is measured.")
def main(names: Sequence[str], clips: Path | None, write: bool) -> None:
    """Measure, keep the record, and write the pages."""
    if not names and not write:
        raise click.UsageError(f"name what to measure: {', '.join(MEASUREMENTS)}; or --write")
    records = json.loads(RECORDS.read_text(encoding="utf-8"))
    for name in names:
        if "{clips}" in MEASUREMENTS[name].arguments and clips is None:
            raise click.UsageError(f"{name} is measured on clips: give --clips DIR")
        records[name] = measure(name, clips)
        print(name, records[name]["values"])
        RECORDS.write_text(json.dumps(records, indent=2) + "\n", encoding="utf-8")
    values = figures(records)
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if (new := written(text, values)) != text:
            page.write_text(new, encoding="utf-8")
            print(page.relative_to(ROOT))


if __name__ == "__main__":
    main()
