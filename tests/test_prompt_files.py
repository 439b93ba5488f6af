"""Prompt files: what they may look like, and which clip they belong to."""

import json

import pytest
from clips import write_movie

import vidmatte
from vidmatte.errors import PromptError
from vidmatte.prompts.files import load_prompts, save_prompts
from vidmatte.prompts.prompt import MarkedClip, Prompt
from vidmatte.web.store import prompt_file_of

PROMPT = vidmatte.Prompt(points=((8, 8, 1),))


def write_prompts(path, clip):
    save_prompts(path, {"object": [PROMPT]}, source=clip)
    return path


def test_a_byte_order_mark_is_accepted(tmp_path):
    path = write_prompts(tmp_path / "p.json", "clip.mp4")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load_prompts(path) == {"object": (PROMPT,)}


def test_deeply_nested_json_is_an_error_of_one_line(tmp_path):
    (tmp_path / "p.json").write_text("[" * 100_000 + "]" * 100_000)
    with pytest.raises(PromptError, match=r"p\.json: is nested too deeply"):
        load_prompts(tmp_path / "p.json")


def test_the_extent_of_a_prompt_survives(tmp_path):
    prompt = Prompt(points=((1, 2, 1),), extent="group")
    save_prompts(tmp_path / "a.json", {"x": [prompt]})
    assert load_prompts(tmp_path / "a.json") == {"x": (prompt,)}


def test_the_clip_of_a_prompt_file_survives(tmp_path):
    clip = MarkedClip("clip.mp4", (64, 48), 1234)
    (prompt,) = load_prompts(write_prompts(tmp_path / "p.json", clip))["object"]
    assert prompt.made_on == clip
    document = json.loads((tmp_path / "p.json").read_text())
    assert document["source"] == "clip.mp4"
    assert document["clip"] == {"size": [64, 48], "bytes": 1234}


def test_prompts_of_a_clip_of_another_size_are_refused(tmp_path):
    source = write_movie(tmp_path / "small.mp4", frames=2, size=(64, 48))
    path = write_prompts(tmp_path / "p.json", MarkedClip("large.mp4", (128, 96)))
    with pytest.raises(PromptError, match=r"made on large\.mp4 \(128x96\), and the frame is 64x48"):
        vidmatte.matte(source, load_prompts(path), alpha=tmp_path / "a.mkv")


@pytest.mark.parametrize(("name", "noted"), [("other.mp4", True), ("clip.mp4", False)])
def test_prompts_of_another_clip_are_noted(tmp_path, name, noted):
    source = write_movie(tmp_path / "clip.mp4", frames=2, size=(64, 48))
    path = write_prompts(tmp_path / "p.json", MarkedClip(name, (64, 48)))
    options = vidmatte.MatteOptions(adapt_steps=0, working_size=128)
    summary = vidmatte.matte(source, load_prompts(path), alpha=tmp_path / "a.mkv", options=options)
    found = [note for note in summary.notes if "made on another file, other.mp4 (64x48)" in note]
    assert bool(found) == noted


def test_clips_with_one_name_on_two_cards_have_two_prompt_files(tmp_path, monkeypatch):
    clips = []
    for card in ("a", "b"):
        (tmp_path / card).mkdir()
        clips.append(tmp_path / card / "C0001.MP4")
        clips[-1].write_bytes(card.encode() * (1 + len(clips)))
    monkeypatch.setattr("vidmatte.web.store.os.access", lambda *given: False)  # cards are locked
    first = prompt_file_of(clips[0], tmp_path)
    assert first == tmp_path / "C0001.prompts.json"
    save_prompts(first, {"object": [PROMPT]}, source=MarkedClip("C0001.MP4", (64, 48), 2))
    assert prompt_file_of(clips[0], tmp_path) == first
    assert prompt_file_of(clips[1], tmp_path) == tmp_path / "C0001-2.prompts.json"


def test_a_clip_that_was_rendered_again_keeps_its_prompt_file(tmp_path):
    clip = tmp_path / "shot.mov"
    clip.write_bytes(b"longer than before")
    path = tmp_path / "shot.prompts.json"
    save_prompts(path, {"object": [PROMPT]}, source=MarkedClip("shot.mov", (64, 48), 2))
    assert prompt_file_of(clip, tmp_path) == path
