"""Marks that another model answers: what reaches the model that mattes, and the options for it."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from picker import CircleModel, on_disc, opened, write_disc

from vidmatte.cli import cli
from vidmatte.errors import OptionError
from vidmatte.model.build import notes_of, with_note
from vidmatte.model.interface import SupportsEncodedReferences
from vidmatte.model.prompted import PromptedModel
from vidmatte.options import MatteOptions
from vidmatte.pipeline import models
from vidmatte.prompts.prompt import Prompt

HEIGHT, WIDTH = 90, 160


class Listener:
    """A model that keeps the references that it is given."""

    name, device, precision = "listener", torch.device("cpu"), torch.float32

    def __init__(self) -> None:
        self.references = ()

    def with_reference(self, references):
        """Keep them."""
        self.references = tuple(references)
        return lambda batch: None


def point(x=60, y=40, **more):
    picture = torch.full((1, 3, HEIGHT, WIDTH), 0.5)
    return Prompt(points=((x, y, 1),), **more).reference(picture, frame=7)


def circle(x, y, radius):
    yy, xx = np.mgrid[:HEIGHT, :WIDTH]
    return torch.from_numpy((np.hypot(xx - x, yy - y) < radius).astype(np.float32))[None, None]


def test_the_matte_of_the_marks_is_the_reference_of_the_other_model():
    listener = Listener()
    model = PromptedModel(listener, CircleModel())
    model.with_reference([point(), point(100, 50, extent="part")])
    first, second = listener.references
    assert torch.equal(first.alpha, circle(60, 40, 30))
    assert torch.equal(second.alpha, circle(100, 50, 12))
    for reference in listener.references:
        assert reference.is_complete
        assert (reference.frame, reference.steps, reference.extent) == (7, (), None)
    assert (model.name, model.device) == ("listener", torch.device("cpu"))


def test_a_mask_is_not_answered():
    listener = Listener()
    marker = SimpleNamespace()  # would fail if it were asked
    whole = replace(point(), alpha=circle(30, 30, 9), known=torch.ones(1, 1, HEIGHT, WIDTH))
    encoded = PromptedModel(listener, marker).encode(whole)
    assert encoded.encoded is whole
    assert (encoded.extent, encoded.extents) == ("object", ("object",))


def test_a_trimap_is_not_answered():
    listener = Listener()
    known = torch.ones(1, 1, HEIGHT, WIDTH)
    known[..., 30:40, 50:70] = 0
    trimap = replace(point(), alpha=circle(60, 35, 20) * known, known=known, steps=())
    assert trimap.is_trimap
    encoded = PromptedModel(listener, SimpleNamespace()).encode(trimap)
    assert encoded.encoded is trimap


def test_what_the_marks_may_mean_is_said_by_the_model_that_answers():
    model = PromptedModel(Listener(), CircleModel())
    assert isinstance(model, SupportsEncodedReferences)
    encoded = model.encode(point(extent="group"))
    assert (encoded.extent, encoded.extents) == ("group", ("part", "object", "group"))


def test_further_marks_begin_from_the_answer_before():
    given = []

    class Counting(CircleModel):
        def encode(self, reference, *, after=None):
            given.append(after)
            return super().encode(reference)

    model = PromptedModel(CircleModel("mattes"), Counting())
    first = model.encode(point())
    model.encode(point(), after=first)
    assert given == [None, first.answer]


def test_a_note_does_not_hide_what_a_model_can_do():
    """A remark on missing parts took the answers to marks from sam2."""
    noted = with_note(CircleModel(), "one", "two")
    assert isinstance(noted, SupportsEncodedReferences)
    assert notes_of(noted) == ("one", "two")
    assert noted.encode(point(extent="part")).extent == "part"
    assert not isinstance(with_note(Listener(), "one"), SupportsEncodedReferences)


def test_the_model_for_marks_is_loaded_beside_the_other(monkeypatch):
    asked = []

    def load(name, **choices):
        asked.append((name, choices["weights"]))
        return CircleModel(str(name))

    monkeypatch.setattr(models, "load_model", load)
    model = models.model_from_options(MatteOptions(prompt_model="sam2", prompt_weights="nets"))
    assert asked == [("compact", None), ("sam2", "nets")]
    assert model.name == "compact"
    assert notes_of(model) == ("marks were answered by 'sam2'",)
    # The model itself needs no other.
    same = models.model_from_options(MatteOptions(model="sam2", prompt_model="sam2"))
    assert type(same) is CircleModel
    assert len(asked) == 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"prompt_model": "icmp"}, "choose one of compact, sam2, edgetam"),
        ({"prompt_weights": "nets"}, "give prompt_model too"),
        ({"prompt_model": "sam2", "trimaps": "t.png", "model": "vitmatte"}, "take no marks"),
        ({"prompt_model": "sam2", "model": "none", "matte": "m.mov"}, "take no marks"),
    ],
)
def test_what_does_not_fit_is_refused(given, message):
    with pytest.raises(OptionError, match=message):
        MatteOptions(**given)


def test_a_model_for_marks_that_is_not_here_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    pytest.importorskip("transformers")
    clip = write_disc(tmp_path / "clip.mp4", frames=2)
    words = [str(clip), "--points", "50,50", "--prompt-model", "sam2", "--device", "cpu"]
    answer = CliRunner().invoke(cli, words)
    assert answer.exit_code == 1
    assert "model 'sam2' needs SAM 2.1" in answer.output


def test_the_page_switches_the_model_that_answers(tmp_path, monkeypatch):
    clip = write_disc(tmp_path / "clip.mp4", frames=6)
    (tmp_path / "nets" / "sam2").mkdir(parents=True)
    others = {"sam2": CircleModel("sam2", (5, 9, 20))}
    load = models.load_model
    monkeypatch.setattr(
        models, "load_model", lambda name, **more: others.get(name) or load(name, **more)
    )
    options = MatteOptions(device="cpu", working_size=128)
    with opened(clip, options=options) as session:
        assert session.prompt_models == ("compact",)
        with pytest.raises(OptionError, match="choose one of compact"):
            session.set_prompt_model("sam2")
    with opened(
        clip,
        options=replace(options, prompt_model="sam2", prompt_weights=tmp_path / "nets"),
    ) as session:
        assert session.prompt_models == ("compact", "sam2")
        session.edit(on_disc(0))
        assert session.still(1, 0).result(60).answers == ("part", "object", "group")
        assert "--prompt-model sam2" in session.state()["command"]
        assert str(tmp_path / "nets") in session.state()["command"]
        session.set_prompt_model("compact")
        assert session.state()["prompt_model"] == "compact"
        assert "--prompt-" not in session.state()["command"]
        own = session.still(1, 0).result(60)
        session.show_preview(True, 0)
        session.set_prompt_model("sam2")
        assert session.state()["preview"]["on"]
        other = session.still(1, 0).result(60)
        assert other.png != own.png
        assert session.project.prompts["object"][0].points
