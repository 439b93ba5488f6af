"""The JSON schemas describe what is really printed, written and read."""

import json
from importlib import resources
from pathlib import Path

import cv2
import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner
from clips import write_movie

from vidmatte.cli import cli
from vidmatte.prompts.files import load_prompts, save_prompts
from vidmatte.prompts.prompt import MarkedClip, Prompt, Stroke
from vidmatte.report.summary import JSON_VERSION
from vidmatte.schemas import SCHEMAS

try:
    import tomllib
except ImportError:
    import tomli as tomllib

GIVEN = ("clip.mp4", "--model", "none", "--matte", "matte.png")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    write_movie(tmp_path / "clip.mp4", frames=3, size=(32, 32))
    cv2.imwrite(str(tmp_path / "matte.png"), np.full((32, 32), 255, np.uint8))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def printed(*arguments):
    return json.loads(CliRunner().invoke(cli, [*arguments, "--json"]).stdout)


def check(document, name):
    jsonschema.validate(document, SCHEMAS[name](), cls=jsonschema.Draft202012Validator)


def is_valid(document, name):
    return jsonschema.Draft202012Validator(SCHEMAS[name]()).is_valid(document)


@pytest.mark.parametrize("name", SCHEMAS)
def test_schemas_are_schemas_and_are_printed(name):
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[name]())
    result = CliRunner().invoke(cli, ["schema", name])
    assert json.loads(result.stdout) == SCHEMAS[name]()


def test_a_summary_has_the_keys_of_its_schema(folder):
    document = printed(*GIVEN, "-o", "a.mov", "--sidecar", "nuke", "--report", "r")
    check(document, "summary")
    assert document["schema_version"] == JSON_VERSION
    done, _ = SCHEMAS["summary"]()["oneOf"]
    # Nothing is printed that the schema does not describe, and nothing described is left out.
    assert set(document) == set(done["properties"])
    assert set(document["confidence"]) == set(done["properties"]["confidence"]["properties"])
    assert not is_valid({**document, "frames": "3"}, "summary")
    assert not is_valid({**document, "schema_version": JSON_VERSION + 1}, "summary")
    del document["outputs"]
    assert not is_valid(document, "summary")


def test_the_sample_clip_with_the_embedded_model_is_described(folder):
    sample = Path(str(resources.files("vidmatte.sample")))
    prompts = next(sample.glob("*.json"))
    clip = next(path for path in sample.iterdir() if path.suffix in (".mp4", ".mov", ".mkv"))
    words = [str(clip), "--prompts", str(prompts), "--end", "1", "--working-size", "128"]
    document = printed(*words, "--alpha", "a.mkv")
    check(document, "summary")
    assert document["weights"]


def test_errors_are_described(folder):
    for words in ((*GIVEN, "-o", "a.xyz"), ("nothing.mp4", "--points", "1,1", "-o", "a.mov")):
        document = printed(*words)
        assert set(document) == {"error"}
        check(document, "summary")


def test_results_of_a_batch_are_described(folder):
    (folder / "shots.toml").write_text(
        '[defaults]\nmodel = "none"\nmatte = "matte.png"\nalpha = "{shot}.mkv"\n'
        '[[shots]]\nname = "good"\ninput = "clip.mp4"\n'
        '[[shots]]\nname = "bad"\ninput = "missing.mp4"\n'
    )
    printed("batch", "shots.toml")
    lines = (folder / "shots.results.jsonl").read_text().splitlines()
    results = {each["shot"]: each for each in map(json.loads, lines)}
    for line in lines:
        check(json.loads(line), "results")
    _, done, failed = SCHEMAS["results"]()["oneOf"]
    for result, schema in ((results["good"], done), (results["bad"], failed)):
        assert set(result) <= set(schema["properties"])
    assert results["bad"]["state"] == "failed"


EVERYTHING = Prompt(
    frame=3,
    points=((1.5, 2.0, 1), (4.0, 5.0, 0)),
    strokes=(Stroke(((1.0, 2.0), (3.0, 4.0)), 5.0, 0),),
    box=(0.0, 1.0, 20.0, 30.0),
)


def test_prompt_files_are_described(folder):
    masked = Prompt(frame="00:00:01:00", mask=folder / "matte.png")
    first = Prompt(points=((1.0, 1.0, 1),), extent="part")
    clip = MarkedClip("clip.mp4", (32, 32), 1234)
    picker = {"objects": [], "start": None}
    marks = {"hero": [EVERYTHING, masked], "car": [first]}
    save_prompts(folder / "p.json", marks, source=clip, picker=picker)
    document = json.loads((folder / "p.json").read_text())
    check(document, "prompts")
    schema = SCHEMAS["prompts"]()
    assert set(document) == set(schema["properties"])
    found = load_prompts(folder / "p.json")
    assert [prompt.frame for prompt in found["hero"]] == [3, "00:00:01:00"]


@pytest.mark.parametrize(
    "prompt",
    [
        {"frame": 0, "point": [[1, 1]]},
        {"points": [[1]]},
        {"points": [[1, 2, 3]]},
        {"box": [1, 2, 3]},
        {"extent": "all"},
        {"strokes": [{"points": [[1, 2]]}]},
    ],
)
def test_what_the_reader_refuses_the_schema_refuses_too(folder, prompt):
    document = {"version": 2, "objects": [{"name": "a", "prompts": [prompt]}]}
    assert not is_valid(document, "prompts")
    (folder / "p.json").write_text(json.dumps(document))
    with pytest.raises(Exception, match=r"p\.json"):
        load_prompts(folder / "p.json")


def test_manifests_are_described(folder):
    text = '[defaults]\nsmooth = 0.5\nsidecar = ["nuke"]\n[[shots]]\ninput = "a.mov"\n'
    check(tomllib.loads(text), "manifest")
    assert not is_valid({"shots": [{"input": "a.mov", "sidecar": "maya"}]}, "manifest")
    assert not is_valid({"shots": [{"input": "a.mov", "smoth": 1}]}, "manifest")
