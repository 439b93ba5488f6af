"""Outputs: what is refused before any work, and that only complete files ever get their name."""

from __future__ import annotations

import _thread
import gc
import os
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch
from users import as_ordinary_user

from vidmatte.errors import OptionError, WriteError
from vidmatte.frames import FrameBatch, MatteBatch, VideoInfo
from vidmatte.write import FORMATS, OutputSpec, create_outputs, parse_output
from vidmatte.write.movie import MovieWriter

WIDTH, HEIGHT = 160, 90
USUAL = {
    (form.extension, form.alpha_only): form for form in reversed(FORMATS) if not form.over_black
}
MOVIES = [key for key, form in USUAL.items() if form.is_movie and form.smallest < (WIDTH, HEIGHT)]


def info():
    return VideoInfo("clip.mp4", WIDTH, HEIGHT, Fraction(24), Fraction(1, 24))


def mattes(count=1, *, first=0, names=(), size=(HEIGHT, WIDTH)):
    """A batch of noise, which no codec makes small."""
    frames = tuple(range(first, first + count))
    noise = torch.rand(count, 4, *size, generator=torch.Generator().manual_seed(first))
    source = FrameBatch(noise[:, :3].contiguous(), frames, frames, (1,) * count, names)
    return MatteBatch(source, noise[:, 3:].contiguous(), (1.0,) * count)


def save(path, batches, *, alpha_only=False, **options):
    with create_outputs([OutputSpec(path, alpha_only)], like=info(), **options) as outputs:
        for batch in batches:
            outputs.write(batch)
    return outputs


def frames_in(path):
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_waiting_frames_do_not_hold_the_pictures_of_the_source(tmp_path):
    batch = mattes()
    batch = replace(batch, foreground=batch.source.rgb.flip(1))
    rgb = weakref.ref(batch.source.rgb)
    target = OutputSpec(tmp_path / "colour.mov", alpha_only=False)
    with create_outputs([target], like=info()) as outputs:
        outputs.write(batch)
        del batch
        gc.collect()
        assert rgb() is None
    assert frames_in(target.path) == 1


@pytest.mark.parametrize(
    ("name", "alpha_only", "message"),
    [
        ("out.avi", False, r"extension '.avi'; choose from .mov \(ProRes 4444"),
        ("out", False, "no extension; choose from .mov"),
        ("out.webp", True, "give it to output; choose from .mkv"),
        (
            "out.mp4",
            False,
            r"\.mp4 has no alpha; use .mov or .webm, or a format .* out.mp4:on-black \(H.264",
        ),
        ("out.gif", True, "choose from .mkv"),
        ("out.png", False, r"use out_%06d.png, or \{name\}.png"),
        ("%02d_%02d.png", True, "more than one place"),
        ("{name}_%02d.png", True, "more than one place"),
    ],
)
def test_outputs_without_a_usable_format_are_refused(name, alpha_only, message):
    with pytest.raises(OptionError, match=message):
        parse_output(name, alpha_only=alpha_only)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("shot.####.png", "shot.0007.png"),
        ("#.png", "7.png"),
        ("s%d.png", "s7.png"),
        ("s%03d.png", "s007.png"),
    ],
)
def test_frame_numbers_are_put_into_their_place(tmp_path, pattern, name):
    save(tmp_path / pattern, [mattes(first=7)], alpha_only=True)
    assert os.listdir(tmp_path) == [name]
    refused(WriteError, f"{name} exists already", [OutputSpec(tmp_path / pattern, alpha_only=True)])
    with pytest.raises(OptionError, match="more than one place"):
        parse_output("%02d_##.png", alpha_only=True)


def refused(error, message, paths, **options):
    targets = [path if isinstance(path, OutputSpec) else OutputSpec(path) for path in paths]
    with pytest.raises(error, match=message):
        create_outputs(targets, like=info(), **options)


def test_unusable_outputs_are_refused_before_any_work(tmp_path):
    refused(OptionError, "no output", [])
    (tmp_path / "file").write_text("not a folder")
    refused(WriteError, "is not a folder", [tmp_path / "file" / "out.mov"])
    (tmp_path / "dir.mov").mkdir()
    refused(WriteError, "is a folder", [tmp_path / "dir.mov"], overwrite=True)
    refused(OptionError, "8 or 16 bits, not 10", [tmp_path / "%d.png"], bit_depth=10)
    refused(OptionError, "choice for PNG", [tmp_path / "out.mov"], bit_depth=8)
    assert sorted(os.listdir(tmp_path)) == ["dir.mov", "file"]


@pytest.mark.skipif(sys.platform == "win32", reason="rights of folders work otherwise there")
def test_folder_without_write_permission_is_refused():
    folder = Path(tempfile.mkdtemp())  # not tmp_path, whose parents are closed to other users
    folder.chmod(0o555)
    try:
        with as_ordinary_user():
            refused(WriteError, f"{folder} is not writable", [folder / "out.mov"])
    finally:
        folder.rmdir()


