"""A Blender add-on: mark an object in the movie clip editor, and get its matte as an image node.

This one file is all that Blender needs. `vidmatte hosts blender` copies it to its folder of
add-ons; switch it on in Edit > Preferences > Add-ons. vidmatte itself runs as a command of its own,
with its own Python. The file uses the standard library only.

Marks are tracking markers of the clip: one on the object is a point on it, and one whose track has
a name that begins with "background" is a point beside it. Every frame with markers is marked.
"""

import json
import os
import re
import shlex
import subprocess
import threading
from typing import Any

import bpy

bl_info = {
    "name": "vidmatte",
    "author": "The vidmatte developers",
    "version": (1, 0, 0),
    "blender": (3, 4, 0),
    "location": "Movie Clip Editor > Sidebar > vidmatte",
    "description": "Matte the object that is marked in a clip, into an image node",
    "category": "Compositing",
}
BACKGROUND = "background"
"""Beginning of the names of tracks that mark what does not belong to the object."""
_PROGRESS = re.compile(r"(\d+) of (\d+) frames")
_LABEL = "vidmatte"


def marked_frames(clip: Any) -> dict[int, list[list[float]]]:
    """Return the points of a clip by the index of their frame, as a prompt file holds them.

    Markers count from 1 and from the bottom left corner, in shares of the picture. Markers that
    tracking made are no marks.
    """
    width, height = clip.size
    found: dict[int, list[list[float]]] = {}
    for track in clip.tracking.tracks:
        label = 0 if track.name.lower().startswith(BACKGROUND) else 1
        for marker in track.markers:
            if marker.mute or not marker.is_keyed:
                continue
            x, y = marker.co[0] * width, (1 - marker.co[1]) * height
            found.setdefault(marker.frame - 1, []).append([round(x, 2), round(y, 2), label])
    return found


def prompts_of(clip: Any) -> dict[str, Any]:
    """Return a prompt file for the markers of a clip. Raises ValueError if nothing is marked."""
    frames = marked_frames(clip)
    on_object = {index: points for index, points in frames.items() if any(p[2] for p in points)}
    if not on_object:
        raise ValueError(
            "Nothing is marked: Ctrl-click on the object in the movie clip editor. Tracks whose "
            f'name begins with "{BACKGROUND}" mark what does not belong to it'
        )
    prompts = [
        {"frame": f"index:{index}", "points": on_object[index]} for index in sorted(on_object)
    ]
    return {"version": 2, "objects": [{"name": "object", "prompts": prompts}]}


def source_of(clip: Any) -> str:
    """Return the clip as vidmatte names it: a movie, or the pattern of an image sequence."""
    path = bpy.path.abspath(clip.filepath)
    if clip.source == "MOVIE":
        return str(path)
    folder, name = os.path.split(path)
    found = re.search(r"(\d+)(\.\w+)$", name)
    if found is None:
        return str(path)
    pattern = f"{name[: found.start()]}%0{len(found.group(1))}d{found.group(2)}"
    return os.path.join(folder, pattern)


def command_line(words: str, clip: Any, prompts: str, output: str, settings: Any) -> list[str]:
    """Return the command for a clip; `output` is the pattern of the matte."""
    found = [*shlex.split(words), source_of(clip), "--prompts", prompts, "--alpha", output]
    if settings.model.strip():
        found += ["--model", settings.model.strip()]
    if settings.smooth:
        found += ["--smooth", f"{settings.smooth:g}"]
    # The pattern lies in a folder that only this add-on writes to.
    return [*found, "--overwrite", "--json"]


def environment() -> dict[str, str]:
    """Return the environment of the command, without what is meant for Blender's own Python."""
    left_out = ("PYTHONHOME", "PYTHONPATH")
    return {name: value for name, value in os.environ.items() if name not in left_out}


