"""The documents are right: commands parse, code runs, links lead somewhere, tables agree."""

import contextlib
import importlib.util
import re
import shlex
from itertools import chain
from pathlib import Path

import click
import pytest
from clips import write_movie
from evaluation import RedModel, write_group

import vidmatte
from vidmatte.cli import cli
from vidmatte.config import KEYS
from vidmatte.datasets.catalogue import DATASETS
from vidmatte.model.catalogue import DESCRIPTIONS
from vidmatte.option_table import MANIFEST_KEYS
from vidmatte.synth.blender import render_parser
from vidmatte.synth.fill_command import _parser as bank_parser
from vidmatte.synth.groom import groom_parser
from vidmatte.train.mattes import mattes_parser
from vidmatte.write import FORMATS, formats_of

try:
    import tomllib
except ImportError:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
FILES = [*sorted(ROOT.glob("*.md")), ROOT / "samples" / "README.md", *sorted(DOCS.rglob("*.md"))]
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in FILES}
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`([^`\n]+)`")


def without_blocks(text):
    return FENCE.sub("", text)


def blocks(language):
    """The blocks of a language on all pages; one that stands on several pages once."""
    found = {}
    for page, text in PAGES.items():
        for number, match in enumerate(
            match for match in FENCE.finditer(text) if match[1] == language
        ):
            found.setdefault(match[2], f"{page}:{number}")
    return [pytest.param(code, id=place) for code, place in found.items()]


def shell_lines():
    """Each command of the shell blocks, without its comment, on one line."""
    for block in blocks("sh"):
        for line in block.values[0].replace("\\\n", " ").splitlines():
            if command := re.sub(r"(^|\s)#.*$", "", line).strip():
                yield pytest.param(command, id=f"{block.id} {command[:60]}")


def inline_commands():
    """Commands in running text and tables, such as `vidmatte evaluate clips --root DIR`."""
    found = {}
    for page, text in PAGES.items():
        if page in (
            "CHANGELOG.md",
            "docs/options.md",
        ):  # may name what is gone; usage lines and templates
            continue
        for match in INLINE.finditer(without_blocks(text)):
            if match[1].startswith("vidmatte "):
                found.setdefault(match[1], page)
    return [pytest.param(command, id=f"{page} {command[:60]}") for command, page in found.items()]


def parse(arguments):
    """Parse arguments of the program as the program does; raises what click raises."""
    command, context = cli, click.Context(cli, info_name="vidmatte", **cli.context_settings)
    if arguments[:1] in (["--version"], ["--help"]):
        return
    while isinstance(command, click.Group) and arguments:
        name, command, arguments = command.resolve_command(context, list(arguments))
        context = click.Context(command, info_name=name, parent=context)
    if isinstance(command, click.Group) or not arguments:
        return  # the command is only named
    with command.make_context(context.info_name, list(arguments), parent=context.parent):
        pass


def check_pip(arguments):
    """Extras in pip's arguments exist."""
    for extras in re.findall(r"\[([\w,]+)\]", " ".join(arguments)):
        assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])


def check_python(arguments):
    """A script exists; of a module of ours the arguments parse."""
    if arguments[:1] == ["-m"]:
        module, *rest = arguments[1:]
        known = ("vidmatte", *SYNTH_PARSERS, "venv", "build", "http.server", "pip")
        assert module in known
        if module == "vidmatte":
            parse(rest)
        elif module in SYNTH_PARSERS:
            SYNTH_PARSERS[module]().parse_args(rest)
    else:
        assert (ROOT / arguments[0]).is_file()


def check_make(arguments):
    """Targets exist."""
    for target in arguments:
        assert re.search(rf"^{re.escape(target)}:", MAKEFILE, re.MULTILINE), target


def check_torchrun(arguments):
    """What it starts is a module of ours, whose arguments parse."""
    check_python(arguments[arguments.index("-m") :])


SYNTH_PARSERS = {
    "vidmatte.synth": bank_parser,
    "vidmatte.synth.groom": groom_parser,
    "vidmatte.synth.blender.render": render_parser,
    "vidmatte.train.mattes": mattes_parser,
}
PROGRAMS = {
    "vidmatte": parse,
    "pip": check_pip,
    "python": check_python,
    "make": check_make,
    "torchrun": check_torchrun,
    "source": lambda arguments: None,
    ".ci/run": lambda arguments: parse_nothing(arguments),
}


def parse_nothing(arguments):
    assert not arguments


def test_there_is_something_to_check():
    assert len(list(shell_lines())) >= 40
    assert len(blocks("python")) >= 4
    assert len(inline_commands()) >= 10


@pytest.mark.parametrize("command", list(shell_lines()))
def test_commands_of_the_documents_parse(command):
    program, *arguments = shlex.split(command)
    PROGRAMS[program](arguments)


@pytest.mark.parametrize("command", inline_commands())
def test_commands_in_running_text_parse(command):
    with contextlib.suppress(click.exceptions.Exit):  # an option that prints something and ends
        parse(shlex.split(command)[1:])


@pytest.mark.parametrize("page", PAGES)
def test_commands_stand_in_blocks_that_are_tested(page):
    text = without_blocks(PAGES[page])
    assert not re.search(r"^ {4,}(vidmatte|python|pip|make) ", text, re.MULTILINE), (
        "use a block of sh"
    )
    languages = {match[1] for match in FENCE.finditer(PAGES[page])}
    assert languages <= {"sh", "python", "toml", "text"}


@pytest.mark.parametrize("code", blocks("python"))
def test_code_of_the_documents_runs(code, tmp_path, monkeypatch):
    write_movie(tmp_path / "clip.mp4", frames=3, size=(1280, 720))
    write_group(tmp_path / "photographs", "things", [0, 3, 5])
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    exec(compile(code, "document", "exec"), {"load_mine": lambda switches: RedModel()})
    assert set(tmp_path.iterdir()) > before, "nothing was written"


@pytest.mark.parametrize("text", blocks("toml"))
def test_manifests_of_the_documents_have_known_keys(text):
    document = tomllib.loads(text)
    used = set(chain(document["defaults"], *document.get("shots", ())))
    # A table of defaults alone is a vidmatte.toml.
    assert used <= set(MANIFEST_KEYS if "shots" in document else KEYS)


def test_the_table_of_formats_is_complete():
    text = PAGES["docs/formats.md"]
    rows = [line for line in text.splitlines() if re.match(r"\| `[%.]", line)]
    table = {
        Path(row.split("`")[1]).suffix or row.split("`")[1]: row.split("|")[2:4] for row in rows
    }
    written = {
        (suffix, alpha_only)
        for suffix, cells in table.items()
        for alpha_only in (False, True)
        if cells[alpha_only].strip()
    }
    assert written == {(form.extension, form.alpha_only) for form in FORMATS}
    for form in FORMATS:
        usual = form == formats_of(form.extension, alpha_only=form.alpha_only)[0]
        cell = table[form.extension][form.alpha_only]
        if usual and not form.over_black:
            assert form.description.split(",")[0].split(" ")[0] in cell
        else:
            assert f"`{form.name}`" in cell or f"`{form.name}`" in text
        for word in (*form.presets, *(f"{name}=" for name in form.parameters)):
            assert re.search(rf"`{word}(\d+)?`", text)


