"""`vidmatte schema`: the JSON schemas of results, prompts and manifests."""

from __future__ import annotations

import json

import click

from vidmatte.cli.console import print_result
from vidmatte.process import loading

_NAMES = ("summary", "results", "prompts", "manifest")


@click.command("schema")
@click.argument("name", type=click.Choice(_NAMES))
def schema_command(name: str) -> None:
    """Print a JSON schema (2020-12), for editors, scripts and checks.

    summary is what --json prints, results a line of the results of a batch, prompts a prompt file,
    and manifest a list of shots.
    """
    with loading():
        from vidmatte.schemas import SCHEMAS

    print_result(json.dumps(SCHEMAS[name](), indent=2))