class Run:
    """A run of the command in the background."""

    def __init__(self, words: list[str]) -> None:
        self.done = 0
        self.total = 0
        self.message = ""
        """Last line that was said."""
        self.summary: dict[str, Any] = {}
        """What `--json` printed."""
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        self._thread = threading.Thread(target=self._follow)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return not self._thread.is_alive()

    @property
    def error(self) -> str:
        """Why it failed; empty if it did not."""
        return str(self.summary.get("error", {}).get("message", ""))

    def cancel(self) -> None:
        """Stop it, and wait until what is not complete is removed."""
        self._process.terminate()
        self.wait()

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
        try:
            self.summary = json.loads(text)
        except ValueError:
            code = self._process.returncode
            reason = self.message or f"vidmatte ended with {code} and said nothing"
            self.summary = {"error": {"message": reason}}

    def _read_messages(self) -> None:
        assert self._process.stderr is not None  # it is a pipe
        for line in self._process.stderr:
            self.message = line.strip() or self.message
            found = _PROGRESS.search(line)
            if found:
                self.done, self.total = int(found.group(1)), int(found.group(2))


def add_nodes(scene: Any, clip: Any, summary: dict[str, Any]) -> Any:
    """Return a new image node with the matte, and connect it: clip, Set Alpha, Viewer."""
    output = summary["outputs"][0]
    first, frames = summary["first_frame"], output["frames"]
    scene.use_nodes = True
    tree = scene.node_tree
    for node in [node for node in tree.nodes if node.label == f"{_LABEL}: {clip.name}"]:
        # Of an earlier run for this clip.
        tree.nodes.remove(node)
    image = bpy.data.images.load(output["path"] % first, check_existing=False)
    image.source = "SEQUENCE"
    # A matte is data: no curve may be taken out of it.
    image.colorspace_settings.name = "Non-Color"
    matte = tree.nodes.new("CompositorNodeImage")
    matte.image = image
    matte.frame_duration = frames
    matte.frame_start = clip.frame_start
    # File number = frame of the scene - start + 1 + offset.
    matte.frame_offset = first - 1
    source = tree.nodes.new("CompositorNodeMovieClip")
    source.clip = clip
    alpha = tree.nodes.new("CompositorNodeSetAlpha")
    # Colour of the clip is straight, and Blender composites multiplied colour.
    alpha.mode = "APPLY"
    viewer = tree.nodes.new("CompositorNodeViewer")
    tree.links.new(source.outputs["Image"], alpha.inputs["Image"])
    tree.links.new(matte.outputs["Image"], alpha.inputs["Alpha"])
    tree.links.new(alpha.outputs["Image"], viewer.inputs["Image"])
    for column, node in enumerate((matte, source, alpha, viewer)):
        node.label = f"{_LABEL}: {clip.name}"
        node.location = (column * 220, -300 if node is matte else 0)
    return matte


def clip_in(context: Any) -> Any:
    """Return the clip in the editor, else that of the scene; None if there is none."""
    return getattr(context.space_data, "clip", None) or context.scene.active_clip


class VidmatteSettings(bpy.types.PropertyGroup):  # type: ignore[misc]  # Blender has no types
    """The choices of a scene."""

    command: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Command", description="The program vidmatte, with its path", default="vidmatte"
    )
    folder: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Folder",
        description="Where mattes are kept; empty for a folder beside the clip",
        subtype="DIR_PATH",
    )
    model: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Model", description="Empty for the embedded one; see vidmatte models"
    )
    smooth: bpy.props.FloatProperty(  # type: ignore[valid-type]
        name="Smooth", description="Strength of the temporal smoother", min=0, max=1
    )


