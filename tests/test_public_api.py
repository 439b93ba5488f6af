import ast
import dataclasses
import inspect
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

import vidmatte
from vidmatte.cli import cli
from vidmatte.options import Despill, FinishOptions, MatteOptions
from vidmatte.prompts import prompt
from vidmatte.stages import smooth as smoothing

PACKAGE = Path(vidmatte.__file__).parent
MODULES = {
    path.relative_to(PACKAGE).with_suffix("").as_posix().removesuffix("/__init__"): path
    for path in PACKAGE.rglob("*.py")
}
LAYERS = (
    "sample",
    "errors",
    "process",
    "threads",
    "options",
    "option_table",
    "frames",
    "metrics",
    "python_errors",
    "imaging",
    "media",
    "config",
    "read",
    "write",
    "hosts",
    "prompts",
    "synth",
    "model",
    "datasets",
    "stages",
    "report",
    "pipeline",
    "evaluate",
    "train",
    "edit",
    "batch",
    "schemas",
    "web",
    "service",
    "cli",
)
"""All packages and modules of the root, each importing only from those before it."""


def test_public_names_are_few_sorted_and_there():
    names = vidmatte.__all__
    assert names == sorted(names)
    assert len(names) <= 24
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
    code = f"""
import sys, vidmatte
print([name for name in sys.modules if name.startswith(("torch", "numpy", "vidmatte."))])
for name in vidmatte.__all__:
    getattr(vidmatte, name)
print([name for name in {heavy} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "[]"]


def test_names_are_those_of_their_modules():
    assert set(vidmatte._MODULES) == set(vidmatte.__all__) - {"__version__"}
    assert set(vidmatte.__all__) <= set(dir(vidmatte))
    assert vidmatte.smooth is smoothing.smooth
    assert vidmatte.Prompt is prompt.Prompt
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        vidmatte.nothing  # noqa: B018


def imported(path, *, running=False):
    """Return the modules of this package that a file imports, with slashes.

    With `running`, return only those that its import runs.
    """
    names = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body if running else ast.walk(tree):
        if (
            isinstance(node, ast.ImportFrom)
            and node.module
            and node.module.split(".")[0] == "vidmatte"
        ):
            for alias in node.names:
                full = f"{node.module}.{alias.name}".removeprefix("vidmatte.").replace(".", "/")
                names.add(
                    full
                    if full in MODULES
                    else node.module.removeprefix("vidmatte.").replace(".", "/")
                )
        elif isinstance(node, ast.Import):
            names |= {
                alias.name.removeprefix("vidmatte.").replace(".", "/") for alias in node.names
            }
    return names & set(MODULES)


def test_every_package_has_its_layer():
    assert {name.split("/")[0] for name in MODULES} == {*LAYERS, "__init__", "__main__"}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_go_one_way(module):
    """A package imports only what stands before it in `LAYERS`."""
    package = module.split("/")[0]
    used = {name.split("/")[0] for name in imported(MODULES[module])}
    if package in LAYERS:
        assert used <= {*LAYERS[: LAYERS.index(package) + 1], "__init__"}


CONCRETE_MODELS = ("model/compact/", "model/iconmatting/", "model/baselines/", "model/external")
BUILDERS = ("train/", "cli/train", "synth/", "model/")
"""Packages that make networks, and so know which one they make."""


@pytest.mark.parametrize("module", sorted(MODULES))
def test_models_are_asked_for_what_they_support_and_not_for_their_class(module):
    text = MODULES[module].read_text(encoding="utf-8")
    if not module.startswith(BUILDERS):
        concrete = [name for name in imported(MODULES[module]) if name.startswith(CONCRETE_MODELS)]
        classes = re.findall(
            r"isinstance\([^()]*, (?:\w+ \| )*(\w+(?:Model|Predictor|Mattes))\)", text
        )
        assert not classes
        # What reads masks beside frames, and lays mattes beside a clip, is in `model.external`.
        assert set(concrete) <= {"model/external"}


@pytest.mark.parametrize("module", sorted(name for name in MODULES if name.startswith("stages/")))
def test_stages_pass_on_tensors_and_leave_arrays_to_imaging(module):
    text = MODULES[module].read_text(encoding="utf-8")
    assert not re.search(r"import numpy|from numpy|\.numpy\(\)|from_numpy", text)


def test_options_and_errors_stand_on_the_ground():
    assert not imported(MODULES["errors"])
    assert imported(MODULES["options"]) == {"errors"}


def test_modules_import_each_other_in_no_circle():
    uses = {name: imported(path, running=True) - {name} for name, path in MODULES.items()}
    while free := {name for name, used in uses.items() if not used & set(uses)}:
        uses = {name: used for name, used in uses.items() if name not in free}
    assert not uses


def test_plain_values_load_neither_torch_nor_networks():
    code = """
import sys, vidmatte
vidmatte.MatteOptions(), vidmatte.Prompt(points=((1, 1, 1),))
print(*sorted(name for name in sys.modules if name.startswith(("torch", "numpy", "cv2", "av", "vidmatte"))))
"""  # noqa: E501
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    light = [
        "vidmatte",
        "vidmatte.errors",
        "vidmatte.options",
        "vidmatte.prompts",
        "vidmatte.prompts.prompt",
        "vidmatte.python_errors",
    ]
    assert done.stdout.split() == light


def test_terminal_libraries_appear_only_in_the_command_line():
    for module, path in MODULES.items():
        text = path.read_text(encoding="utf-8")
        if module.split("/")[0] != "cli":
            assert "import click\n" not in text, module
            assert "import rich" not in text, module
            assert "from rich" not in text, module


def commands():
    context = click.Context(cli)
    return {name: cli.get_command(context, name) for name in cli.list_commands(context)}


def options():
    for name, command in commands().items():
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                yield pytest.param(parameter, id=f"{name} {parameter.opts[0]}")


@pytest.mark.parametrize("option", list(options()))
def test_every_option_has_help(option):
    assert option.help
    assert option.help.endswith((".", "]"))


BANNED = re.compile(
    r"(^|_)(rehears\w*|practi[sc]e\w*|matters?|follow\w*|legs?|things?|shoot\w*|spools?|takers?|prints?|surplus|outlines?"
    r"|marks?|marked|picture|pictures|footage|looks?|may_pass|given)(_|$)"
)
"""Words that docs/glossary.md has others for."""


def public_names():
    yield from vidmatte.__all__
    for values in (
        MatteOptions,
        FinishOptions,
        Despill,
        vidmatte.Prompt,
        vidmatte.Stroke,
        vidmatte.Reference,
    ):
        yield from (field.name for field in dataclasses.fields(values))
    for command in commands().values():
        yield from (parameter.name for parameter in command.params)
        yield from (name.lstrip("-") for parameter in command.params for name in parameter.opts)
    yield from inspect.signature(vidmatte.matte).parameters


@pytest.mark.parametrize("name", sorted(set(public_names())))
def test_public_names_use_the_words_of_the_glossary(name):
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).replace("-", "_").lower()
    assert not BANNED.search(words)


def test_the_glossary_is_in_order_and_uses_no_banned_word():
    text = (PACKAGE.parent / "docs" / "glossary.md").read_text(encoding="utf-8")
    words = [
        line.split("|")[1].split(",")[0].strip()
        for line in text.splitlines()
        if line.startswith("| ")
    ][2:]
    assert words == sorted(words)
    assert not [word for word in words if BANNED.search(word)]
