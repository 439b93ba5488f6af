"""The doctor finds what is there, and says what to do about what is not."""

import json
from dataclasses import replace
from importlib import metadata

import av
import pytest
from click.testing import CliRunner

from vidmatte.cli import cli, diagnose
from vidmatte.errors import ModelError
from vidmatte.write import FORMATS, formats


def examined(*arguments):
    """Exit code, and what was found by name."""
    result = CliRunner().invoke(cli, ["doctor", "--json", *map(str, arguments)])
    document = json.loads(result.stdout)
    assert document["usable"] == (result.exit_code == 0)
    assert all(found["remedy"] for found in document["findings"] if not found["good"])
    return result.exit_code, {found["name"]: found for found in document["findings"]}


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(diagnose, "_WRITTEN_PIECES", 1)


def test_all_there_is_was_tried(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, found = examined()
    assert code == 0
    assert list(tmp_path.iterdir()) == []
    for form in FORMATS:
        name = f"{'--alpha' if form.alpha_only else '-o'} {form.extension}:{form.name}"
        assert found[name]["good"]
        assert form.codec in found[name]["found"]
    assert found["PyAV"]["found"].startswith(av.__version__)
    assert found["compact runs"]["good"]
    assert {"iconmatting", "iconmatting-free", "exr", "colour", "decoders"} <= set(found)
    assert str(tmp_path) in found["working directory"]["found"]


def with_codec(monkeypatch, name, alpha_only, codec):
    """A short table of formats, with another encoder for one of them."""
    table = tuple(
        replace(form, codec=codec) if (form.name, form.alpha_only) == (name, alpha_only) else form
        for form in formats.FORMATS
        if form.name in (*diagnose._DEFAULT_OUTPUTS, name)
    )
    for module in (diagnose, formats):
        monkeypatch.setattr(module, "FORMATS", table)


def test_a_missing_encoder_counts_where_it_is_the_default(monkeypatch):
    with_codec(monkeypatch, "vp9", False, "vp9_of_tomorrow")
    code, found = examined()
    assert code == 0
    assert not found["-o .webm:vp9"]["good"]
    assert "no encoder vp9_of_tomorrow" in found["-o .webm:vp9"]["found"]
    with_codec(monkeypatch, "prores-422-hq", True, "prores_of_tomorrow")
    result = CliRunner().invoke(cli, ["doctor"])
    assert result.exit_code == 1
    assert (
        "FAILED --alpha .mov:prores-422-hq: the FFmpeg of this PyAV has no encoder "
        "prores_of_tomorrow" in result.output
    )
    assert "vidmatte cannot run here" in result.output


@pytest.fixture
def _no_formats(monkeypatch):
    """Trying all of them takes time, and other tests do it."""
    monkeypatch.setattr(diagnose, "FORMATS", ())


@pytest.mark.usefixtures("_no_formats")
def test_a_model_that_does_not_load_is_a_failure(monkeypatch):
    def damaged():
        raise ModelError("compact.safetensors is damaged")

    monkeypatch.setattr(diagnose, "load_model", damaged)
    code, found = examined()
    assert code == 1
    assert found["compact runs"]["found"] == "compact.safetensors is damaged"


@pytest.mark.usefixtures("_no_formats")
def test_what_is_only_slower_or_optional_is_no_failure(monkeypatch):
    monkeypatch.setattr(diagnose, "exact_conversion_works", lambda: False)
    monkeypatch.setattr(diagnose, "free_memory", lambda device: 1 << 30)
    monkeypatch.setattr(
        metadata, "requires", lambda name: ["no-such-thing>=1; extra == 'exr'", "torch>=2"]
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    code, found = examined()
    assert code == 0
    assert not found["colour"]["good"]
    assert found["memory of cpu"]["found"] == "1.1 GB free"
    assert found["exr"]["found"] == "no-such-thing is not installed"
    assert found["exr"]["remedy"] == "pip install 'vidmatte[exr]', if wanted"
    assert "forbidden by HF_HUB_OFFLINE" in found["downloads"]["found"]


@pytest.mark.usefixtures("_no_formats")
def test_a_folder_that_cannot_be_written(tmp_path):
    code, found = examined("--folder", tmp_path / "gone")
    assert code == 1
    assert (
        f"{tmp_path / 'gone'} cannot be written (No such file"
        in found["working directory"]["found"]
    )