class VIDMATTE_OT_matte(bpy.types.Operator):  # type: ignore[misc]
    """Matte the object that the markers of this clip mark."""

    bl_idname = "vidmatte.matte"
    bl_label = "Matte"
    bl_description = "Matte the object that is marked, and show its matte as an image node"

    _run: Run | None = None
    _timer: Any = None
    _clip: Any = None

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Return whether there is a clip."""
        return clip_in(context) is not None

    def invoke(self, context: Any, event: Any) -> set[str]:
        """Start a run, and go on while it works; Esc stops it."""
        if not self._start(context):
            return {"CANCELLED"}
        manager = context.window_manager
        manager.progress_begin(0, 100)
        self._timer = manager.event_timer_add(0.2, window=context.window)
        manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def modal(self, context: Any, event: Any) -> set[str]:
        """Show the progress; add the nodes at the end."""
        run = self._run
        assert run is not None  # it was started
        if event.type == "ESC":
            run.cancel()
            self._leave(context)
            self.report({"WARNING"}, "Stopped; no matte was written")
            return {"CANCELLED"}
        if event.type != "TIMER":
            return {"PASS_THROUGH"}
        if run.total:
            context.window_manager.progress_update(100 * run.done // run.total)
        if not run.is_over:
            return {"PASS_THROUGH"}
        self._leave(context)
        return self._finish(context)

    def execute(self, context: Any) -> set[str]:
        """Run from beginning to end, as scripts do."""
        if not self._start(context) or self._run is None:
            return {"CANCELLED"}
        self._run.wait()
        return self._finish(context)

    def _start(self, context: Any) -> bool:
        clip, settings = clip_in(context), context.scene.vidmatte
        if getattr(context.scene, "node_tree", None) is None and not hasattr(
            context.scene, "use_nodes"
        ):
            self.report({"ERROR"}, "This Blender has no compositor in its scenes: use 3.4 to 4.x")
            return False
        try:
            prompts = prompts_of(clip)
            folder = bpy.path.abspath(settings.folder) or os.path.dirname(source_of(clip))
            name = re.sub(r"\W+", "_", os.path.splitext(clip.name)[0])
            place = os.path.join(folder, f"{name}_vidmatte")
            os.makedirs(place, exist_ok=True)
            # Beside the matte, so that vidmatte alone can repeat the run.
            marks = os.path.join(place, f"{name}.prompts.json")
            with open(marks, "w", encoding="utf-8") as file:
                json.dump(prompts, file, indent=2)
            output = os.path.join(place, f"{name}.%04d.png")
            self._clip = clip
            self._run = Run(command_line(settings.command, clip, marks, output, settings))
        except ValueError as error:
            self.report({"ERROR"}, str(error))
            return False
        except OSError as error:
            self.report(
                {"ERROR"},
                f"{error.filename or settings.command}: {error.strerror}; check the command and "
                f"the folder",
            )
            return False
        return True

    def _leave(self, context: Any) -> None:
        context.window_manager.event_timer_remove(self._timer)
        context.window_manager.progress_end()

    def _finish(self, context: Any) -> set[str]:
        run = self._run
        assert run is not None  # it was started
        if run.error:
            self.report({"ERROR"}, run.error)
            return {"CANCELLED"}
        add_nodes(context.scene, self._clip, run.summary)
        least = run.summary["confidence"]["min"]
        frames = run.summary["frames"]
        self.report({"INFO"}, f"{frames} frames; confidence {least:.2f} at the least")
        return {"FINISHED"}


class VIDMATTE_PT_panel(bpy.types.Panel):  # type: ignore[misc]
    """The panel in the sidebar of the movie clip editor."""

    bl_label = "vidmatte"
    bl_space_type = "CLIP_EDITOR"
    bl_region_type = "UI"
    bl_category = "vidmatte"

    def draw(self, context: Any) -> None:
        """Draw the choices and the button."""
        settings = context.scene.vidmatte
        for name in ("command", "folder", "model", "smooth"):
            self.layout.prop(settings, name)
        self.layout.label(text="Ctrl-click marks the object.")
        self.layout.operator(VIDMATTE_OT_matte.bl_idname)


_CLASSES = (VidmatteSettings, VIDMATTE_OT_matte, VIDMATTE_PT_panel)


def register() -> None:
    """Add everything to Blender."""
    for each in _CLASSES:
        bpy.utils.register_class(each)
    bpy.types.Scene.vidmatte = bpy.props.PointerProperty(type=VidmatteSettings)


def unregister() -> None:
    """Take everything out of Blender."""
    del bpy.types.Scene.vidmatte
    for each in reversed(_CLASSES):
        bpy.utils.unregister_class(each)
