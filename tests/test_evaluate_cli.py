"""`vidmatte evaluate` end to end with the embedded model; the paper's tables on a tiny network."""

import json
import re
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner
from evaluation import write_clip, write_group

from vidmatte.cli import cli
from vidmatte.datasets import open_dataset
from vidmatte.errors import OptionError
from vidmatte.evaluate import MethodUnderTest, Protocol, as_text, experiment, run
from vidmatte.evaluate.experiments import variants_of
from vidmatte.evaluate.method import reseed
from vidmatte.evaluate.plot import can_plot
from vidmatte.model.iconmatting.free import TrainingFreeDecoder
from vidmatte.model.iconmatting.options import IconMattingOptions
from vidmatte.model.iconmatting.predictor import build_iconmatting_free


def invoke(*arguments):
    return CliRunner().invoke(cli, ["evaluate", *map(str, arguments)])


@pytest.fixture
def data(tmp_path):
    write_group(tmp_path / "data", "a", [0, 0, 0])
    write_group(tmp_path / "data", "b", [0, 0])
    return tmp_path / "data"


def test_images_from_end_to_end(data, tmp_path):
    done = invoke(
        "groups", "--root", data, "-o", tmp_path / "out", "--prompt", "points", "--rounds", "2"
    )
    assert done.exit_code == 0, done.output
    table = done.stdout.splitlines()
    assert table[0].startswith(
        "compact on groups: 2 groups, 5 images; points on 1 image of each group; "
    )
    assert table[0].endswith("errors in the whole image; 2 rounds, seed 0 to 1")
    assert table[1].split() == [
        "samples",
        "MSE",
        "SAD",
        "/1000",
        "Grad",
        "/1000",
        "Conn",
        "/1000",
        "MAD",
    ]
    assert re.fullmatch(r"mean +3( +\d+\.\d+){5}", table[4])
    names = {
        "index.html",
        "results.csv",
        "results.jsonl",
        "run.json",
        "summary.json",
        "table.txt",
        "table.md",
        "table.tex",
        "pictures",
    }
    assert names | ({"plot.svg"} if can_plot() else set()) == {
        path.name for path in (tmp_path / "out").iterdir()
    }
    # The same command again has nothing to do, and says the same.
    again = invoke(
        "groups", "--root", data, "-o", tmp_path / "out", "--prompt", "points", "--rounds", "2"
    )
    assert again.stdout == done.stdout


def test_json_is_all_that_is_printed_where_it_is_asked_for(data, tmp_path):
    done = invoke("groups", "--root", data, "-o", tmp_path / "out", "--json", "--quiet")
    summary = json.loads(done.stdout)
    assert summary["protocol"]["guidance"] == "group"
    assert summary["subject"]["name"] == "compact"
    assert not done.stderr


