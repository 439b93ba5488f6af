"""Where outputs go: never over an input, whatever its path, and to a name that the disk accepts."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from clips import write_movie
from test_write_safety import frames_in, info, mattes, refused, save
from users import as_ordinary_user

from vidmatte.cli import cli
from vidmatte.errors import OptionError, WriteError
from vidmatte.report import Invocation, create_report
from vidmatte.write import OutputSpec, create_outputs
from vidmatte.write.folders import create_folders, remove_folders
from vidmatte.write.partial import clean_stale, keep, plain_name

NOT_ON_WINDOWS = pytest.mark.skipif(sys.platform == "win32", reason="another kind of file system")


@contextmanager
def mounted(source, place):
    """One folder under two paths; skips the test if the machine does not let us mount."""
    place.mkdir()
    command = ["mount", "--bind", str(source), str(place)]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount here")
    if done.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def plates(tmp_path):
    """A folder with a movie, three frames and an empty folder beside it."""
    folder = tmp_path / "plates"
    folder.mkdir()
    for name in ("clip.mov", "f0001.png", "f0002.png", "f0003.png"):
        (folder / name).write_text("precious")
    return folder


def check_refused(folder, inputs):
    """The movie and the frames in a folder are refused as outputs, being inputs by another path."""
    frames = [inputs / "f%04d.png"]
    refused(
        OptionError,
        "over an input",
        [folder / "clip.mov"],
        inputs=[inputs / "clip.mov"],
        overwrite=True,
    )
    refused(OptionError, "over an input", [folder / "f%04d.png"], inputs=frames, overwrite=True)
    refused(OptionError, "over an input", [folder / "{name}.png"], inputs=frames, overwrite=True)
    assert sorted(os.listdir(folder)) == ["clip.mov", "f0001.png", "f0002.png", "f0003.png"]


@NOT_ON_WINDOWS
def test_hard_links_to_inputs_are_refused(tmp_path, plates):
    out = tmp_path / "out"
    out.mkdir()
    for path in plates.iterdir():
        os.link(path, out / path.name)
    check_refused(out, plates)


@NOT_ON_WINDOWS
def test_inputs_in_a_linked_folder_are_refused(tmp_path, plates):
    (tmp_path / "link").symlink_to(plates)
    check_refused(tmp_path / "link", plates)
    check_refused(plates, tmp_path / "link")


@NOT_ON_WINDOWS
def test_inputs_in_a_folder_that_is_mounted_twice_are_refused(tmp_path, plates):
    with mounted(plates, tmp_path / "again") as again:
        check_refused(again, plates)


@NOT_ON_WINDOWS
def test_inputs_on_a_share_that_is_mounted_twice_as_two_devices_are_refused(
    tmp_path, plates, monkeypatch
):
    """Then device and inode tell nothing, and only a file that is created by one path and seen by
    the other does.
    """
    stat = os.stat

    def with_device_of_the_mount(path, *arguments, **options):
        facts = stat(path, *arguments, **options)
        if "again" not in str(path):
            return facts
        return os.stat_result((*facts[:2], facts.st_dev + 1, *facts[3:]))

    with mounted(plates, tmp_path / "again") as again:
        monkeypatch.setattr(os, "stat", with_device_of_the_mount)
        check_refused(again, plates)
        twice = [OutputSpec(plates / "new.mov"), OutputSpec(again / "new.mov", alpha_only=True)]
        refused(OptionError, "two outputs have this path", twice)
        monkeypatch.undo()


@pytest.fixture
def ignoring_case(monkeypatch):
    """A file system that finds a file by its name in any case, as those of Windows and macOS do."""

    def found(path):
        folder, name = os.path.split(os.fspath(path))
        if isinstance(path, int) or os.path.normpath(folder) == os.path.normpath(path):
            return path
        folder = found(folder) if folder else "."
        try:
            names = os.listdir(folder)
        except OSError:
            return path
        wanted = (
            name
            if name in names
            else next((other for other in names if other.lower() == name.lower()), name)
        )
        return os.path.join(folder, wanted)

    for function in ("stat", "lstat"):
        original = getattr(os, function)
        monkeypatch.setattr(
            os,
            function,
            lambda path, *rest, original=original, **options: original(
                found(path), *rest, **options
            ),
        )


@NOT_ON_WINDOWS
def test_inputs_in_another_case_are_refused_on_a_disk_that_ignores_case(plates, ignoring_case):
    clip, frames = plates / "clip.mov", plates / "f%04d.png"
    refused(OptionError, "over an input", [plates / "Clip.MOV"], inputs=[clip], overwrite=True)
    refused(
        OptionError,
        "over an input",
        [plates.parent / "PLATES" / "clip.mov"],
        inputs=[clip],
        overwrite=True,
    )
    refused(OptionError, "over an input", [plates / "F%04d.PNG"], inputs=[frames], overwrite=True)
    refused(WriteError, "F0001.PNG .and 2 more. exists", [plates / "F%04d.PNG"])
    refused(WriteError, "CLIP.mov exists already", [plates / "CLIP.mov"])


@NOT_ON_WINDOWS
def test_outputs_that_differ_in_case_are_one_file_on_a_disk_that_ignores_case(
    tmp_path, ignoring_case
):
    twice = [OutputSpec(tmp_path / "new.mov"), OutputSpec(tmp_path / "NEW.mov", alpha_only=True)]
    refused(OptionError, "two outputs have this path", twice)
    twice = [
        OutputSpec(tmp_path / "a" / "n%04d.png"),
        OutputSpec(tmp_path / "A" / "N%04d.png", alpha_only=True),
    ]
    refused(OptionError, "two outputs have this path", twice)


def test_names_in_another_case_are_other_files_on_most_disks(plates):
    if (plates / "CLIP.mov").exists():
        pytest.skip("this disk ignores case")
    assert create_outputs(
        [OutputSpec(plates / "CLIP.mov")], like=info(), inputs=[plates / "clip.mov"]
    )
    assert create_outputs(
        [OutputSpec(plates / "F%04d.png")], like=info(), inputs=[plates / "f%04d.png"]
    )
    both = [OutputSpec(plates / "a.mov"), OutputSpec(plates / "A.mov", alpha_only=True)]
    assert create_outputs(both, like=info())


@NOT_ON_WINDOWS
def test_existing_outputs_that_are_one_file_are_refused(tmp_path):
    (tmp_path / "a.mov").write_text("earlier")
    os.link(tmp_path / "a.mov", tmp_path / "b.mov")
    targets = [OutputSpec(tmp_path / "a.mov"), OutputSpec(tmp_path / "b.mov", alpha_only=True)]
    refused(OptionError, "two outputs have this path", targets, overwrite=True)


@NOT_ON_WINDOWS
@pytest.mark.parametrize("name", ["out.mov", "%04d.png"])
def test_output_that_becomes_an_input_during_the_run_is_not_replaced(tmp_path, plates, name):
    """A link to the clip is put under the final name while the frames are computed."""

    def run():
        with create_outputs(
            [OutputSpec(out / name)], like=info(), inputs=[plates / "clip.mov"], overwrite=True
        ) as outputs:
            outputs.write(mattes())
            while name != "out.mov" and not list(out.glob(".*/0000.png")):
                time.sleep(0.01)
            os.link(plates / "clip.mov", out / name.replace("%04d", "0000"))

    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(
        WriteError, match=r"is an input \(.*clip\.mov\), which is never replaced; .* kept as"
    ):
        run()
    assert (plates / "clip.mov").read_text() == "precious"
    assert (out / name.replace("%04d", "0000")).read_text() == "precious"
    assert any(".finished-" in entry for entry in os.listdir(out))


@NOT_ON_WINDOWS
def test_report_is_not_written_over_an_input(tmp_path, plates):
    (plates / "contact_sheet.jpg").write_text("precious")
    os.makedirs(tmp_path / "report")
    os.link(plates / "contact_sheet.jpg", tmp_path / "report" / "contact_sheet.jpg")
    (tmp_path / "link").symlink_to(plates)
    for folder, inputs in (
        (tmp_path / "report", [plates / "contact_sheet.jpg"]),
        (tmp_path / "link", [plates]),
    ):
        asked = Invocation(["clip.mov"], False, None, {}, [], folder, {})
        with pytest.raises(OptionError, match="is also an input"):
            create_report(asked, like=info(), references=(), inputs=inputs, overwrite=True)


@NOT_ON_WINDOWS
@pytest.mark.parametrize(
    "name", ["あ" * 73 + ".mov", "あ" * 83 + ".mov", "n" * 251 + ".mov", "あ" * 80 + "%03d.png"]
)
def test_long_names_are_written(tmp_path, name):
    """Of up to 255 bytes, which leaves no room for what is added to hidden names."""
    save(tmp_path / name, [mattes()])
    (written,) = os.listdir(tmp_path)
    assert written == name.replace("%03d", "000")
    save(tmp_path / name, [mattes()], overwrite=True)
    assert os.listdir(tmp_path) == [written]


@NOT_ON_WINDOWS
@pytest.mark.parametrize(
    "name", ["あ" * 84 + ".mov", "n" * 251 + "%06d.png", "new/" + "n" * 256 + "/out.mov"]
)
def test_names_that_are_too_long_are_refused_before_any_work(tmp_path, name):
    refused(
        WriteError,
        "the disk does not take the name .*File name too long.*choose another",
        [tmp_path / name],
    )
    assert os.listdir(tmp_path) == []


@NOT_ON_WINDOWS
def test_report_with_a_name_that_is_too_long_is_refused_before_any_work(tmp_path):
    asked = Invocation(["clip.mp4"], False, None, {}, [], tmp_path / ("n" * 256), {})
    with pytest.raises(WriteError, match=r"does not take the name n+ .File name too long"):
        create_report(asked, like=info(), references=(), inputs=[])


def test_folder_that_cannot_be_written_is_not_blamed_on_the_name(tmp_path, monkeypatch):
    def full(self, *arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    monkeypatch.setattr(Path, "mkdir", full)
    message = rf"the folder {tmp_path} cannot be written \(No space left on device\); check"
    refused(WriteError, message, [tmp_path / "out.mov"])


def test_names_that_the_disk_refuses_are_found_before_any_work(tmp_path, monkeypatch):
    """A colon is refused by NTFS and by many shares."""
    touch = Path.touch

    def refuse_colons(self, *arguments, **options):
        if ":" in self.name:
            raise OSError(errno.EINVAL, "Invalid argument")
        touch(self, *arguments, **options)

    monkeypatch.setattr(Path, "touch", refuse_colons)
    refused(
        WriteError,
        r"does not take the name 12:30 take\.mov \(Invalid argument\)",
        [tmp_path / "12:30 take.mov"],
    )
    assert os.listdir(tmp_path) == []


@NOT_ON_WINDOWS
def test_file_of_another_user_in_a_sticky_folder_is_refused_before_any_work():
    if os.geteuid():
        pytest.skip("only root can make a file of another user")
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o1777)
        (folder / "out.mov").write_text("of root")
        with as_ordinary_user():
            refused(WriteError, "belongs to another user", [folder / "out.mov"], overwrite=True)
        assert (folder / "out.mov").read_text() == "of root"
    finally:
        (folder / "out.mov").unlink()
        folder.rmdir()


@pytest.mark.parametrize("name", ["out.mov", "shot.%04d.png"])
def test_finished_output_is_kept_if_its_last_rename_fails(tmp_path, monkeypatch, name):
    (tmp_path / name.replace("%04d", "0001")).write_text("precious")
    replace = os.replace

    def fail_at_the_final_name(source, target):
        if Path(target).parent == tmp_path and not Path(target).name.startswith("."):
            raise PermissionError(errno.EPERM, "Operation not permitted")
        replace(source, target)

    def run():
        with create_outputs([OutputSpec(tmp_path / name)], like=info(), overwrite=True) as outputs:
            outputs.write(mattes(2))
            monkeypatch.setattr(os, "replace", fail_at_the_final_name)

    message = (
        r"cannot be put in place \(Operation not permitted\); "
        r"what was there before is unchanged; the finished output is kept as \S+: rename"
    )
    with pytest.raises(WriteError, match=message) as raised:
        run()
    (kept,) = [entry for entry in os.listdir(tmp_path) if ".finished-" in entry]
    assert str(tmp_path / kept) in str(raised.value)
    assert len(os.listdir(tmp_path)) == 2
    assert (tmp_path / name.replace("%04d", "0001")).read_text() == "precious"
    if name == "out.mov":
        assert frames_in(tmp_path / kept) == 2
    else:
        assert sorted(os.listdir(tmp_path / kept)) == ["shot.0000.png", "shot.0001.png"]


def test_file_that_appears_at_the_last_moment_is_not_replaced(tmp_path, monkeypatch):
    """After the check of the name, and before the file is put in place."""
    path = tmp_path / "a.mov"
    link = os.link

    def after_another_run(source, target):
        if Path(target) == path:
            path.write_text("of another run")
        link(source, target)

    monkeypatch.setattr(os, "link", after_another_run)
    with pytest.raises(
        WriteError, match=r"a\.mov: was created by someone else meanwhile; .* kept as"
    ):
        save(path, [mattes()])
    assert path.read_text() == "of another run"
    assert sum(".finished-" in name for name in os.listdir(tmp_path)) == 1


def test_what_is_said_of_the_old_file_is_true(tmp_path, monkeypatch):
    """If putting back fails too, the message says where the old file lies."""
    (tmp_path / "a.mov").write_text("precious")
    replace = os.replace

    def fail_at_final_names(source, target):
        if Path(target).parent == tmp_path and not Path(target).name.startswith("."):
            raise PermissionError(errno.EPERM, "Operation not permitted")
        replace(source, target)

    def without_links(source, target):
        raise OSError(errno.EPERM, "Operation not permitted")

    def run():
        with create_outputs(
            [OutputSpec(tmp_path / "a.mov")], like=info(), overwrite=True
        ) as outputs:
            outputs.write(mattes())
            monkeypatch.setattr(os, "replace", fail_at_final_names)
            monkeypatch.setattr(os, "link", without_links)

    with pytest.raises(
        WriteError, match=r"what was .*a\.mov before lies at (.*\.replaced\.partial);"
    ) as raised:
        run()
    (backup,) = [entry for entry in os.listdir(tmp_path) if entry.endswith(".replaced.partial")]
    assert backup in str(raised.value)
    assert (tmp_path / backup).read_text() == "precious"
    assert not (tmp_path / "a.mov").exists()


def test_clean_up_that_fails_at_the_end_is_a_note(tmp_path, monkeypatch):
    """Network file systems keep names of files that were just removed."""
    with create_outputs([OutputSpec(tmp_path / "%04d.png")], like=info()) as outputs:
        outputs.write(mattes())
        (writer,) = outputs._writers

        def fail():
            raise OSError(errno.ENOTEMPTY, "Directory not empty")

        monkeypatch.setattr(writer, "discard", fail)
    assert (tmp_path / "0000.png").exists()
    assert outputs.files[0].frames == 1
    assert "could not be removed (Directory not empty); delete it" in outputs.notes[0]


def test_missing_folders_are_created(tmp_path):
    save(tmp_path / "new" / "deep" / "out.mov", [mattes()])
    assert frames_in(tmp_path / "new" / "deep" / "out.mov") == 1
    save(tmp_path / "new" / "images" / "%04d.png", [mattes()])
    assert os.listdir(tmp_path / "new" / "images") == ["0000.png"]


def test_folders_of_a_run_that_fails_are_removed_if_they_are_empty(tmp_path):
    def run(extra):
        targets = [
            OutputSpec(tmp_path / "new" / "deep" / "out.mov"),
            OutputSpec(tmp_path / "new" / "i" / "%d.png"),
        ]
        with create_outputs(targets, like=info()) as outputs:
            outputs.write(mattes())
            if extra:
                (tmp_path / "new" / "notes.txt").write_text("of somebody else")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(extra=False)
    assert os.listdir(tmp_path) == []
    with pytest.raises(KeyboardInterrupt):
        run(extra=True)
    assert os.listdir(tmp_path / "new") == ["notes.txt"]


def test_nothing_is_created_before_the_outputs_are_entered(tmp_path):
    create_outputs(
        [OutputSpec(tmp_path / "new" / "out.mov"), OutputSpec(tmp_path / "a.mov")], like=info()
    )
    assert os.listdir(tmp_path) == []


def test_created_folders_are_those_that_were_missing(tmp_path):
    new = create_folders(tmp_path / "a" / "b")
    assert new == [tmp_path / "a", tmp_path / "a" / "b"]
    assert create_folders(tmp_path / "a" / "b") == []
    remove_folders(new)
    assert os.listdir(tmp_path) == []


def test_plain_names_stay_apart_and_short():
    long = ["あ" * 80 + ".mov", "あ" * 79 + "い.mov", "n" * 200 + ".mov", "n" * 200 + ".png"]
    short = [plain_name(Path(name)) for name in long]
    assert len(set(short)) == len(long)
    assert all(len(name.encode()) <= 100 for name in short)
    assert plain_name(Path("12:30 take.mov")) == "12_30_take.mov"


@NOT_ON_WINDOWS
def test_kept_outputs_are_no_leftovers_of_killed_runs(tmp_path, monkeypatch):
    def refuse(source, target):
        raise PermissionError(errno.EACCES, "Permission denied")

    final = tmp_path / "out.mov"
    file, folder = tmp_path / ".out.mov.00000001.partial", tmp_path / ".out.mov.00000002.partial"
    file.write_text("complete")
    folder.mkdir()
    monkeypatch.setattr(os, "rename", refuse)
    assert [keep(file, final), keep(folder, final)] == [file, folder]
    (tmp_path / ".out.mov.00000003.partial").write_text("of a killed run")
    assert clean_stale(final) == (".out.mov.00000003.partial",)
    assert sorted(os.listdir(tmp_path)) == [file.name, folder.name]


@pytest.mark.parametrize("segments", [[], ["--segment-frames", "5"]])
def test_command_creates_folders_and_removes_them_if_it_fails(tmp_path, segments):
    """Also if the clip is long, and its segments are kept in a folder beside the output."""
    clip = write_movie(tmp_path / "clip.mp4", frames=12)
    matte = tmp_path / "m.png"
    cv2.imwrite(str(matte), np.full((96, 160), 200, np.uint8))
    out = tmp_path / "new" / "deep"
    given = [clip, "--model", "none", "--matte", matte, "-o", out / "a.mov", "--quiet", *segments]
    done = CliRunner().invoke(cli, [*map(str, given)])
    assert done.exit_code == 0, done.output
    assert os.listdir(out) == ["a.mov"]
    shutil.rmtree(tmp_path / "new")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vidmatte.write.movie.MovieWriter.write", lambda *arguments: 1 / 0)
        done = CliRunner().invoke(cli, [*map(str, given)])
    assert isinstance(done.exception, ZeroDivisionError)
    assert sorted(os.listdir(tmp_path)) == ["clip.mp4", "m.png"]
