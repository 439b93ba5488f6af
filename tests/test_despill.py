"""Despill by hand, and beside FFmpeg's filter."""

from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from vidmatte.errors import OptionError
from vidmatte.imaging.despill import despill
from vidmatte.options import Despill, parse_despill

LUMA = torch.tensor([0.2126, 0.7152, 0.0722])


def one(red, green, blue, screen="green", strength=1.0):
    color = torch.tensor([red, green, blue], dtype=torch.float32).reshape(1, 3, 1, 1)
    return despill(color, Despill(screen, strength)).flatten().tolist()


def test_despill_equals_the_formula_by_hand():
    # Mean of red and blue 0.3, spill 0.4, of which 0.4 * 0.7152 comes back as gray.
    back = 0.4 * 0.7152
    assert one(0.2, 0.7, 0.4) == pytest.approx([0.2 + back, 0.3 + back, 0.4 + back], abs=1e-6)
    assert one(0.2, 0.7, 0.4, strength=0.5) == pytest.approx(
        [0.2 + back / 2, 0.5 + back / 2, 0.4 + back / 2], abs=1e-6
    )
    assert one(0.2, 0.4, 0.7, "blue") == pytest.approx(
        [0.2 + 0.4 * 0.0722, 0.4 + 0.4 * 0.0722, 0.3 + 0.4 * 0.0722], abs=1e-6
    )


@pytest.mark.parametrize(
    "color", [(0.5, 0.5, 0.5), (0.8, 0.6, 0.5), (0.2, 0.3, 0.4), (1, 1, 1), (0, 0, 0)]
)
def test_what_is_not_greener_than_the_mean_stays_bit_for_bit(color):
    assert one(*color) == torch.tensor(color, dtype=torch.float32).tolist()


@pytest.mark.parametrize("screen", ["green", "blue"])
def test_luma_is_kept_and_no_spill_is_left(screen):
    color = torch.rand(1, 3, 40, 50, generator=torch.Generator().manual_seed(1)) * 0.7
    kept = color.clone()
    result = despill(color, Despill(screen))
    assert torch.equal(color, kept)
    assert torch.allclose(
        (result[0].permute(1, 2, 0) @ LUMA), (color[0].permute(1, 2, 0) @ LUMA), atol=1e-6
    )
    channel = {"green": 1, "blue": 2}[screen]
    others = [c for c in range(3) if c != channel]
    assert float((result[:, channel] - result[:, others].mean(1)).max()) < 1e-6
    assert torch.equal(despill(color, Despill(screen, 0.0)), color)


@pytest.mark.parametrize("screen", ["green", "blue"])
def test_ffmpeg_finds_the_same(screen):
    rng = np.random.default_rng(3)
    picture = np.concatenate(
        [rng.integers(0, 180, (16, 16, 3), np.uint8), np.full((16, 16, 1), 255, np.uint8)], 2
    )
    frame = av.VideoFrame.from_ndarray(picture, "rgba")
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    weight, scale = {"green": ("0.7152", "green"), "blue": ("0.0722", "blue")}[screen]
    graph = av.filter.Graph()
    source = graph.add_buffer(width=16, height=16, format="rgba", time_base=Fraction(1, 25))
    node = graph.add(
        "despill",
        f"type={screen}:mix=0.5:expand=0:{scale}=-1:brightness={weight}"
        + (":green=0" if screen == "blue" else ""),
    )
    sink = graph.add("buffersink")
    source.link_to(node)
    node.link_to(sink)
    graph.configure()
    graph.push(frame)
    theirs = graph.pull().reformat(format="rgba").to_ndarray()[..., :3].astype(int)
    color = torch.from_numpy(picture[..., :3].transpose(2, 0, 1).astype(np.float32) / 255)[None]
    ours = np.round(despill(color, Despill(screen))[0].numpy().transpose(1, 2, 0) * 255).astype(int)
    assert np.abs(ours - theirs).max() <= 1
    assert (ours != picture[..., :3]).any(2).mean() > 0.3


def test_despill_is_parsed_from_its_text():
    assert parse_despill("green") == Despill("green", 1.0)
    assert parse_despill("blue,0.25") == Despill("blue", 0.25)
    for text, message in (
        ("red", "choose green or blue"),
        ("green,2", "0 to 1"),
        ("green,much", "green,0.5"),
    ):
        with pytest.raises(OptionError, match=message):
            parse_despill(text)
