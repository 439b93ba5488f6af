"""`vidmatte models`: the models, what is installed, and what a file of weights holds."""

from __future__ import annotations

import sys

import click

from vidmatte.cli.console import DONE, FAILED, one_line_errors, print_json, print_result
from vidmatte.model.catalogue import ModelFacts, all_models
from vidmatte.model.checkpoint import Findings, convert, examine
from vidmatte.model.memory import gigabytes


@click.group("models", invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list on standard output.")
@click.pass_context
def models_command(ctx: click.Context, as_json: bool) -> None:
    """List the models: their parts, what is on this machine, licences, how to get them."""
    # Without a command, the group itself lists the models.
    if ctx.invoked_subcommand is not None:
        return
    models = all_models()
    if as_json:
        print_json([model.as_json() for model in models])
        return
    for model in models:
        _print_model(model)


def _print_model(model: ModelFacts) -> None:
    state = "installed" if model.installed else "not installed"
    print_result(f"{model.name} ({state}): {model.description}")
    for part in model.parts:
        missing = "not here" if part.needed else "not here, optional"
        state = missing if part.path is None else "here"
        print_result(f"    {part.name}: {state}, {gigabytes(part.size)}, licence {part.licence}")
        # Where it is, or how it is got.
        place = part.get if part.path is None else part.path
        print_result(f"        from {part.source}: {place}")


@models_command.command("check")
@click.argument("path", metavar="FILE")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def check_command(path: str, as_json: bool, debug: bool) -> None:
    """Say what a file of weights is, whether it loads, and which tensors are missing or not finite.

    FILE may be a folder: Stable Diffusion in diffusers' layout, or a ViTMatte. Exit code 0 if it
    can be used.
    """
    with one_line_errors(debug=debug, as_json=as_json):
        findings = examine(path)
    if as_json:
        print_json(findings.as_json())
    else:
        _print_findings(findings)
    sys.exit(DONE if findings.usable else FAILED)


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
        # The written file is examined, not the one that was read.
        findings = examine(output)
    _print_findings(findings)
    if left_out:
        noun = "tensor" if len(left_out) == 1 else "tensors"
        print_result(f"    left out: {len(left_out)} {noun} of the frozen feature extractor")


def _print_findings(findings: Findings) -> None:
    dtypes = ", ".join(f"{count} in {name}" for name, count in findings.dtypes.items())
    content = (
        f"{findings.tensors} tensors ({dtypes}), {findings.numbers:,} numbers, "
        f"{gigabytes(findings.size)}"
    )
    print_result(f"{findings.path}: {findings.kind}; {content}")
    wrong = {
        "missing": findings.mismatch.missing,
        "surplus": findings.mismatch.unexpected_keys,
        "of another shape": findings.mismatch.reshaped,
        "NaN or infinite": findings.not_finite,
        "problem": findings.problems,
    }
    for what, names in wrong.items():
        for name in names:
            print_result(f"    {what}: {name}")
    verdict = f"loads; use it with {findings.use}" if findings.usable else "cannot be used"
    print_result(f"    {verdict}")
