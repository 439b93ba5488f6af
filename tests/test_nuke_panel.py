"""The Nuke panel, with a stand-in for Nuke that behaves as its Python reference says."""

import importlib
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import cv2
import numpy as np
import pytest
from clips import write_movie

ROOT = Path(__file__).parents[1]


class Knob:
    """Takes a value, as knobs of a panel do."""

    def __init__(self, name, label="", value=""):
        self.name, self._value = name, value

    def value(self):
        return self._value

    def setValue(self, value):
        self._value = value


class Number(Knob):
    def __init__(self, name, label="", value=0):
        super().__init__(name, label, value)


class Enumeration(Knob):
    """Begins with its first choice, and takes no other value."""

    def __init__(self, name, label, choices):
        super().__init__(name, label, choices[0])
        self.choices = choices

    def setValue(self, value):
        assert value in self.choices
        self._value = value


class Node:
    """A node, whose knobs are made as they are asked for; its inputs are set by number."""

    def __init__(self, kind, **knobs):
        self.kind, self.inputs = kind, {}
        self.knobs = {name: Knob(name, value=value) for name, value in knobs.items()}

    def Class(self):
        return self.kind

    def __getitem__(self, name):
        return self.knobs.setdefault(name, Knob(name))

    def setInput(self, number, node):
        self.inputs[number] = node

    def facts(self):
        return {name: knob.value() for name, knob in self.knobs.items()}


class PythonPanel:
    def __init__(self, title, panel_id):
        self.knobs_added = []

    def addKnob(self, knob):
        self.knobs_added.append(knob)


@pytest.fixture
def nuke(monkeypatch):
    """The panel's module, in a Nuke whose state is in `nuke.state`."""
    state = SimpleNamespace(nodes=[], messages=[], selected=[], commands={}, progress=[])
    module = ModuleType("nuke")
    module.state = state
    module.String_Knob = module.File_Knob = module.Text_Knob = module.PyScript_Knob = Knob
    module.Int_Knob = module.Double_Knob = module.Boolean_Knob = Number
    module.Enumeration_Knob = Enumeration
    module.message = state.messages.append
    module.selectedNodes = lambda: state.selected
    module.filename = lambda node: node["file"].value()
    module.executeInMainThread = lambda call, args: call(*args)
    module.menu = lambda name: SimpleNamespace(addCommand=state.commands.__setitem__)

    class Nodes:
        def __getattr__(self, kind):
            def make(**knobs):
                state.nodes.append(Node(kind, **knobs))
                return state.nodes[-1]

            return make

    class ProgressTask:
        def __init__(self, title):
            pass

        def isCancelled(self):
            return False

        def setProgress(self, percent):
            state.progress.append(percent)

        def setMessage(self, text):
            pass

    module.nodes, module.ProgressTask = Nodes(), ProgressTask
    scripts = ModuleType("nukescripts")
    scripts.PythonPanel = PythonPanel
    monkeypatch.setitem(sys.modules, "nuke", module)
    monkeypatch.setitem(sys.modules, "nukescripts", scripts)
    monkeypatch.delitem(sys.modules, "vidmatte.hosts.nuke_panel", raising=False)
    panel = importlib.import_module("vidmatte.hosts.nuke_panel")
    yield SimpleNamespace(state=state, panel=panel)
    sys.modules.pop("vidmatte.hosts.nuke_panel", None)


def values(**given):
    return {
        "command": "vidmatte",
        "clip": "/plates/sh010.%04d.exr",
        "kind": "points x,y ...",
        "marks": "10,20",
        "frame": 1005,
        "use_range": False,
        "first": 1001,
        "last": 1010,
        "output": "matte, EXR",
        "folder": "",
        "model": "",
        "smooth": 0.0,
        "overwrite": False,
    } | given


def test_the_command_is_that_of_the_knobs(nuke):
    assert nuke.panel.command_line(values()) == [
        "vidmatte",
        "/plates/sh010.%04d.exr",
        *("--points", "10,20", "--ref-frame", "1005"),
        *("--alpha", "/plates/sh010_vidmatte.%04d.exr"),
        "--json",
    ]
    words = nuke.panel.command_line(
        values(
            command='"/opt/my tools/vidmatte" --quiet',
            clip="/plates/a.mov",
            kind="prompt file",
            marks="/plates/a.prompts.json",
            use_range=True,
            first=1,
            last=24,
            output="colour and alpha, ProRes 4444",
            folder="/out/",
            model="sam2",
            smooth=0.5,
            overwrite=True,
        )
    )
    assert words == [
        "/opt/my tools/vidmatte",
        "--quiet",
        "/plates/a.mov",
        *("--prompts", "/plates/a.prompts.json"),
        # Nuke counts movies from 1, vidmatte from 0.
        *("--start", "index:0", "--end", "index:23"),
        *("-o", "/out/a_vidmatte.mov"),
        *("--model", "sam2", "--smooth", "0.5"),
        *("--overwrite", "--json"),
    ]