def test_clips_from_end_to_end(tmp_path):
    write_clip(tmp_path / "data", "c", [0, 0, 0])
    given = (
        "clips",
        "--root",
        tmp_path / "data",
        "--adapt-steps",
        "0",
        "--smooth",
        "0.5",
        "--quiet",
    )
    done = invoke(*given, "-o", tmp_path / "out", "--mattes")
    assert done.exit_code == 0, done.output
    header = "samples  MAD x1000  MSE x1000  Grad /1000  dtSSD x100  MESSDdt x1000  Conn /1000"
    assert header in done.stdout
    kept = sorted(path.name for path in (tmp_path / "out/mattes/c").iterdir())
    assert kept == ["0001.png", "0002.png"]
    again = invoke(
        "clips",
        "--root",
        tmp_path / "data",
        "--predictions",
        tmp_path / "out/mattes",
        "-o",
        tmp_path / "x",
    )
    numbers = [
        [line for line in text.stdout.splitlines() if line.startswith("mean")]
        for text in (done, again)
    ]
    assert numbers[0] == numbers[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("coco",), "data set 'coco' is not valid: there are icm57"),
        (("ablation",), "'ablation' is not valid: give a data set"),
        (("groups", "clips"), "'groups clips' is not valid"),
        (("groups", "--steps", "1"), "--steps are compared by 'timesteps'"),
        (("timesteps", "groups", "--steps", "a,b"), "write whole numbers"),
        (("references", "groups", "--steps", "1"), "they are for 'timesteps'"),
        (("ablation", "groups"), "this model has no such setting"),
        (("ablation", "groups", "--predictions", "."), "give a model, not mattes"),
        (("ablation", "groups", "--mattes"), "makes several"),
        (
            ("groups", "--predictions", ".", "--model", "iconmatting"),
            "--model was given, but mattes are scored",
        ),
        (("groups", "--settings", "inter=off"), "has no meaning for model 'compact'"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(data, tmp_path, arguments, message):
    done = invoke(*arguments, "--root", data, "-o", tmp_path / "out")
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stderr.startswith("Error: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_data_set_of_another_shape_is_exit_code_1(tmp_path):
    (tmp_path / "odd").mkdir()
    done = invoke("groups", "--root", tmp_path)
    assert done.exit_code == 1
    assert "looked for image.* and alpha.*" in done.stderr


def test_without_matplotlib_the_table_says_that_no_plot_was_drawn(data, tmp_path, monkeypatch):
    monkeypatch.setattr("vidmatte.evaluate.write.can_plot", lambda: False)
    done = invoke("groups", "--root", data, "-o", tmp_path / "out")
    assert done.exit_code == 0
    assert "Note: no plot was drawn: it needs matplotlib" in done.stdout
    assert not (tmp_path / "out/plot.svg").exists()


class Guided(TrainingFreeDecoder):
    """Guidance as it is for alpha, so that every switch can be seen in the result."""

    def finish(self, rgb, coarse):
        return torch.nn.functional.interpolate(coarse, size=rgb.shape[-2:], mode="bilinear")


def tiny_iconmatting(switches):
    # Imported here: the parts of a tiny Stable Diffusion need diffusers, which takes seconds to
    # load.
    from tiny_sd import tiny_sd

    options = IconMattingOptions(**{"ensemble": 1, "time_step": 100, **switches})
    model = build_iconmatting_free(
        tiny_sd(),
        lambda rgb, trimap: trimap,
        name="tiny",
        device=torch.device("cpu"),
        precision=torch.float32,
        options=options,
    )
    return replace(model, decoder=Guided(model.decoder.finish_alpha))


TINY = MethodUnderTest("tiny", load=tiny_iconmatting)


@pytest.fixture
def small(tmp_path):
    return open_dataset("groups", write_group(tmp_path / "small", "a", [0, 0, 0]))


def means(folder):
    summary = json.loads((folder / "summary.json").read_text())
    return {row["label"]: row["values"]["SAD"] for row in summary["rows"]}


def test_ablation_has_the_rows_of_table_5(small, tmp_path):
    table = experiment("ablation", small, TINY, Protocol(rounds=1), tmp_path / "out")
    found = means(tmp_path / "out")
    assert list(found) == ["full", "intra off", "inter and intra off", "multi-scale off"]
    assert len(set(found.values())) == 4  # every switch reached the model
    text = as_text(table)
    assert "IconMatting, intra off (table 5, quoted)" in text
    assert "compare the shape, not the height" in text
    assert (tmp_path / "out/intra-off/index.html").is_file()
    assert "intra-off/index.html" in (tmp_path / "out/index.html").read_text()


def test_references_has_the_rows_of_table_6_on_the_same_images(small, tmp_path):
    experiment("references", small, TINY, Protocol(rounds=1), tmp_path / "out", references=2)
    assert list(means(tmp_path / "out")) == ["1 reference", "2 references"]
    samples = [
        [
            row.split(",")[:2]
            for row in (tmp_path / "out" / name / "results.csv").read_text().splitlines()
        ]
        for name in ("1-reference", "2-references")
    ]
    assert samples[0] == samples[1]


def test_timesteps_has_a_row_for_each_step_beside_table_8(small, tmp_path):
    table = experiment(
        "timesteps", small, TINY, Protocol(rounds=1), tmp_path / "out", steps=(0, 300)
    )
    found = means(tmp_path / "out")
    assert list(found) == ["step 0", "step 300"]
    assert found["step 0"] != found["step 300"]
    text = as_text(table)
    line = next(line for line in text.splitlines() if "step 0 (table 8, quoted)" in line)
    assert line.split()[-5:] == ["0.0091", "22.12", "20.18", "10.98", "-"]
    assert "table 8, step 300: MSE as printed; 0.0089 is plausible beside its SAD" in text
    assert "Conn (research) /1000" in text
    assert any("--conn research measures theirs" in note for note in table.notes)


def test_time_steps_are_those_of_table_8_by_default():
    assert [variant.label for variant in variants_of("timesteps")] == [
        "step 0",
        "step 100",
        "step 200",
        "step 300",
        "step 400",
    ]


def test_rounds_of_a_model_with_noise_differ_by_its_seed(small, tmp_path):
    found = run(small, TINY, Protocol(rounds=2), tmp_path / "out")
    assert {result.round for result in found.results} == {0, 1}
    assert reseed(tiny_iconmatting({}), 5).options.seed == 5
    by_round = [
        [result.values["SAD"] for result in found.results if result.round == k] for k in (0, 1)
    ]
    assert by_round[0] != by_round[1]


def test_a_model_without_a_switch_is_refused(small, tmp_path):
    with pytest.raises(
        OptionError,
        match="timesteps compares values of time_step, and this model has no such setting",
    ):
        experiment("timesteps", small, MethodUnderTest("compact"), Protocol(), tmp_path / "out")
