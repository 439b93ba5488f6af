"""A studio's vidmatte.toml: where it is found, what it may say, and who wins."""

import json
import os

import cv2
import numpy as np
import platformdirs
import pytest
from click.testing import CliRunner
from clips import write_movie

from vidmatte.batch.manifest import load_manifest
from vidmatte.cli import cli, pick
from vidmatte.config import KEYS, Config, find_config, load_config
from vidmatte.errors import OptionError


@pytest.fixture
def studio(tmp_path, monkeypatch):
    """A studio's folder with a job in it: a clip and a matte; the working directory is the job."""
    monkeypatch.delenv("VIDMATTE_CONFIG")
    monkeypatch.setattr(platformdirs, "user_config_path", lambda *_, **__: tmp_path / "user")
    job = tmp_path / "studio" / "film" / "job"
    job.mkdir(parents=True)
    write_movie(job / "clip.mp4", frames=3, size=(32, 32))
    cv2.imwrite(str(job / "matte.png"), np.full((32, 32), 255, np.uint8))
    monkeypatch.chdir(job)
    return tmp_path / "studio"


def write(folder, text):
    folder.mkdir(exist_ok=True)
    (folder / "vidmatte.toml").write_text(f"[defaults]\n{text}\n")
    return folder / "vidmatte.toml"


def run(*arguments, code=0, source="clip.mp4"):
    words = [source, "--model", "none", "--matte", "matte.png", *arguments]
    result = CliRunner().invoke(cli, [*words, "--json"])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def test_the_nearest_file_above_the_working_directory_counts(studio):
    assert find_config(studio) is None
    of_user = write(studio.parent / "user", "smooth = 0.1")
    assert find_config(studio / "film" / "job") == of_user
    above = write(studio, "smooth = 0.2")
    assert find_config(studio / "film" / "job") == above
    near = write(studio / "film", "smooth = 0.3")
    assert find_config(studio / "film" / "job") == near
    assert load_config(studio / "film").values == {"smooth": 0.3}


def test_a_variable_names_the_file_or_none(studio, monkeypatch):
    write(studio, "smooth = 0.2")
    other = write(studio / "film", "smooth = 0.4")
    monkeypatch.setenv("VIDMATTE_CONFIG", str(other))
    assert load_config(studio) == Config(other, {"smooth": 0.4})
    monkeypatch.setenv("VIDMATTE_CONFIG", "")
    assert load_config(studio) == Config()
    monkeypatch.setenv("VIDMATTE_CONFIG", "nowhere.toml")
    with pytest.raises(OptionError, match=r"VIDMATTE_CONFIG is nowhere\.toml, and there is no"):
        load_config(studio)


def test_an_option_wins_over_a_variable_and_that_over_the_file(studio, monkeypatch):
    write(studio, 'batch_size = 2\nsmooth = 0.25\nmodel = "compact"')
    done = run("-o", "a.mov")["options"]
    assert (done["batch_size"], done["smooth"], done["model"]) == (2, 0.25, "none")
    monkeypatch.setenv("VIDMATTE_BATCH_SIZE", "3")
    done = run("-o", "b.mov", "--smooth", "0.75")["options"]
    assert (done["batch_size"], done["smooth"]) == (3, 0.75)
    done = run("-o", "c.mov", "--batch-size", "4")["options"]
    assert done["batch_size"] == 4


def test_zero_is_given_too(studio):
    write(studio, "smooth = 0.25\nfeather = 2")
    done = run("-o", "a.mov", "--smooth", "0", "--feather", "0")["options"]
    assert "smooth" not in done
    assert "feather" not in done


def test_outputs_of_the_studio_are_named_after_the_clip(studio):
    write(studio, 'output = "out/{shot}.%04d.png"\nalpha = ["{shot}_a.mkv"]\nbit-depth = 8')
    done = run()
    job = studio / "film" / "job"
    assert {output["path"] for output in done["outputs"]} == {
        str(job / "out/clip.%04d.png"),
        str(job / "clip_a.mkv"),
    }
    assert cv2.imread(str(job / "out/clip.0002.png"), cv2.IMREAD_UNCHANGED).dtype == np.uint8
    # One that is given replaces all of them.
    assert [output["kind"] for output in run("--alpha", "b.mkv")["outputs"]] == ["alpha"]


def test_what_has_no_meaning_for_a_run_is_left_out_of_it(studio):
    write(
        studio,
        'fps = 25\npremultiplied = true\nbit_depth = 8\nsidecar = "nuke"\n'
        'on_damage = "hold"\nsmooth = 0.5\nbatch_size = 2',
    )
    done = run("--alpha", "m.mkv")
    assert done["options"] == {
        "model": "none",
        "matte": "matte.png",
        "on_damage": "hold",
        "smooth": 0.5,
        "batch_size": 2,
    }
    assert done["sidecars"] == []
    assert run("-o", "c.mov")["sidecars"] == [str(studio / "film" / "job" / "c.nk")]
    os.mkdir("plate")
    for number in (1, 2):
        cv2.imwrite(f"plate/p.{number:04d}.png", np.zeros((32, 32, 3), np.uint8))
    images = run("-o", "x.%04d.png", source="plate")
    assert images["options"]["frame_rate"] == "25"
    assert "on_damage" not in images["options"]
    stills = run("-o", "{name}_x.png", "--images", source="plate")
    assert "smooth" not in stills["options"]


