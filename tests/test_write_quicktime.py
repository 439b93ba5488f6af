"""What QuickTime readers look for in the header of a .mov, by a reading of the file of our own."""

from __future__ import annotations

import struct
from fractions import Fraction

import av
import pytest
import torch

from vidmatte import __version__
from vidmatte.frames import ColorTags, FrameBatch, MatteBatch, VideoInfo
from vidmatte.write import create_outputs, parse_output
from vidmatte.write.quicktime import set_alpha_mode

WIDTH, HEIGHT = 256, 120
HOLDERS = (b"moov", b"trak", b"mdia", b"minf", b"stbl")


def save(path, target, *, alpha_only=False, like=None, **options):
    """Write two gray frames to a path with the format options of a target."""
    like = like or VideoInfo("clip.mp4", WIDTH, HEIGHT, Fraction(24), Fraction(1, 24))
    spec = parse_output(f"{path}{target}", alpha_only=alpha_only)
    source = FrameBatch(torch.full((2, 3, HEIGHT, WIDTH), 0.5), (0, 1), (0, 1), (1, 1))
    with create_outputs([spec], like=like, **options) as outputs:
        outputs.write(MatteBatch(source, torch.full((2, 1, HEIGHT, WIDTH), 0.5), (1.0, 1.0)))
    return path


def atoms(data, start=0, end=None):
    """Type and content of all atoms down to the sample description."""
    end = len(data) if end is None else end
    while start + 8 <= end:
        size, kind = struct.unpack(">I4s", data[start : start + 8])
        if kind in HOLDERS:
            yield from atoms(data, start + 8, start + size)
        else:
            yield kind, data[start + 8 : start + size]
        start += size


def picture_entry(path):
    """The sample description of the picture: its fields, and the atoms behind them."""
    (entry, *_) = [content[8:] for kind, content in atoms(path.read_bytes()) if kind == b"stsd"]
    length = struct.unpack(">I", entry[:4])[0]
    name = entry[51 : 51 + entry[50]].decode()
    depth = struct.unpack(">h", entry[82:84])[0]
    return name, depth, dict(atoms(entry, 86, length))


COLOUR = [
    (".mov:prores-4444", "Apple ProRes 4444"),
    (".mov:prores-4444-xq", "Apple ProRes 4444 XQ"),
    (".mov:png", "PNG"),
    (".mov:qtrle", "Animation"),
]
MATTES = [
    (".mov:prores-422-hq", "Apple ProRes 422 HQ"),
    (".mov:png", "PNG"),
    (".mov:dnxhr-444", "DNxHR 444"),
]


@pytest.mark.parametrize(("target", "compressor"), COLOUR)
def test_depth_of_32_says_that_there_is_alpha(tmp_path, target, compressor):
    """After Effects takes 24 for a picture without alpha."""
    name, depth, _ = picture_entry(save(tmp_path / "a", target).with_suffix(".mov"))
    assert (name, depth) == (compressor, 32)


@pytest.mark.parametrize(
    ("target", "compressor"), [*MATTES, (".mov:on-black", "Apple ProRes 422 HQ")]
)
def test_depth_of_24_says_that_there_is_none(tmp_path, target, compressor):
    path = save(tmp_path / "a", target, alpha_only="black" not in target).with_suffix(".mov")
    name, depth, _ = picture_entry(path)
    assert (name, depth) == (compressor, 24)


@pytest.mark.parametrize("target", [target for target, _ in COLOUR])
def test_progressive_pictures_say_so(tmp_path, target):
    """One field a frame, and nothing on their order (QuickTime File Format, "fiel")."""
    _, _, behind = picture_entry(save(tmp_path / "a", target).with_suffix(".mov"))
    assert behind[b"fiel"] == b"\1\0"


@pytest.mark.parametrize("target", [target for target, _ in COLOUR])
def test_colour_of_hd_sources_is_named(tmp_path, target):
    color = ColorTags(1, 1, 1)
    like = VideoInfo("clip.mp4", WIDTH, HEIGHT, Fraction(24), Fraction(1, 24), color=color)
    _, _, behind = picture_entry(save(tmp_path / "a", target, like=like).with_suffix(".mov"))
    matrix = 1 if "prores" in target else 0
    assert behind[b"colr"][:10] == b"nclc" + struct.pack(">3H", 1, 1, matrix)


@pytest.mark.parametrize("target", [target for target, _ in COLOUR])
@pytest.mark.parametrize(("premultiplied", "mode"), [(False, 256), (True, 258)])
def test_graphics_mode_says_straight_or_premultiplied(tmp_path, target, premultiplied, mode):
    path = save(tmp_path / "a", target, premultiplied=premultiplied).with_suffix(".mov")
    (header,) = [content for kind, content in atoms(path.read_bytes()) if kind == b"vmhd"]
    assert struct.unpack(">I4H", header) == (1, mode, 0, 0, 0)


@pytest.mark.parametrize("target", [target for target, _ in MATTES])
def test_graphics_mode_of_mattes_is_copy(tmp_path, target):
    path = save(tmp_path / "a", target, alpha_only=True).with_suffix(".mov")
    (header,) = [content for kind, content in atoms(path.read_bytes()) if kind == b"vmhd"]
    assert struct.unpack(">I4H", header) == (1, 0, 0, 0, 0)


def test_movies_say_what_made_them(tmp_path):
    command = "vidmatte clip.mp4 --points 10,20"
    for name in "ab":
        save(tmp_path / name, ".mov", command=command, weights="a.safetensors sha256:0fe1")
    with av.open(str(tmp_path / "a.mov")) as container:
        assert container.metadata["com.apple.quicktime.software"] == f"vidmatte {__version__}"
        assert container.metadata["com.apple.quicktime.comment"] == command
        assert container.metadata["vidmatte.weights"] == "a.safetensors sha256:0fe1"
    assert (tmp_path / "a.mov").read_bytes() == (tmp_path / "b.mov").read_bytes()


class _Memory:
    """A file in memory, in which one atom has its length in 8 bytes, as picture data over 4 GB
    has.
    """

    def __init__(self, data):
        self.data = bytearray(data)

    def read_at(self, offset, size):
        return bytes(self.data[offset : offset + size])

    def write_at(self, offset, data):
        self.data[offset : offset + len(data)] = data


def test_atoms_behind_long_picture_data_are_found(tmp_path):
    data = save(tmp_path / "a", ".mov").with_suffix(".mov").read_bytes()
    large = struct.pack(">I4sQ", 1, b"mdat", 16 + 100) + bytes(100)
    file = _Memory(large + data)
    set_alpha_mode(file, len(file.data), premultiplied=True)
    assert file.data[file.data.index(b"vmhd") + 8 :][:2] == b"\x01\x02"