def anchors(text):
    """The anchors that MkDocs and GitHub make of headings."""
    headings = re.findall(r"^#+ +(.+?) *$", without_blocks(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page):
    """Relative links of a page, pictures too: (file, anchor)."""
    text = INLINE.sub("", without_blocks(PAGES[page]))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", target):
            yield target.partition("#")[::2]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    folder = (ROOT / page).parent
    for file, anchor in links(page):
        target = (folder / file).resolve() if file else ROOT / page
        assert target.exists(), file
        if page.startswith("docs/"):
            assert target.is_relative_to(DOCS), (
                f"{file} is no part of the site: link to the repository instead"
            )
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), f"{file}#{anchor}"


@pytest.mark.parametrize("page", [page for page in PAGES if page != "CHANGELOG.md"])
def test_files_that_are_named_exist(page):
    for code in INLINE.findall(PAGES[page]):
        file = code.split(" ")[0]
        if (
            "/" in file
            and re.fullmatch(r"[\w./-]+\.(py|toml|yml|safetensors)", file)
            and not file.startswith("runs/")
        ):
            assert (ROOT / file).exists() or (ROOT / "vidmatte" / file).exists(), file


def test_every_package_is_on_the_architecture_page():
    for path in (ROOT / "vidmatte").iterdir():
        if path.suffix == ".py" and not path.name.startswith("__"):
            assert f"`{path.name}`" in PAGES["docs/architecture.md"]
        elif (path / "__init__.py").exists():
            assert f"`{path.name}/`" in PAGES["docs/architecture.md"]


