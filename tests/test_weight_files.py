"""Files that are not the weights that their names say: one line, and never a traceback."""

import json
import struct

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from vidmatte.cli import cli
from vidmatte.errors import ModelError
from vidmatte.model import load_model
from vidmatte.model.checkpoint import examine
from vidmatte.model.iconmatting import TrimapHead
from vidmatte.model.weights import load_checkpoint, load_tensors


def with_header(header, data=b""):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def half_a_file(tmp_path):
    save_file({"a": torch.ones(100)}, tmp_path / "whole")
    return (tmp_path / "whole").read_bytes()


BAD = {
    "empty": (b"", "is empty; get it again"),
    "zeros": (bytes(100), "is"),
    "text": (b"these are not weights " * 20, "is"),
    "page": (b"\n<!DOCTYPE html><html>", "is a web page instead of the file"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid", "is a pointer of Git LFS"),
    "list": (with_header([1]), "is"),
    "huge": (struct.pack("<Q", 1 << 40) + b"{}", "header too large"),
    "format": (
        with_header({"a": {"dtype": "Q9", "shape": [1], "data_offsets": [0, 1]}}, b"0"),
        "is",
    ),
    "length": (struct.pack("<Q", 80), "is"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_safetensors_file_is_named(tmp_path, kind):
    content, message = BAD[kind]
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    for load in (
        load_checkpoint,
        load_tensors,
        examine,
        load_model,
        lambda path: load_model("iconmatting", weights=path),
        lambda path: load_model("iconmatting-free", sd=path),
    ):
        with pytest.raises(ModelError, match=r"weights\.safetensors"):
            load(path)
    with pytest.raises(ModelError, match=message):
        load_checkpoint(path)
    done = CliRunner().invoke(cli, ["models", "check", str(path)])
    assert done.exit_code == 1
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("length", [4, 8, 30, 200])
def test_a_safetensors_file_that_was_cut_is_named(tmp_path, length):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(half_a_file(tmp_path)[:length])
    with pytest.raises(ModelError, match=r"weights\.safetensors"):
        load_checkpoint(path)


def test_a_checkpoint_of_torch_loads_under_any_name(tmp_path):
    path = tmp_path / "weights.safetensors"
    torch.save({"state_dict": {"a": torch.arange(3.0)}}, path)
    assert load_checkpoint(path)["a"].tolist() == [0, 1, 2]


def test_formats_that_cannot_be_computed_with_are_named(tmp_path):
    path = tmp_path / "weights.safetensors"
    header = {"a": {"dtype": "F4", "shape": [2], "data_offsets": [0, 1]}}
    path.write_bytes(with_header(header, b"0"))
    with pytest.raises(ModelError, match=r"weights of format float4_\w+ cannot be used"):
        examine(path)


def test_check_knows_the_head_that_takes_trimaps(tmp_path):
    path = tmp_path / "average.safetensors"
    tensors = TrimapHead().state_dict()
    save_file(tensors, path)
    found = examine(path)
    assert (found.kind, found.usable) == ("head of IconMatting that takes trimaps", True)
    assert found.use == f"--model {path} --trimaps PATH"
    tensors.pop("fusion.conv.bn.bias")
    save_file(tensors, path)
    assert examine(path).mismatch.missing == ("fusion.conv.bn.bias",)