def test_folder_that_becomes_unusable_is_one_error(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    outputs = create_outputs(
        [OutputSpec(folder / "a.mov"), OutputSpec(folder / "%d.png")], like=info()
    )
    folder.rmdir()
    folder.write_text("now a file")
    with pytest.raises(WriteError, match=r"a\.mov: writing failed after 0 frames"), outputs:
        pytest.fail("must not be entered")


def test_existing_files_are_named_and_left_alone(tmp_path):
    (tmp_path / "out.mov").write_text("precious")
    (tmp_path / "0007.png").write_text("precious")
    refused(WriteError, r"out\.mov exists already; use overwrite=True", [tmp_path / "out.mov"])
    refused(WriteError, r"0007\.png exists already", [tmp_path / "%04d.png"])
    save(tmp_path / "x_%04d.png", [mattes()])
    outputs = save(tmp_path / "%04d.png", [mattes()], overwrite=True)
    assert (tmp_path / "0007.png").read_text() == "precious"
    assert "1 older images stay there, the first is 0007.png" in outputs.notes[0]
    save(tmp_path / "out.mov", [mattes()], overwrite=True)
    assert frames_in(tmp_path / "out.mov") == 1
    assert sorted(os.listdir(tmp_path)) == ["0000.png", "0007.png", "out.mov", "x_0000.png"]


def test_file_that_appears_during_the_run_is_not_replaced(tmp_path):
    path = tmp_path / "out.mov"

    def run():
        with create_outputs([OutputSpec(path)], like=info()) as outputs:
            outputs.write(mattes())
            path.write_text("precious")

    with pytest.raises(
        WriteError, match=r"meanwhile; what was .* unchanged; the finished output is kept as"
    ):
        run()
    kept, *others = sorted(os.listdir(tmp_path))
    assert others == ["out.mov"]
    assert kept.startswith("out.finished-")
    assert frames_in(tmp_path / kept) == 1
    assert path.read_text() == "precious"


def test_two_outputs_with_one_path_are_refused(tmp_path):
    (tmp_path / "sub").mkdir()
    twice = [
        OutputSpec(tmp_path / "out.mov"),
        OutputSpec(tmp_path / "sub" / ".." / "out.mov", alpha_only=True),
    ]
    refused(OptionError, "two outputs have this path", twice)
    refused(
        OptionError,
        "two outputs",
        [tmp_path / "f%04d.png", OutputSpec(tmp_path / "f%06d.png", alpha_only=True)],
    )
    assert create_outputs(
        [OutputSpec(tmp_path / "c%04d.png"), OutputSpec(tmp_path / "a%04d.png", True)], like=info()
    )


def test_inputs_are_never_outputs(tmp_path):
    frames = tmp_path / "frames"
    frames.mkdir()
    for name in ("0001.png", "0002.png", "hero.png"):
        (frames / name).write_bytes(b"frame")
    clip, link = tmp_path / "clip.mov", tmp_path / "link.mov"
    clip.write_bytes(b"clip")
    link.symlink_to(clip)
    refused(OptionError, "over an input", [clip], inputs=[clip], overwrite=True)
    refused(OptionError, "over an input", [link], inputs=[clip], overwrite=True)
    for source in (frames, frames / "%04d.png", frames / "0001.png"):
        refused(
            OptionError, "over an input", [frames / "%04d.png"], inputs=[source], overwrite=True
        )
    refused(
        OptionError,
        "over an input",
        [frames / "{name}.png"],
        inputs=[frames / "hero.png"],
        overwrite=True,
    )
    assert create_outputs([OutputSpec(frames / "{name}_matte.png")], like=info(), inputs=[frames])
    (frames / "hero_matte.png").write_bytes(b"earlier")
    refused(
        WriteError,
        "hero_matte.png exists",
        [frames / "{name}_matte.png"],
        inputs=[frames / "hero.png"],
    )


@pytest.mark.parametrize(
    ("pattern", "names", "message"),
    [
        ("{name}.png", [(), ()], "frames of a clip have no names"),
        ("{name}.png", [("a",), ("a",)], "two images of the set have this name"),
        ("{name}.png", [("b",), ("old",)], "old.png: exists already"),
        ("out.mov", [("a",), ("b",)], "a set of images is not a movie"),
    ],
)
def test_image_names_that_cannot_be_used_are_refused(tmp_path, pattern, names, message):
    (tmp_path / "old.png").write_text("precious")
    batches = [mattes(names=entry) for entry in names]
    with pytest.raises(WriteError, match=message):
        save(tmp_path / pattern, batches)
    assert os.listdir(tmp_path) == ["old.png"]


def test_frames_of_a_movie_have_one_size_and_an_order(tmp_path):
    with pytest.raises(WriteError, match="frame 1 is 30x20, but the movie is 160x90"):
        save(tmp_path / "out.mov", [mattes(), mattes(first=1, size=(20, 30))])
    with pytest.raises(ValueError, match=r"order of presentation, got pts \[1, 0\]"):
        save(tmp_path / "out.mov", [mattes(first=1), mattes()])
    with (
        pytest.raises(WriteError, match="no frame"),
        create_outputs([OutputSpec(tmp_path / "out.mov")], like=info()),
    ):
        pass
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_exception_leaves_nothing_behind(tmp_path, error):
    (tmp_path / "out.mov").write_text("precious")
    targets = [OutputSpec(tmp_path / name) for name in ("out.mov", "out.webm", "%04d.png")]
    targets += [
        OutputSpec(tmp_path / name, alpha_only=True) for name in ("m.mkv", "m.mp4", "m%04d.png")
    ]
    running = threading.active_count()
    outputs = create_outputs(targets, like=info(), overwrite=True)

    def run():
        with outputs:
            for first in range(6):
                outputs.write(mattes(first=first))
            raise error

    with pytest.raises(error):
        run()
    assert os.listdir(tmp_path) == ["out.mov"]
    assert (tmp_path / "out.mov").read_text() == "precious"
    assert threading.active_count() == running
    assert outputs.files == ()


@pytest.mark.parametrize("when", ["write", "finish"])
def test_error_of_an_encode_thread_surfaces_and_leaves_nothing(tmp_path, monkeypatch, when):
    def fail(self, *arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(MovieWriter, when, fail)

    def run():
        targets = [OutputSpec(tmp_path / "out.mov"), OutputSpec(tmp_path / "%d.png")]
        with create_outputs(targets, like=info()) as outputs:
            for first in range(20):
                outputs.write(mattes(first=first))

    with pytest.raises(WriteError, match=r"out\.mov: writing failed .*No space left on device"):
        run()
    assert os.listdir(tmp_path) == []


def test_interrupt_while_the_last_frames_are_encoded_leaves_nothing(tmp_path, monkeypatch):
    finish = MovieWriter.finish

    def interrupted(self):
        _thread.interrupt_main()
        time.sleep(0.3)
        return finish(self)

    monkeypatch.setattr(MovieWriter, "finish", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path / "out.mov", [mattes()])
    assert os.listdir(tmp_path) == []


def test_missing_encoder_is_found_before_work(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "vidmatte.write.formats.FORMATS",
        (replace(USUAL[".mov", False], codec="prores_of_tomorrow"),),
    )
    refused(
        WriteError,
        "has no encoder prores_of_tomorrow; use the wheel of PyAV",
        [tmp_path / "out.mov"],
    )


def test_bug_in_an_encode_thread_is_not_dressed_up(tmp_path, monkeypatch):
    monkeypatch.setattr(MovieWriter, "write", lambda self, batch: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save(tmp_path / "out.mov", [mattes()])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), KeyboardInterrupt()])
