"""A panel for Nuke: matte the clip of a Read node, and read the result back as Read nodes.

This one file is all that Nuke needs. `vidmatte hosts nuke` copies it to the folder of Nuke's
plug-ins; then add to `menu.py` there:

    import vidmatte_panel
    vidmatte_panel.install()

vidmatte itself runs as a command of its own (the knob "command"), with its own Python: nothing is
installed into Nuke. The file uses the standard library only, and runs in Python 3.7 and newer.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
from typing import Any

import nuke
import nukescripts

TITLE = "vidmatte"
OUTPUTS = {
    "matte, EXR": ("--alpha", "%04d.exr"),
    "matte, ProRes": ("--alpha", "mov"),
    "colour and alpha, EXR": ("-o", "%04d.exr"),
    "colour and alpha, ProRes 4444": ("-o", "mov"),
}
"""Choices of the output: option of the command, and end of the file name."""
MARKS = {
    "prompt file": "--prompts",
    "mask image": "--mask",
    "points x,y ...": "--points",
    "box x0,y0,x1,y1": "--box",
}
"""Choices of the marks: what is written in the knob beside them."""
_MOVIES = (".mov", ".mp4", ".mxf", ".m4v", ".avi", ".mkv", ".webm")
_PROGRESS = re.compile(r"(\d+) of (\d+) frames")


def is_movie(path: str) -> bool:
    """Return whether a file holds all frames; Nuke counts these from 1."""
    return os.path.splitext(path)[1].lower() in _MOVIES


def position(frame: int, path: str) -> str:
    """Return a frame of a Read node as vidmatte names it: from 0 in movies, else by its number."""
    return f"index:{frame - 1}" if is_movie(path) else str(frame)


def output_path(clip: str, folder: str, ending: str) -> str:
    """Return the path of an output for a clip, without the place of its frame number."""
    name = os.path.splitext(os.path.basename(clip))[0]
    name = re.sub(r"[._-]?(%0?\d*d|#+|\$F\d*)$", "", name) or "shot"
    return "/".join([folder.rstrip("/"), f"{name}_vidmatte.{ending}"])


def command_line(values: dict[str, Any]) -> list[str]:
    """Return the command for the values of the knobs.

    Raises ValueError with what is missing.
    """
    clip, marks = values["clip"].strip(), values["marks"].strip()
    if not clip:
        raise ValueError("Select a Read node, or give the path of a clip.")
    if not marks:
        raise ValueError("Give the marks, or press Mark to make them in the browser.")
    option, ending = OUTPUTS[values["output"]]
    folder = values["folder"].strip() or os.path.dirname(clip) or "."
    words = [*split_command(values["command"]), clip, MARKS[values["kind"]], marks]
    if values["kind"] != "prompt file":
        words += ["--ref-frame", position(int(values["frame"]), clip)]
    if values["use_range"]:
        words += ["--start", position(int(values["first"]), clip)]
        words += ["--end", position(int(values["last"]), clip)]
    words += [option, output_path(clip, folder, ending)]
    if values["model"].strip():
        words += ["--model", values["model"].strip()]
    if values["smooth"]:
        words += ["--smooth", f"{values['smooth']:g}"]
    if values["overwrite"]:
        words.append("--overwrite")
    return [*words, "--json"]


def split_command(text: str) -> list[str]:
    """Return the words of the knob "command"; a path with spaces stands in quotes."""
    words = [quoted or plain for quoted, plain in re.findall(r'"([^"]+)"|(\S+)', text)]
    return words or ["vidmatte"]


def environment() -> dict[str, str]:
    """Return the environment of the command: Nuke's own Python must not reach that of vidmatte."""
    left_out = ("PYTHONHOME", "PYTHONPATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
    return {name: value for name, value in os.environ.items() if name not in left_out}


class Run:
    """A run of the command in the background."""

    def __init__(self, words: list[str], on_end: Any) -> None:
        """Start it. `on_end` is called with the run in Nuke's main thread once it is followed."""
        self.done = 0
        self.total = 0
        self.message = ""
        """Last line that was said."""
        self.summary: dict[str, Any] = {}
        """What `--json` printed."""
        self._on_end = on_end
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            universal_newlines=True,
            env=environment(),
        )
        self._thread = threading.Thread(target=self._follow)

    def follow(self) -> None:
        """Read what it says, until it is over.

        Apart from the start: a run that fails at once must not be over before it is known.
        """
        self._thread.start()

    @property
    def error(self) -> str:
        """Why it failed; empty if it did not."""
        return str(self.summary.get("error", {}).get("message", ""))

    def cancel(self) -> None:
        """Stop it; vidmatte removes what is not complete."""
        self._process.terminate()

    def wait(self) -> None:
        """Wait until it is over."""
        self._thread.join()

    def _follow(self) -> None:
        reader = threading.Thread(target=self._read_messages)
        reader.start()
        with self._process:
            assert self._process.stdout is not None  # it is a pipe
            text = self._process.stdout.read()
            reader.join()
        code = self._process.returncode
        try:
            self.summary = json.loads(text)
        except ValueError:
            reason = self.message or f"vidmatte ended with {code} and said nothing"
            self.summary = {"error": {"message": reason}}
        nuke.executeInMainThread(self._on_end, args=(self,))

    def _read_messages(self) -> None:
        assert self._process.stderr is not None  # it is a pipe
        for line in self._process.stderr:
            self.message = line.strip() or self.message
            found = _PROGRESS.search(line)
            if found:
                self.done, self.total = int(found.group(1)), int(found.group(2))


