"""The plug-ins of hosts: they are installed where hosts look, and Blender's works in Blender."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from picker import write_disc

from vidmatte.cli import cli
from vidmatte.hosts import install

ROOT = Path(__file__).parents[1]
HOSTS = ROOT / "vidmatte" / "hosts"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("BLENDER_USER_SCRIPTS", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    return tmp_path


def hosts(*words, code=0):
    result = CliRunner().invoke(cli, ["hosts", *map(str, words)])
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.stderr


def test_the_panel_goes_to_the_folder_of_nuke(home):
    (home / ".nuke").mkdir()
    (home / ".nuke" / "vidmatte_panel.py").write_text("an older version")
    said = hosts("nuke")
    path = home / ".nuke" / "vidmatte_panel.py"
    assert said.startswith(f"{path}: add to menu.py there: import vidmatte_panel;")
    assert path.read_bytes() == (HOSTS / "nuke_panel.py").read_bytes()


def test_the_add_on_goes_to_the_newest_blender(home):
    for version in ("2.83", "3.6", "4.10", "4.2", "junk.old"):
        (home / ".config" / "blender" / version).mkdir(parents=True)
    hosts("blender")
    path = home / ".config/blender/4.10/scripts/addons/vidmatte_addon.py"
    assert path.read_bytes() == (HOSTS / "blender_addon.py").read_bytes()


def test_blender_may_have_its_scripts_elsewhere(home, monkeypatch):
    monkeypatch.setenv("BLENDER_USER_SCRIPTS", str(home / "scripts"))
    hosts("blender")
    assert (home / "scripts" / "addons" / "vidmatte_addon.py").exists()


def test_a_folder_may_be_named(home):
    assert hosts("blender", "--to", home / "a" / "b").startswith(str(home / "a" / "b"))
    assert (home / "a" / "b" / "vidmatte_addon.py").exists()


def test_what_is_not_found_or_wrong_is_said(home):
    assert "no settings of Blender were found: start it once" in hosts("blender", code=2)
    assert "--to was given without a host" in hosts("--to", home, code=2)
    (home / "file").write_text("x")
    assert "cannot be written" in hosts("nuke", "--to", home / "file" / "x", code=1)
    listed = hosts()
    assert str(home / ".nuke" / "vidmatte_panel.py") in listed
    assert "Blender: no settings of it found" in listed


def test_every_plug_in_is_in_the_package():
    assert set(install.PLUGINS) == {"nuke", "blender"}
    for plugin in install.PLUGINS.values():
        text = (HOSTS / plugin.source).read_text(encoding="utf-8")
        assert "from vidmatte" not in text
        compile(text, plugin.source, "exec")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("blender") is None, reason="needs Blender")
def test_the_add_on_mattes_in_blender(tmp_path):
    clip = write_disc(tmp_path / "clip.mp4", frames=4)
    command = tmp_path / "vidmatte.sh"
    command.write_text(
        f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m vidmatte "$@"'
        f" --working-size 128\n"
    )
    command.chmod(0o755)
    words = ["blender", "--background", "--factory-startup", "--python-exit-code", "3"]
    session = ROOT / "tests" / "blender_session.py"
    given = [str(HOSTS / "blender_addon.py"), str(clip), str(command)]
    done = subprocess.run(
        [*words, "--python", str(session), "--", *given],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("FACTS ")]
    facts = json.loads(line.removeprefix("FACTS "))
    assert "Nothing is marked: Ctrl-click on the object" in facts["unmarked"]
    assert facts["source"] == str(clip)
    # 160x96 pixels: 0.3 of the width; the height counts from the top here.
    points = facts["prompts"]["objects"][0]["prompts"][0]
    assert points["frame"] == "index:0"
    assert points["points"] == [[48.0, 48.0, 1], [144.0, 86.4, 0]]
    assert facts["result"] == facts["again"] == ["FINISHED"]
    folder = tmp_path / "clip_vidmatte"
    assert facts["matte"] == {
        "source": "SEQUENCE",
        "space": "Non-Color",
        "file": str(folder / "clip.0000.png"),
        "duration": 4,
        "start": 11,
        "offset": -1,
        "size": [160, 96],
    }
    assert facts["labels"] == ["IMAGE", "MOVIECLIP", "SETALPHA", "VIEWER"]
    assert ["IMAGE", "SETALPHA", "Alpha"] in facts["links"]
    assert ["MOVIECLIP", "SETALPHA", "Image"] in facts["links"]
    on_object, beside = facts["pixels"]
    assert on_object > 0.9
    assert beside < 0.1
    assert "/nowhere/vidmatte" in facts["no_command"]
    assert facts["left"] is False
