"""`vidmatte doctor`: what this installation can do."""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vidmatte.cli.console import DONE, FAILED, print_json, print_result
from vidmatte.process import loading

if TYPE_CHECKING:
    from vidmatte.cli.diagnose import Finding


@click.command("doctor")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where outputs would go.  [default: the working directory]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")
def doctor_command(folder: Path | None, as_json: bool) -> None:
    """Say what this installation can read, write and run on, and what to do about what is missing.

    Exit code 0 if the embedded model runs and the default outputs can be written, else 1.
    """
    with loading():
        from vidmatte.cli import diagnose

    diagnosis = diagnose.diagnose(folder)
    if as_json:
        print_json(diagnosis.as_json())
    else:
        for topic, findings in groupby(diagnosis.findings, key=lambda finding: finding.topic):
            print_result(topic)
            for finding in findings:
                _print(finding)
        print_result(
            "vidmatte can run here"
            if diagnosis.usable
            else "vidmatte cannot run here: see what FAILED"
        )
    sys.exit(DONE if diagnosis.usable else FAILED)


def _print(finding: Finding) -> None:
    # A missing extra is no failure, only a missing part of the default path.
    state = "ok" if finding.good else "FAILED" if finding.needed else "--"
    print_result(f"  {state:6s} {finding.name}: {finding.found}")
    if not finding.good and finding.remedy:
        print_result(f"         {finding.remedy}")