def test_failure_while_putting_in_place_puts_all_back(tmp_path, monkeypatch, error):
    """The old files are there again; the new ones are kept beside them, unless the user stopped
    the run.
    """
    (tmp_path / "b.mov").write_text("precious")
    put, calls = os.replace, []

    def fail_at_the_third(source, target):
        calls.append(target)
        if len(calls) == 3:
            raise error
        put(source, target)

    def run():
        targets = [
            OutputSpec(tmp_path / "a.mov"),
            OutputSpec(tmp_path / "b.mov"),
            OutputSpec(tmp_path / "c.mov"),
        ]
        with create_outputs(targets, like=info(), overwrite=True) as outputs:
            outputs.write(mattes())
            monkeypatch.setattr(os, "replace", fail_at_the_third)

    with pytest.raises(WriteError if isinstance(error, OSError) else KeyboardInterrupt):
        run()
    names = sorted(os.listdir(tmp_path))
    names.remove("b.mov")
    assert (tmp_path / "b.mov").read_text() == "precious"
    assert [name.partition(".")[0] for name in names] == (
        ["a", "b", "c"] if isinstance(error, OSError) else []
    )
    assert all(".finished-" in name and frames_in(tmp_path / name) == 1 for name in names)


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_write_safety import MOVIES, mattes, save
from vidmatte.errors import WriteError
batches = [mattes(2, first=2 * k) for k in range(4)]
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for extension, alpha_only in [*MOVIES, (".png", False)]:
    for room in (200, 1000):
        path = Path(sys.argv[2]) / ("out" + extension if extension != ".png" else "%d.png")
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
        try:
            save(path, batches, alpha_only=alpha_only)
        except WriteError as error:
            print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files there")
def test_disk_that_fills_up_is_one_error_and_leaves_nothing(tmp_path):
    """A limit on the size of a file stands for the full disk: the same failed write, whoever runs
    the tests.
    """
    root = Path(__file__).parent.parent
    command = [sys.executable, "-c", FULL_DISK, str(Path(__file__).parent), str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, cwd=root
    )
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert len(lines) == 2 * (len(MOVIES) + 1)
    for line, name in zip(
        lines, [f"out{key[0]}" for key in MOVIES for _ in range(2)] + ["%d.png"] * 2, strict=True
    ):
        assert line.startswith(f"{tmp_path / name}: writing failed after")
        assert "File too large" in line
    assert os.listdir(tmp_path) == []