def test_every_command_of_the_panel_parses(nuke):
    from vidmatte.cli import cli

    for kind in nuke.panel.MARKS:
        for output in nuke.panel.OUTPUTS:
            words = nuke.panel.command_line(values(kind=kind, output=output, use_range=True))[1:]
            name, command, arguments = cli.resolve_command(None, words)
            assert name == "matte"
            command.make_context(name, list(arguments))


@pytest.mark.parametrize(
    ("given", "message"), [({"clip": " "}, "Select a Read node"), ({"marks": ""}, "Give the marks")]
)
def test_what_is_missing_is_said(nuke, given, message):
    with pytest.raises(ValueError, match=message):
        nuke.panel.command_line(values(**given))


def summary(*outputs, first_frame=1001):
    return {"first_frame": first_frame, "frames": 10, "outputs": list(outputs)}


def output(path, kind="alpha", codec="exr"):
    return {"path": path, "kind": kind, "codec": codec, "frames": 10}


def test_a_matte_is_read_raw_with_its_numbers(nuke):
    (read,) = nuke.panel.read_back(summary(output("/o/m.%04d.exr")), 1001)
    assert read.facts() == {
        "file": "/o/m.%04d.exr",
        "first": 1001,
        "last": 1010,
        "origfirst": 1001,
        "origlast": 1010,
        "raw": True,
    }


def test_straight_movies_are_premultiplied_and_exr_is_not(nuke):
    exr, movie, premult = nuke.panel.read_back(
        summary(output("/o/c.%04d.exr", "colour"), output("C:\\o\\c.mov", "colour", "prores_ks")),
        1001,
    )
    assert exr["colorspace"].value() == "linear"
    assert movie["file"].value() == "C:/o/c.mov"
    assert (movie["first"].value(), movie["last"].value()) == (1, 10)
    assert (movie["frame_mode"].value(), movie["frame"].value()) == ("start at", "1001")
    assert movie["colorspace"].value() == "rec709"
    assert (premult.kind, premult.inputs) == ("Premult", {0: movie})


def ready(nuke, folder):
    """A panel for a clip in a folder, whose command is this vidmatte."""
    read = Node("Read", file=str(folder / "clip.mp4"), first=1, last=3)
    nuke.state.selected = [Node("Grade"), read]
    panel = nuke.panel.Panel()
    script = folder / "vidmatte.sh"
    script.write_text(
        f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m vidmatte "$@"'
        f" --working-size 128\n"
    )
    script.chmod(0o755)
    panel.command.setValue(f'"{script}"')
    return panel


def finished(panel):
    ends = time.monotonic() + 120
    while panel.run is not None:
        assert time.monotonic() < ends
        time.sleep(0.05)


@pytest.mark.skipif(sys.platform == "win32", reason="a script of sh")
def test_a_real_run_is_read_back(nuke, tmp_path):
    folder = tmp_path / "my clips"
    folder.mkdir()
    write_movie(folder / "clip.mp4", frames=3, size=(64, 48))
    cv2.imwrite(str(folder / "mask.png"), np.full((48, 64), 255, np.uint8))
    panel = ready(nuke, folder)
    assert panel.clip.value() == str(folder / "clip.mp4")
    assert (panel.first.value(), panel.last.value(), panel.frame.value()) == (1, 3, 1)
    panel.kind.setValue("mask image")
    panel.marks.setValue(str(folder / "mask.png"))
    panel.knobChanged(panel.run_button)
    panel.knobChanged(panel.run_button)
    assert nuke.state.messages == ["A run is going on: wait for it, or press Cancel."]
    finished(panel)
    (read,) = nuke.state.nodes
    path = Path(read["file"].value())
    assert path == folder / "clip_vidmatte.%04d.exr"
    assert (read["first"].value(), read["last"].value()) == (0, 2)
    assert (folder / "clip_vidmatte.0002.exr").exists()
    assert panel.status.value().startswith("3 frames, confidence ")