def test_functions_of_the_walks_are_where_they_are_said_to_be():
    named = re.findall(r"`(\w+)`\s+\(`([\w/]+\.py)`\)", PAGES["docs/architecture.md"])
    assert len(named) >= 12
    for name, file in named:
        text = (ROOT / "vidmatte" / file).read_text(encoding="utf-8")
        assert re.search(rf"^\s*(def|class) {name}\b|^{name}\b", text, re.MULTILINE), (
            f"{name} in {file}"
        )


def test_the_reference_of_options_is_up_to_date():
    spec = importlib.util.spec_from_file_location("make_options", DOCS / "make_options.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert PAGES["docs/options.md"] == module.options_page(), "run make options"


def commands(group=cli, path="vidmatte"):
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")


@pytest.mark.parametrize(
    ("path", "command"), [pytest.param(*found, id=found[0]) for found in commands()]
)
def test_every_option_is_in_the_reference(path, command):
    section = re.search(
        rf"^## {path}\n(.*?)(?=^## |\Z)", PAGES["docs/options.md"], re.DOTALL | re.MULTILINE
    )[1]
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            for name in parameter.opts:
                assert re.search(rf"{re.escape(name)}\b", section), name


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for path in DOCS.rglob("*.md"):
        assert re.search(
            rf"(?:: |- ){path.relative_to(DOCS).as_posix()}$", navigation, re.MULTILINE
        ), path.name


def test_every_public_name_is_in_the_reference():
    documented = set(re.findall(r"^::: vidmatte\.(\w+)$", PAGES["docs/api.md"], re.MULTILINE))
    # Errors are shown as one module.
    assert documented >= set(vidmatte.__all__) - {
        "VidmatteError",
        "__version__",
    }
    assert "::: vidmatte.errors\n" in PAGES["docs/api.md"]


def test_every_model_is_in_the_tables():
    for name in DESCRIPTIONS:
        assert f"`{name}`" in PAGES["docs/models.md"], name
        assert f"`{name}`" in PAGES["README.md"], name


def test_every_data_set_is_in_the_table():
    for name in DATASETS:
        assert f"| `{name}` |" in PAGES["docs/evaluate.md"], name


def test_every_extra_is_in_the_quick_start():
    for name in set(PROJECT["optional-dependencies"]) - {"dev", "docs"}:
        assert re.search(rf"^\| .*`{name}`.* \|", PAGES["docs/index.md"], re.MULTILINE), name


def test_the_readme_is_short():
    assert len(PAGES["README.md"].split()) < 900


def test_changelog_citation_and_package_have_one_version():
    released = re.search(r"^## \[(\d[\w.]*)\] - (\S+)$", PAGES["CHANGELOG.md"], re.MULTILINE)
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert released[1] == vidmatte.__version__
    assert f"\nversion: {released[1]}\n" in citation
    assert f"\ndate-released: {released[2]}\n" in citation