def read_back(summary: dict[str, Any], start: int) -> list[Any]:
    """Return new nodes for the outputs of a run: a Read each, and a Premult behind straight colour.

    Args:
        summary: What `--json` printed.
        start: Frame of the script at which movies begin.
    """
    nodes = []
    for output in summary["outputs"]:
        path = output["path"].replace("\\", "/")
        read = nuke.nodes.Read(file=path)
        first = 1 if is_movie(path) else summary["first_frame"]
        last = first + output["frames"] - 1
        for knob, value in (("first", first), ("last", last), ("origfirst", first)):
            read[knob].setValue(value)
        read["origlast"].setValue(last)
        if is_movie(path) and start != 1:
            read["frame_mode"].setValue("start at")
            read["frame"].setValue(str(start))
        nodes.append(read)
        if output["kind"] == "alpha":
            # A matte is data: no curve may be taken out of it.
            read["raw"].setValue(True)
        elif output["codec"] == "exr":
            # Scene-linear, and multiplied already.
            read["colorspace"].setValue("linear")
        else:
            read["colorspace"].setValue("rec709")
            premult = nuke.nodes.Premult()
            premult.setInput(0, read)
            nodes.append(premult)
    return nodes


class Panel(nukescripts.PythonPanel):  # type: ignore[misc]  # Nuke has no types
    """The panel: knobs for a run, buttons to mark, run and cancel, and a line of status."""

    def __init__(self) -> None:
        nukescripts.PythonPanel.__init__(self, TITLE, "org.vidmatte.panel")
        self.run: Run | None = None
        self._start = 1
        self.command = nuke.String_Knob("command", "command", "vidmatte")
        self.clip = nuke.File_Knob("clip", "clip")
        self.kind = nuke.Enumeration_Knob("kind", "marks", list(MARKS))
        self.marks = nuke.File_Knob("marks", "")
        self.frame = nuke.Int_Knob("frame", "marked frame")
        self.use_range = nuke.Boolean_Knob("use_range", "only frames")
        self.first = nuke.Int_Knob("first", "")
        self.last = nuke.Int_Knob("last", "to")
        self.output = nuke.Enumeration_Knob("output", "output", list(OUTPUTS))
        self.folder = nuke.File_Knob("folder", "folder")
        self.model = nuke.String_Knob("model", "model")
        self.smooth = nuke.Double_Knob("smooth", "smooth")
        self.overwrite = nuke.Boolean_Knob("overwrite", "overwrite")
        self.mark_button = nuke.PyScript_Knob("mark", "Mark in the browser")
        self.run_button = nuke.PyScript_Knob("run", "Run")
        self.cancel_button = nuke.PyScript_Knob("cancel", "Cancel")
        self.status = nuke.Text_Knob("status", "", "")
        for knob in (
            self.command,
            self.clip,
            self.kind,
            self.marks,
            self.frame,
            self.use_range,
            self.first,
            self.last,
            self.output,
            self.folder,
            self.model,
            self.smooth,
            self.overwrite,
            self.mark_button,
            self.run_button,
            self.cancel_button,
            self.status,
        ):
            self.addKnob(knob)
        self.take_selected()

    def take_selected(self) -> None:
        """Take clip and range from the selected Read node, if there is one."""
        selected = [node for node in nuke.selectedNodes() if node.Class() == "Read"]
        if not selected:
            return
        node = selected[0]
        self.clip.setValue(nuke.filename(node))
        self.first.setValue(node["first"].value())
        self.last.setValue(node["last"].value())
        self.frame.setValue(node["first"].value())
        prompts = self.prompt_file()
        if os.path.isfile(prompts):
            self.marks.setValue(prompts)

    def prompt_file(self) -> str:
        """Return the prompt file beside the clip, where the picker saves it."""
        folder = os.path.dirname(self.clip.value())
        name = os.path.splitext(os.path.basename(self.clip.value()))[0]
        name = re.sub(r"[._-]?(%0?\d*d|#+|\$F\d*)$", "", name) or os.path.basename(folder)
        return os.path.join(folder, f"{name}.prompts.json")

    def values(self) -> dict[str, Any]:
        """Return the values of the knobs by their names."""
        names = (
            *("command", "clip", "kind", "marks", "frame", "use_range", "first", "last"),
            *("output", "folder", "model", "smooth", "overwrite"),
        )
        return {name: getattr(self, name).value() for name in names}

    def knobChanged(self, knob: Any) -> None:
        """Do what a button says."""
        if knob is self.run_button:
            self.begin()
        elif knob is self.mark_button:
            self.mark()
        elif knob is self.cancel_button and self.run is not None:
            self.run.cancel()

    def mark(self) -> None:
        """Open the picker in the browser; it saves the prompts beside the clip."""
        clip = self.clip.value().strip()
        if not clip:
            nuke.message("Select a Read node, or give the path of a clip.")
            return
        prompts = self.prompt_file()
        self.kind.setValue("prompt file")
        self.marks.setValue(prompts)
        words = [*split_command(self.command.value()), "pick", clip, "--prompts", prompts]
        try:
            _pickers.append(subprocess.Popen(words, stdin=subprocess.DEVNULL, env=environment()))
        except OSError as error:
            nuke.message(self._not_started(words[0], error))
            return
        self.status.setValue("Mark the object in the browser; end it there with Done, then Run.")

    def begin(self) -> None:
        """Start a run, if none is going on."""
        if self.run is not None:
            nuke.message("A run is going on: wait for it, or press Cancel.")
            return
        try:
            words = command_line(self.values())
        except ValueError as error:
            nuke.message(str(error))
            return
        use_range, clip = self.use_range.value(), self.clip.value()
        # A movie that is written begins where its source is seen.
        self._start = int(self.first.value()) if use_range or not is_movie(clip) else 1
        try:
            run = Run(words, self.ended)
        except OSError as error:
            nuke.message(self._not_started(words[0], error))
            return
        self.run = run
        self.status.setValue("running")
        run.follow()
        threading.Thread(target=self._show_progress, args=(run,)).start()

    @staticmethod
    def _not_started(program: str, error: OSError) -> str:
        return (
            f"{program} cannot be started ({error.strerror}): write the path of the program "
            f"vidmatte into the knob command."
        )

    @staticmethod
    def _show_progress(run: Run) -> None:
        """Show a bar as long as a run goes on; its cancel button stops the run."""
        task = nuke.ProgressTask(TITLE)
        while run._thread.is_alive():
            if task.isCancelled():
                run.cancel()
                break
            if run.total:
                task.setProgress(100 * run.done // run.total)
            task.setMessage(run.message)
            run._thread.join(0.2)
        run.wait()

    def ended(self, run: Run) -> None:
        """Read the outputs back, or say why there are none."""
        self.run = None
        if run.error:
            self.status.setValue(run.error)
            nuke.message(run.error)
            return
        read_back(run.summary, self._start)
        confidence = run.summary["confidence"]
        self.status.setValue(
            f"{run.summary['frames']} frames, confidence {confidence['mean']:.2f} on average, "
            f"{confidence['min']:.2f} at the least"
        )


_pickers: list[Any] = []
"""Kept, as Python complains about processes that nobody waits for."""
_panels: list[Panel] = []
"""Kept, or Nuke would forget them while they are open."""


def show() -> None:
    """Open the panel."""
    _panels[:] = [Panel()]
    _panels[0].show()


def install() -> None:
    """Add the panel to Nuke's menu; to be called in `menu.py`."""
    nuke.menu("Nuke").addCommand("vidmatte/Matte a clip...", show)