@pytest.mark.skipif(sys.platform == "win32", reason="a script of sh")
@pytest.mark.parametrize(
    ("says", "reason"),
    [
        (
            """echo '{"error": {"message": "a.exr exists already"}}'; exit 1""",
            "a.exr exists already",
        ),
        ("echo 'Error: no module' >&2; exit 1", "Error: no module"),
        ("exit 3", "vidmatte ended with 3 and said nothing"),
    ],
)
def test_the_reason_of_a_failure_is_shown(nuke, tmp_path, says, reason):
    panel = ready(nuke, tmp_path)
    (tmp_path / "vidmatte.sh").write_text(f"#!/bin/sh\n{says}\n")
    panel.marks.setValue("marks.json")
    panel.knobChanged(panel.run_button)
    finished(panel)
    assert panel.status.value() == reason
    assert nuke.state.messages == [reason]
    assert nuke.state.nodes == []


@pytest.mark.skipif(sys.platform == "win32", reason="a script of sh")
def test_a_run_that_is_over_at_once_is_known_to_be_over(nuke, tmp_path, monkeypatch):
    class AtOnce:
        """A thread that is done before the one that starts it goes on."""

        def __init__(self, target, args=()):
            self.start = lambda: target(*args)
            self.join = lambda timeout=None: None
            self.is_alive = lambda: False

    panel = ready(nuke, tmp_path)
    (tmp_path / "vidmatte.sh").write_text("#!/bin/sh\nexit 3\n")
    panel.marks.setValue("marks.json")
    monkeypatch.setattr(nuke.panel.threading, "Thread", AtOnce)
    panel.begin()
    assert panel.run is None
    assert panel.status.value() == "vidmatte ended with 3 and said nothing"


@pytest.mark.skipif(sys.platform == "win32", reason="a script of sh")
def test_cancel_stops_the_command(nuke, tmp_path):
    panel = ready(nuke, tmp_path)
    script = tmp_path / "vidmatte.sh"
    script.write_text("#!/bin/sh\necho '3 of 12 frames, 1.00 frames/s' >&2\nexec sleep 60\n")
    panel.marks.setValue("marks.json")
    panel.begin()
    run = panel.run
    while run.total != 12:
        time.sleep(0.02)
    while 25 not in nuke.state.progress:
        time.sleep(0.02)
    began = time.monotonic()
    panel.knobChanged(panel.cancel_button)
    finished(panel)
    assert time.monotonic() - began < 30
    assert "3 of 12 frames" in panel.status.value()


def test_a_command_that_is_not_there_is_named(nuke, tmp_path):
    panel = ready(nuke, tmp_path)
    panel.command.setValue("/nowhere/vidmatte")
    panel.marks.setValue("marks.json")
    panel.begin()
    assert panel.run is None
    assert "/nowhere/vidmatte cannot be started" in nuke.state.messages[0]
    panel.mark()
    assert "write the path of the program" in nuke.state.messages[1]


def test_marks_beside_the_clip_are_found_and_made(nuke, tmp_path, monkeypatch):
    (tmp_path / "clip.prompts.json").write_text("{}")
    panel = ready(nuke, tmp_path)
    assert panel.marks.value() == str(tmp_path / "clip.prompts.json")
    started = []
    monkeypatch.setattr(subprocess, "Popen", lambda words, **given: started.append(words))
    panel.knobChanged(panel.mark_button)
    assert started[0][1:] == [
        *("pick", str(tmp_path / "clip.mp4")),
        *("--prompts", str(tmp_path / "clip.prompts.json")),
    ]
    panel.clip.setValue("/plates/sh010.%04d.exr")
    assert panel.prompt_file() == "/plates/sh010.prompts.json"
    panel.clip.setValue("/plates/sh010/%04d.exr")
    assert panel.prompt_file() == "/plates/sh010/sh010.prompts.json"


def test_nuke_s_own_python_does_not_reach_the_command(nuke, monkeypatch):
    monkeypatch.setenv("PYTHONHOME", "/opt/nuke")
    assert "PYTHONHOME" not in nuke.panel.environment()
    assert nuke.panel.environment()["PATH"] == os.environ["PATH"]


def test_the_menu_opens_the_panel(nuke, monkeypatch):
    shown = []
    monkeypatch.setattr(nuke.panel.Panel, "show", lambda panel: shown.append(panel), raising=False)
    nuke.panel.install()
    (entry,) = nuke.state.commands
    assert entry == "vidmatte/Matte a clip..."
    nuke.state.commands[entry]()
    assert isinstance(shown[0], nuke.panel.Panel)


def test_the_file_needs_nothing_of_vidmatte():
    text = (ROOT / "vidmatte" / "hosts" / "nuke_panel.py").read_text(encoding="utf-8")
    assert "import vidmatte\n" not in text.replace("    import vidmatte_panel\n", "")
    assert "from vidmatte" not in text