def test_paths_are_those_beside_the_file(studio):
    write(studio, 'sd = "models/sd"\nmodel = "models/mine.safetensors"')
    assert load_config().values["model"] == "models/mine.safetensors"  # a name, as far as one sees
    (studio / "models").mkdir()
    (studio / "models" / "mine.safetensors").touch()
    values = load_config().values
    assert values["sd"] == str(studio / "models/sd")
    assert values["model"] == str(studio / "models/mine.safetensors")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("smoth = 1", "the key 'smoth' is not known; did you mean 'smooth'"),
        ("xyzzy = 1", "the keys are adapt_steps, alpha"),
        ("start = 5", "'start' is no key of it: it belongs to one clip"),
        ("overwrite = true", "'overwrite' is no key of it"),
        ("smooth = 7", "smooth 7 is not valid: give a number from 0 to 1"),
        ('smooth = "much"', "smooth is 'much', which is not a number"),
        ('precision = "int8"', "precision 'int8' is not valid: choose one of auto"),
        ('sidecar = ["maya"]', "sidecar 'maya' is not valid: choose one of nuke"),
        ('fps = "fast"', "frame rate 'fast' is not valid"),
        ("smooth = ", "cannot be read as TOML"),
        ("[other]\na = 1", r"has 'other' at its top, and its only table is \[defaults\]"),
    ],
)
def test_mistakes_are_named_with_their_file(studio, text, message):
    path = write(studio, text)
    with pytest.raises(OptionError, match=message) as caught:
        load_config()
    assert str(caught.value).startswith(f"{path}: ")
    document = run("-o", "a.mov", code=2)
    assert document["error"]["type"] == "OptionError"
    assert CliRunner().invoke(cli, ["matte", "--help"]).exit_code == 0


def test_every_key_of_the_file_is_an_option_of_a_run(studio):
    assert {"model", "device", "smooth", "output", "sidecar", "threads"} <= set(KEYS)
    assert not {"points", "extent", "prompts", "input", "resume", "report"} & set(KEYS)


def test_the_picker_begins_with_the_studio_s_choices(studio, monkeypatch):
    write(studio, 'device = "cpu"\nfeather = 1.5\noutput = "{shot}.webm"')
    seen = {}
    monkeypatch.setattr(pick, "open_picker", lambda clip, **given: seen.update(given))
    assert CliRunner().invoke(cli, ["pick", "clip.mp4"]).exit_code == 0
    assert seen["options"].finish.feather == 1.5
    assert seen["options"].device == "cpu"
    assert seen["outputs"] == ("clip.webm",)
    CliRunner().invoke(cli, ["pick", "clip.mp4", "--device", "auto", "-o", "x.mov"])
    assert seen["options"].device == "auto"
    assert seen["outputs"] == ("x.mov",)


def test_defaults_that_the_picker_does_without_are_no_mistake(studio, monkeypatch):
    write(studio, 'sidecar = "nuke"\nfeather = 1.5')
    seen = {}

    def opened(clip, **given):
        seen.update(given)

    monkeypatch.setattr(pick, "open_picker", opened)
    assert CliRunner().invoke(cli, ["clip.mp4", "--points"]).exit_code == 1  # no run was made
    assert seen["options"].finish.feather == 1.5
    refused = CliRunner().invoke(cli, ["clip.mp4", "--points", "--sidecar", "nuke"])
    assert refused.exit_code == 2
    assert "--sidecar was given, and the picker does without" in refused.stderr


def test_a_manifest_wins_over_the_file_beside_it(studio, monkeypatch):
    write(studio, 'smooth = 0.25\nfeather = 2\nalpha = "{shot}_studio.mkv"\nfps = 30')
    job = studio / "film" / "job"
    (job / "shots.toml").write_text(
        '[defaults]\nmodel = "none"\nmatte = "matte.png"\nfeather = 0\n'
        '[[shots]]\nname = "sh1"\ninput = "clip.mp4"\n'
    )
    # Found from the manifest, wherever the command runs.
    monkeypatch.chdir(studio.parent)
    words = ["batch", str(job / "shots.toml"), "--dry-run", "--json"]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, result.output
    (plan,) = json.loads(result.stdout)["shots"]
    assert plan["outputs"] == [str(job / "sh1_studio.mkv")]
    (shot,) = load_manifest(job / "shots.toml", config=load_config(job))
    options = shot.request.options
    assert (options.smooth, options.finish.feather, options.frame_rate) == (0.25, 0, None)


def test_the_doctor_names_the_file_in_use(studio, monkeypatch):
    from vidmatte.cli import diagnose

    assert diagnose._config().found.startswith("none")
    path = write(studio, "smooth = 0.25")
    assert diagnose._config().found == str(path)
    write(studio, "smoth = 0.25")
    finding = diagnose._config()
    assert (finding.good, finding.needed) == (False, True)
    assert "did you mean 'smooth'?" in finding.remedy
