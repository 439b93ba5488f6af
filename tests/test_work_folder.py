"""The work folder of a long render: locked by one run, cleaned by the next, removed at the end."""

import errno
import fcntl
import os
import shutil
import subprocess
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import write_movie

import vidmatte
from vidmatte.errors import OptionError, ReadError
from vidmatte.pipeline.segments import journal as journals
from vidmatte.pipeline.segments.journal import Journal
from vidmatte.pipeline.segments.render import Renderer
from vidmatte.write import create_outputs
from vidmatte.write.partial import lock

FRAMES = 8
OPTIONS = vidmatte.MatteOptions(model="none", matte="unset", segment_frames=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("clip")


@pytest.fixture(scope="module")
def clip(folder):
    return write_movie(folder / "clip.mp4", frames=FRAMES, size=(64, 48), options={"g": "4"})


@pytest.fixture(scope="module")
def options(folder):
    mask = np.zeros((48, 64), np.uint8)
    mask[10:30, 10:40] = 255
    cv2.imwrite(str(folder / "mask.png"), mask)
    return replace(OPTIONS, matte=folder / "mask.png")


def run(clip, target, options, **changes):
    return vidmatte.matte(clip, alpha=target / "a.mkv", options=replace(options, **changes))


def names(target):
    return sorted(path.name for path in target.iterdir())


def test_a_lock_file_that_was_removed_meanwhile_is_made_again(tmp_path, monkeypatch):
    """As if the run that held it ended between our opening and locking of the file."""
    journal = Journal(tmp_path / ".a.mkv.vidmatte")
    lock_path = tmp_path / ".a.mkv.vidmatte.lock"
    locks = []

    def lock_late(descriptor, *, wait=False):
        if not locks:
            lock_path.unlink()
        locks.append(descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True

    monkeypatch.setattr(journals, "flock", lock_late)
    with journal.lock():
        assert lock_path.exists()
        assert os.path.samestat(os.fstat(locks[-1]), lock_path.stat())
        assert journal.folder.is_dir()
    assert len(locks) == 2
    assert names(tmp_path) == []


def test_runs_that_start_together_take_turns_or_say_so(tmp_path):
    """Many threads lock and unlock one folder: each holds it alone, or learns that another does."""
    journal = Journal(tmp_path / ".a.mkv.vidmatte")
    held, refused, wrong = [], [], []

    def use():
        for _ in range(50):
            try:
                with journal.lock():
                    held.append(1)
                    if held.count(1) - held.count(-1) != 1 or not journal.folder.is_dir():
                        wrong.append("shared")
                    held.append(-1)
            except OptionError as error:
                refused.append(str(error))
            except Exception as error:  # noqa: BLE001 - anything else is the fault
                wrong.append(repr(error))

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert held.count(1) + len(refused) == 200
    assert all("another run is writing these outputs" in reason for reason in refused)
    assert names(tmp_path) == []


def test_a_second_run_does_not_remove_what_the_first_is_creating(tmp_path, clip, monkeypatch):
    """The moment between creating a partial file and locking it, which looked abandoned."""
    with vidmatte.open_video(clip) as video:
        first, second = (create_outputs([tmp_path / "a.mov"], like=video.info) for _ in range(2))
    threads = []

    def lock_late(path):
        if not threads:
            threads.append(threading.Thread(target=enter_second))
            threads[0].start()
            threads[0].join(0.5)
        return lock(path)

    entered = []

    def enter_second():
        second.__enter__()
        entered.append(second)

    monkeypatch.setattr("vidmatte.write.outputs.lock", lock_late)
    first.__enter__()
    threads[0].join()
    assert entered
    for outputs in (first, second):
        outputs.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert names(tmp_path) == []


def test_parts_of_killed_runs_are_removed_when_one_resumes(tmp_path, clip, options, monkeypatch):
    with monkeypatch.context() as patch:
        render = Renderer._render
        patch.setattr(
            Renderer, "_render", lambda self, n, frame: stop_at(1, render, self, n, frame)
        )
        with pytest.raises(KeyboardInterrupt):
            run(clip, tmp_path, options)
    work = tmp_path / ".a.mkv.vidmatte"
    for number in range(26):
        part = work / "parts" / f".000001.{number:08x}.partial"
        (part / "0").mkdir(parents=True)
        (part / "0" / "a.mkv").write_bytes(b"cut off")
    (work / ".network.0.safetensors.0123abcd.partial").write_bytes(b"cut off")
    held = lock(part)
    seen = []
    with monkeypatch.context() as patch:
        patch.setattr(
            Renderer,
            "_render",
            lambda self, n, frame: seen.append(hidden(work)) or render(self, n, frame),
        )
        run(clip, tmp_path, options, resume=True)
    os.close(held)
    assert seen == [[part.name]]  # another process still works on that one
    assert names(tmp_path) == ["a.mkv"]


def stop_at(segment, render, renderer, number, on_frame):
    if number == segment:
        raise KeyboardInterrupt
    return render(renderer, number, on_frame)


def hidden(work):
    return sorted(path.name for path in work.rglob(".*"))


@pytest.mark.parametrize("removed", ["nothing", "parts", "all but the journal"])
def test_a_run_that_is_killed_while_it_cleans_up_is_complete(
    tmp_path, clip, options, monkeypatch, removed
):
    def remove(journal, **how):
        if removed != "nothing":
            shutil.rmtree(journal.folder / "parts")
        if removed == "all but the journal":
            for path in journal.folder.iterdir():
                if path.name != journals.JOURNAL:
                    shutil.rmtree(path)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "remove", remove)
        with pytest.raises(KeyboardInterrupt):
            run(clip, tmp_path, options)
    before = (tmp_path / "a.mkv").read_bytes()
    summary = run(clip, tmp_path, options, resume=True)
    assert summary.frames == FRAMES
    assert [(file.path, file.frames) for file in summary.outputs] == [(tmp_path / "a.mkv", FRAMES)]
    assert (tmp_path / "a.mkv").read_bytes() == before
    assert names(tmp_path) == ["a.mkv"]


def keep_folders_of_open_files(monkeypatch, *, always=False):
    """Let no folder be removed while a file in it is open, as NFS and FUSE do; or `always`."""
    remove = os.rmdir

    def rmdir(path, *, dir_fd=None):
        place = "" if dir_fd is None else os.readlink(f"/proc/self/fd/{dir_fd}")
        whole = os.path.realpath(os.path.join(place, path))
        if ".vidmatte" in whole and (always or is_open_below(whole)):
            raise OSError(errno.ENOTEMPTY, "Directory not empty", whole)
        remove(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "rmdir", rmdir)


def is_open_below(folder):
    opened = []
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            opened.append(os.readlink(f"/proc/self/fd/{number}").removesuffix(" (deleted)"))
    return any(path.startswith(folder + os.sep) for path in opened)


needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no /proc here")


@needs_proc
def test_a_folder_is_removed_where_open_files_keep_it(tmp_path, clip, options, monkeypatch):
    keep_folders_of_open_files(monkeypatch)
    summary = run(clip, tmp_path, options)
    assert not [note for note in summary.notes if "could not be removed" in note]
    assert names(tmp_path) == ["a.mkv"]


@needs_proc
def test_a_folder_that_cannot_be_removed_is_a_note(tmp_path, clip, options, monkeypatch):
    keep_folders_of_open_files(monkeypatch, always=True)
    summary = run(clip, tmp_path, options)
    (note,) = [note for note in summary.notes if "could not be removed" in note]
    assert "Directory not empty" in note
    assert ".a.mkv.vidmatte" in note
    assert summary.frames == FRAMES
    assert (tmp_path / "a.mkv").is_file()


@needs_proc
def test_a_clean_up_that_fails_does_not_hide_why_the_run_failed(
    tmp_path, clip, options, monkeypatch
):
    keep_folders_of_open_files(monkeypatch, always=True)

    def fail(*given):
        raise ReadError("frame 3 is damaged")

    monkeypatch.setattr(Renderer, "_render", fail)
    with pytest.raises(ReadError, match="frame 3 is damaged"):
        run(clip, tmp_path, options)


def test_a_fuse_mount_takes_a_long_clip(tmp_path, clip, options):
    """On a real FUSE file system, if this machine has bindfs and may mount."""
    if not shutil.which("bindfs") or not os.access("/dev/fuse", os.W_OK):
        pytest.skip("needs bindfs and /dev/fuse")
    (tmp_path / "real").mkdir()
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    if subprocess.run(["bindfs", tmp_path / "real", mounted], check=False).returncode:
        pytest.skip("FUSE cannot be mounted here")
    try:
        summary = run(clip, mounted, options)
        assert not [note for note in summary.notes if "could not be removed" in note]
        assert names(mounted) == ["a.mkv"]
    finally:
        subprocess.run(["fusermount", "-u", mounted], check=True)


def test_the_fingerprint_of_a_large_file_reads_its_ends_only(tmp_path, monkeypatch):
    from vidmatte.pipeline.request import Request
    from vidmatte.pipeline.segments import fingerprint as fingerprints

    monkeypatch.setattr(fingerprints, "_LARGE", 1 << 16)
    monkeypatch.setattr(fingerprints, "_EDGE", 1 << 12)
    source = tmp_path / "large.mov"
    content = bytearray(os.urandom(1 << 17))
    source.write_bytes(content)
    stamp = source.stat()

    def key(**choices):
        options = vidmatte.MatteOptions(**choices)
        prompt = vidmatte.Prompt(points=((1, 1, 1),))
        request = Request.of(source, prompt, alpha=tmp_path / "a.mkv", options=options)
        return fingerprints.fingerprint(request).key

    before, before_full = key(), key(full_hash=True)
    content[1 << 16] ^= 255  # in the middle
    source.write_bytes(content)
    os.utime(source, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert key() == before
    assert key(full_hash=True) != before_full
    os.utime(source, ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1))
    assert key() != before
