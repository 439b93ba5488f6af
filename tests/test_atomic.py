"""Files that are complete as soon as they have their name."""

from __future__ import annotations

import os

import pytest

from vidmatte.media.atomic import atomic_path, atomic_write


def names(folder):
    return sorted(os.listdir(folder))


def test_text_and_bytes_are_written_under_their_name_only(tmp_path):
    atomic_write(tmp_path / "a.json", "ä\n")
    atomic_write(tmp_path / "b.png", b"\x89PNG", durable=False)

    assert (tmp_path / "a.json").read_bytes() == "ä\n".encode()
    assert (tmp_path / "b.png").read_bytes() == b"\x89PNG"
    assert names(tmp_path) == ["a.json", "b.png"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    final = tmp_path / "a.json"
    final.write_text("old")

    def interrupted():
        with atomic_path(final) as hidden:
            hidden.write_text("half")
            assert names(tmp_path)[0].startswith(".a.json.")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()

    assert final.read_text() == "old"
    assert names(tmp_path) == ["a.json"]


def test_a_rename_that_fails_leaves_no_hidden_file(tmp_path):
    (tmp_path / "taken").mkdir()

    with pytest.raises(OSError, match="taken"):
        atomic_write(tmp_path / "taken", "new")

    assert names(tmp_path) == ["taken"]


def test_a_write_to_a_full_disk_reports_that_the_disk_is_full(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        atomic_write(tmp_path / "a.json", "new")

    assert names(tmp_path) == []


def test_the_file_behind_a_symbolic_link_is_replaced_and_the_link_stays(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "a.json").write_text("old")
    link = tmp_path / "a.json"
    link.symlink_to(tmp_path / "store" / "a.json")

    atomic_write(link, "new")

    assert link.is_symlink()
    assert (tmp_path / "store" / "a.json").read_text() == "new"
    assert names(tmp_path / "store") == ["a.json"]


@pytest.mark.parametrize("name", ["x" * 250 + ".json", "絵" * 83 + ".json"])
def test_names_as_long_as_the_file_system_allows_are_written(tmp_path, name):
    atomic_write(tmp_path / name, "new")

    assert names(tmp_path) == [name]


def test_names_that_are_no_valid_unicode_do_not_stop_a_text(tmp_path):
    atomic_write(tmp_path / "a.txt", "clip \udcff.mov")

    assert (tmp_path / "a.txt").read_text() == "clip ?.mov"
