"""Measure the figures of the documents, and write them where they stand.

    python benchmarks/figures.py sample                         # needs the package alone
    python benchmarks/figures.py clips best adapted --clips DIR # eight clips as `evaluate clips` reads them
    python benchmarks/figures.py clicks prompts --clips DIR     # and clicks-photographs, prompts-photographs,
                                                                # of --photographs GROUPS, the layout `groups`
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
MARKS = {
    **{f"J@{clicks}": f"j{clicks}" for clicks in (1, 3, 5, 10)},
    "NoC@85": "noc85",
    "NoC@90": "noc90",
    "drops": "drops",
    "box": "box",
    "box + point": "box-and-point",
    "3 on, 1 off": "points",
    "stroke": "stroke",
}
"""Names of the figures of marks in the pages, by those of `evaluate clicks`."""


@dataclass(frozen=True)
class Measurement:
    """A command whose output has figures."""

    arguments: tuple[str, ...]
    """Of `vidmatte`; {clips} and {photographs} are folders of data, {out} is an empty one."""
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


def read_marks(text: str, out: Path) -> dict[str, str]:
    """Return the means of an evaluation of clicks or of the usual prompts, and how many images."""
    document = json.loads((out / "summary.json").read_text())
    means = {MARKS[name]: f"{value:.3f}" for name, value in document["mean"].items()}
    return {"images": str(sum(row["samples"] for row in document["rows"])), **means}


CLIPS = ("evaluate", "clips", "--root", "{clips}", "--frames", "50", "-o", "{out}", "--quiet")
CLICKS = ("evaluate", "clicks", "clips", "--root", "{clips}", "-o", "{out}", "--quiet")
ON_PHOTOGRAPHS = ("evaluate", "clicks", "groups", "--root", "{photographs}", *CLICKS[5:])
MEASUREMENTS: Mapping[str, Measurement] = {
    "sample": Measurement(("demo", "{out}/demo"), read_sample),
    "clips": Measurement(CLIPS, read_clips),
    "best": Measurement((*CLIPS, "--quality", "best"), read_clips),
    "adapted": Measurement((*CLIPS, "--adapt-steps", "12"), read_clips),
    "clicks": Measurement(CLICKS, read_marks),
    "clicks-photographs": Measurement(ON_PHOTOGRAPHS, read_marks),
    "prompts": Measurement((*CLICKS, "--prompts"), read_marks),
    "prompts-photographs": Measurement((*ON_PHOTOGRAPHS, "--prompts"), read_marks),
}


def weights_hash() -> str:
    """Return the hash of the weights that ship, as short as it can be told from others."""
    each = [WEIGHTS["compact"].sha256, *(part.sha256 for part in PARTS.values())]
    return hashlib.sha256(" ".join(each).encode()).hexdigest()[:16]


def measure(name: str, data: Mapping[str, Path | None]) -> dict[str, Any]:
    """Run a measurement on folders of data, by their names in its command; return its record."""
    measurement = MEASUREMENTS[name]
    with tempfile.TemporaryDirectory() as folder:
        places = {"out": folder, **data}
        arguments = [word.format(**places) for word in measurement.arguments]
        command = [sys.executable, "-m", "vidmatte", *arguments]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        values = dict(measurement.read(done.stdout, Path(folder)))
    shown = [word for word in measurement.arguments if "{out}" not in word and word != "-o"]
    return {
        "values": values,
        "command": re.sub(r"{\w+}", "DIR", " ".join(["vidmatte", *shown])),
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
    each = {
        f"{name}.{key}": value
        for name, record in records.items()
        for key, value in (*record["values"].items(), *_facts(record))
    }
    for name in ("clicks", "prompts"):
        if name in records and f"{name}-photographs" in records:
            both = [records[kind]["values"] for kind in (name, f"{name}-photographs")]
            each |= {f"{name}-both.{key}": value for key, value in pooled(both).items()}
    return each


def pooled(parts: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return the means over all images of several evaluations of marks."""
    counts = [int(part["images"]) for part in parts]
    means = {
        key: sum(count * float(part[key]) for count, part in zip(counts, parts, strict=True))
        for key in parts[0].keys() - {"images"}
    }
    total = sum(counts)
    return {"images": str(total), **{key: f"{sums / total:.3f}" for key, sums in means.items()}}


def _facts(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key in ("command", "date", "commit", "machine", "how"):
        yield key, record[key]


def written(text: str, values: Mapping[str, str]) -> str:
    """Return a page with its figures replaced by those that are known."""
    return MARKED.sub(lambda found: f"<!--f:{found[1]}-->{values[found[1]]}<!--/f-->", text)


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(MEASUREMENTS)))
@click.option("--clips", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--photographs", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--write", is_flag=True, help="Write the pages although nothing is measured.")
def main(names: Sequence[str], write: bool, **data: Path | None) -> None:
    """Measure, keep the record, and write the pages."""
    if not names and not write:
        raise click.UsageError(f"name what to measure: {', '.join(MEASUREMENTS)}; or --write")
    records = json.loads(RECORDS.read_text(encoding="utf-8"))
    for name in names:
        for folder, path in data.items():
            if f"{{{folder}}}" in MEASUREMENTS[name].arguments and path is None:
                raise click.UsageError(f"{name} is measured on {folder}: give --{folder} DIR")
        records[name] = measure(name, data)
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
