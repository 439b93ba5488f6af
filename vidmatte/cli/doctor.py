"""`vidmatte doctor`: what this installation can do."""

from __future__ import annotations

import json
import sys
from itertools import groupby
from pathlib import Path

import click

from vidmatte.cli.diagnose import Finding, diagnose


@click.command("doctor")
@click.option("--folder", type=click.Path(path_type=Path), metavar="DIR",
              help="Where outputs would go.  [default: the working directory]")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")
def doctor_command(folder: Path | None, as_json: bool) -> None:
    """Say what this installation can read, write and run on, and what to do about what is missing.

    Exit code 0 where the embedded model runs and the default outputs can be written, else 1.
    """
    diagnosis = diagnose(folder)
    if as_json:
        click.echo(json.dumps(diagnosis.as_json()))
    else:
        for topic, findings in groupby(diagnosis.findings, key=lambda finding: finding.topic):
            click.echo(topic)
            for finding in findings:
                _print(finding)
        click.echo(
            "vidmatte can run here"
            if diagnosis.usable
            else "vidmatte cannot run here: see what FAILED"
        )
    sys.exit(0 if diagnosis.usable else 1)


def _print(finding: Finding) -> None:
    state = "ok" if finding.good else "FAILED" if finding.needed else "--"
    click.echo(f"  {state:6s} {finding.name}: {finding.found}")
    if not finding.good and finding.remedy:
        click.echo(f"         {finding.remedy}")
