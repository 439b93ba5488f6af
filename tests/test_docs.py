"""The documents are right: commands parse, code runs, tables agree with the program."""

import re
import shlex
from pathlib import Path

import click
import pytest
from clips import write_movie

from vidmatte.cli import cli
from vidmatte.write import FORMATS, formats_of

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LONGER = (ROOT / "docs" / "evaluate.md").read_text(encoding="utf-8")
COMMANDS = [line.strip() for line in (README + LONGER).splitlines() if line.startswith("    vidmatte ")]
CODE = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_there_is_something_to_check():
    assert len(COMMANDS) >= 5
    assert len(CODE) == 2


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_documents_parse(command):
    arguments = shlex.split(command)[1:]
    context = click.Context(cli)
    _, found, rest = cli.resolve_command(context, arguments)
    with found.make_context(found.name, list(rest)):
        pass  # parsing raises for an unknown option or a value of the wrong kind


@pytest.mark.parametrize("code", CODE)
def test_code_of_the_readme_runs(code, tmp_path, monkeypatch):
    write_movie(tmp_path / "clip.mp4", frames=3, size=(1280, 720))
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert any(path.name.startswith("shot") for path in tmp_path.iterdir())


def test_the_table_of_formats_is_complete():
    rows = [line for line in README.splitlines() if re.match(r"\| `[%.]", line)]
    table = {Path(row.split("`")[1]).suffix or row.split("`")[1]: row.split("|")[2:4] for row in rows}
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
            assert f"`{form.name}`" in cell or f"`{form.name}`" in README
        for word in (*form.presets, *(f"{name}=" for name in form.parameters)):
            assert re.search(rf"`{word}(\d+)?`", README)


@pytest.mark.parametrize("document", sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("*.md")))
def test_links_to_files_lead_somewhere(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if "://" not in target:
            assert (ROOT / target).exists(), f"{document}: {target}"
