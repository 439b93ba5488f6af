import ast
import subprocess
import sys
from pathlib import Path

import click
import pytest

import vidmatte
from vidmatte.cli import cli

PACKAGE = Path(vidmatte.__file__).parent
MODULES = {
    path.relative_to(PACKAGE).with_suffix("").as_posix().removesuffix("/__init__"): path
    for path in PACKAGE.rglob("*.py")
}
ABOVE_THE_PIPELINE = ("batch", "cli", "evaluate", "web")


def test_public_names_are_few_sorted_and_there():
    names = vidmatte.__all__
    assert names == sorted(names)
    assert len(names) <= 16
    assert all(hasattr(vidmatte, name) for name in names)


def test_import_does_not_load_what_only_some_need():
    heavy = (
        "diffusers",
        "huggingface_hub",
        "transformers",
        "ray",
        "starlette",
        "click",
        "rich",
        "decord",
        "OpenEXR",
        "pymatting",
        "matplotlib",
    )
    code = f"import sys, vidmatte; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def imported(path):
    """Names of the modules of this package that a file imports, with slashes."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "vidmatte":
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names if alias.name.split(".")[0] == "vidmatte"}
    return {name.removeprefix("vidmatte.").replace(".", "/") for name in names} & set(MODULES)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_go_one_way(module):
    """errors, frames <- stages <- pipeline <- evaluate, batch, web <- command line."""
    package = module.split("/")[0]
    used = {name.split("/")[0] for name in imported(MODULES[module])}
    if package in ("errors", "frames", "stream"):
        assert used <= {"errors"}
    if package not in ("cli", "__main__"):
        assert not used & {"cli", "progress", "__main__"}
    if package not in (*ABOVE_THE_PIPELINE, "__init__", "__main__"):
        assert not used & {"pipeline", *ABOVE_THE_PIPELINE}


def test_terminal_libraries_appear_only_in_the_command_line():
    for module, path in MODULES.items():
        text = path.read_text(encoding="utf-8")
        if module.split("/")[0] not in ("cli", "progress"):
            assert "import click" not in text, module
            assert "import rich" not in text, module
            assert "from rich" not in text, module


def options():
    for name, command in cli.commands.items():
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                yield pytest.param(parameter, id=f"{name} {parameter.opts[0]}")


@pytest.mark.parametrize("option", list(options()))
def test_every_option_has_help(option):
    assert option.help
    assert option.help.endswith((".", "]"))
