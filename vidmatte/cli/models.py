"""`vidmatte models`: what there is, what is installed, what a file of weights holds."""

from __future__ import annotations

import json
import sys

import click

from vidmatte.cli.console import one_line_errors
from vidmatte.model.catalogue import all_models
from vidmatte.model.checkpoint import Findings, convert, examine
from vidmatte.model.memory import gigabytes


@click.group("models", invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list on standard output.")
@click.pass_context
def models_command(ctx: click.Context, as_json: bool) -> None:
    """List the models: what each is made of, what is on this machine, its licence, and how to get it."""
    if ctx.invoked_subcommand is not None:
        return
    models = all_models()
    if as_json:
        click.echo(json.dumps([model.as_json() for model in models]))
        return
    for model in models:
        click.echo(
            f"{model.name} ({'installed' if model.installed else 'not installed'}): {model.description}"
        )
        for part in model.parts:
            state = (
                "here"
                if part.path is not None
                else "not here"
                if part.needed
                else "not here, optional"
            )
            click.echo(f"    {part.name}: {state}, {gigabytes(part.size)}, licence {part.licence}")
            click.echo(
                f"        from {part.source}: {part.get if part.path is None else part.path}"
            )


@models_command.command("check")
@click.argument("path", metavar="FILE")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def check_command(path: str, as_json: bool, debug: bool) -> None:
    """Say what a file of weights is, whether it loads strictly, and what is missing, surplus or no number.

    FILE may be a folder: Stable Diffusion in diffusers' layout, or a ViTMatte. Exit code 0 where it can be used.
    """
    with one_line_errors(debug=debug):
        findings = examine(path)
    if as_json:
        click.echo(json.dumps(findings.as_json()))
    else:
        _print_findings(findings)
    sys.exit(0 if findings.usable else 1)


@models_command.command("convert")
@click.argument("path", metavar="FILE")
@click.option("-o", "--output", required=True, metavar="PATH", help="File to write, .safetensors.")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def convert_command(path: str, output: str, overwrite: bool, debug: bool) -> None:
    """Write the weights of a checkpoint (.ckpt, .pth) as safetensors.

    Only tensors are read: no code that the checkpoint names is run.
    """
    with one_line_errors(debug=debug):
        left_out = convert(path, output, overwrite=overwrite)
        findings = examine(output)
    _print_findings(findings)
    if left_out:
        noun = "tensor" if len(left_out) == 1 else "tensors"
        click.echo(f"    left out: {len(left_out)} {noun} of the frozen feature extractor")


def _print_findings(findings: Findings) -> None:
    dtypes = ", ".join(f"{count} in {name}" for name, count in findings.dtypes.items())
    content = f"{findings.tensors} tensors ({dtypes}), {findings.numbers:,} numbers, {gigabytes(findings.size)}"
    click.echo(f"{findings.path}: {findings.kind}; {content}")
    wrong = {
        "missing": findings.mismatch.missing,
        "surplus": findings.mismatch.unexpected_keys,
        "of another shape": findings.mismatch.reshaped,
        "NaN or infinite": findings.not_finite,
        "problem": findings.problems,
    }
    for what, names in wrong.items():
        for name in names:
            click.echo(f"    {what}: {name}")
    click.echo(
        f"    loads; use it with {findings.use}" if findings.usable else "    cannot be used"
    )
