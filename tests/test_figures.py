"""Figures in the documents are those that were measured, with the weights that ship."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("figures", ROOT / "benchmarks" / "figures.py")
figures = importlib.util.module_from_spec(SPEC)
sys.modules["figures"] = figures
SPEC.loader.exec_module(figures)
RECORDS = json.loads(figures.RECORDS.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", RECORDS)
def test_no_figure_is_older_than_the_weights(name):
    again = f"measure again: python benchmarks/figures.py {name}"
    assert RECORDS[name]["weights"] == figures.weights_hash(), again


@pytest.mark.parametrize("name", RECORDS)
def test_every_measurement_says_when_where_and_how_it_was_made(name):
    record = RECORDS[name]
    assert name in figures.MEASUREMENTS
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", record["date"])
    assert re.fullmatch(r"[0-9a-f]{7,12}\+?", record["commit"])
    assert record["machine"]
    assert record["command"].startswith("vidmatte ")


@pytest.mark.parametrize("page", figures.PAGES, ids=lambda page: page.name)
def test_pages_show_the_figures_that_were_measured(page):
    text = page.read_text(encoding="utf-8")
    assert figures.written(text, figures.figures(RECORDS)) == text, (
        "run python benchmarks/figures.py --write"
    )


def test_every_measured_value_stands_in_a_page():
    text = "".join(page.read_text(encoding="utf-8") for page in figures.PAGES)
    shown = {name for name, _ in figures.MARKED.findall(text)}
    measured = {f"{name}.{key}" for name, record in RECORDS.items() for key in record["values"]} - {
        "sample.worst",
        "adapted.worst",
        "adapted.worst_clip",
        "prompts.images",
        "prompts-photographs.images",
    }
    assert measured <= shown


def test_quality_has_no_figure_that_was_typed_in():
    """Each row of the tables of quality has its figures from a measurement, or says its command."""
    text = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    section = text.partition("## Quality")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][2:]
    assert rows
    for row in rows:
        figure = row.split(" | ")[1]
        plain = figures.MARKED.sub("", figure)
        assert not re.search(r"\d", plain) or "benchmarks/foreground.py" in row, row


def test_what_the_demo_prints_is_read():
    line = "x.mkv: 100 frames against the exact alpha: MAD 0.0054 (worst frame 0.0101), dtSSD 2.27, overlap J 0.9849"  # noqa: E501
    assert figures.read_sample(f"other\n{line}\n", ROOT) == {
        "mad": "0.0054",
        "worst": "0.0101",
        "dtssd": "2.27",
        "j": "0.985",
    }


def test_an_evaluation_of_clips_is_read(tmp_path):
    rows = [{"label": "dog", "values": {"J": 0.9}}, {"label": "kite", "values": {"J": 0.65432}}]
    document = {"rows": rows, "mean": {"J": 0.77716}}
    (tmp_path / "summary.json").write_text(json.dumps(document))
    assert figures.read_clips("", tmp_path) == {
        "j": "0.777",
        "worst": "0.654",
        "worst_clip": "kite",
        "dog": "0.900",
        "kite": "0.654",
    }


def test_an_evaluation_of_marks_is_read_and_pooled(tmp_path):
    mean = {"J@1": 0.5, "3 on, 1 off": 0.25}
    document = {"rows": [{"samples": 1}, {"samples": 2}], "mean": mean}
    (tmp_path / "summary.json").write_text(json.dumps(document))
    found = figures.read_marks("", tmp_path)
    assert found == {"images": "3", "j1": "0.500", "points": "0.250"}
    other = {"images": "1", "j1": "0.900", "points": "0.250"}
    assert figures.pooled([found, other]) == {"images": "4", "j1": "0.600", "points": "0.250"}


def test_a_page_is_written_where_it_has_a_figure():
    text = "J <!--f:a.j-->0.1<!--/f-->, and 0.1 of something else"
    assert figures.written(text, {"a.j": "0.2"}) == text.replace("-->0.1", "-->0.2")
