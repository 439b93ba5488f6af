"""Decoding by a GPU: what can be told without one, and with `-m gpu` the real thing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest
import torch

import vidmatte
from vidmatte.errors import OptionError, ReadError
from vidmatte.frames import ColorTags
from vidmatte.imaging.yuv import to_rgb
from vidmatte.media.container import open_container, video_stream
from vidmatte.read import nvdec, open_video

SAMPLE = Path(vidmatte.__file__).parent / "sample" / "portrait.mp4"


class _AsFromGpu:
    """A stream whose frames have the layout in which a GPU hands them over."""

    def __init__(self, container: Any, change: int) -> None:
        self._container = container
        self._change = change

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def demux(self, stream: Any) -> Iterator[Any]:
        for packet in self._container.demux(stream):
            yield _Packet(packet, self._change)


class _Packet:
    def __init__(self, packet: Any, change: int) -> None:
        self._packet = packet
        self._change = change

    def __getattr__(self, name: str) -> Any:
        return getattr(self._packet, name)

    def decode(self) -> Iterator[av.VideoFrame]:
        for frame in self._packet.decode():
            turned = frame.reformat(format="nv12", threads=1)
            turned.pts, turned.time_base = frame.pts, frame.time_base
            turned.duration = frame.duration
            luma = np.frombuffer(cast("bytes", turned.planes[0]), np.uint8)
            luma += np.uint8(self._change)
            yield turned


def pretend(monkeypatch: pytest.MonkeyPatch, change: int) -> None:
    """Put the processor's decoder in the GPU's place, with luma changed by so many codes."""

    @contextmanager
    def opened(source: str, number: int | None) -> Iterator[tuple[Any, Any]]:
        with open_container(source) as container:
            yield _AsFromGpu(container, change), video_stream(source, container, number)

    monkeypatch.setattr(nvdec, "_opened", opened)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_without_a_gpu_it_is_refused_and_not_replaced() -> None:
    with pytest.raises(ReadError, match=r"cannot be decoded by an NVIDIA GPU .*pyav"):
        open_video(SAMPLE, reader="nvdec")


@pytest.mark.parametrize("options", [{"deinterlace": "bwdif"}, {"on_damage": "hold"}])
def test_what_only_ffmpeg_does_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="neither repairs nor deinterlaces"):
        open_video(SAMPLE, reader="nvdec", **options)


def test_frames_in_the_layout_of_a_gpu_are_those_of_the_processor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pretend(monkeypatch, 0)
    with open_video(SAMPLE, reader="nvdec") as found, open_video(SAMPLE) as expected:
        assert found.info == expected.info
        for one, other in zip(found.batches(end=4), expected.batches(end=4), strict=True):
            assert one.pts == other.pts
            assert torch.equal(one.rgb, other.rgb)


def test_a_gpu_with_other_pictures_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 1)
    with pytest.raises(ReadError, match="differ between this GPU and FFmpeg"):
        open_video(SAMPLE, reader="nvdec")


def test_ten_bits_in_the_layout_of_a_gpu_keep_every_code() -> None:
    frame = av.VideoFrame(128, 64, "yuv420p10le")
    packed = av.VideoFrame(128, 64, "p010le")
    generator = np.random.default_rng(0)
    luma, blue, red = (
        generator.integers(64, 940, shape, np.uint16) for shape in ((64, 128), (32, 64), (32, 64))
    )
    # P010 has the ten bits at the upper end of each word, and both chroma planes in one.
    pairs = np.stack([blue, red], 2).reshape(32, 128)
    for owner, planes in ((frame, (luma, blue, red)), (packed, (luma << 6, pairs << 6))):
        for plane, codes in zip(owner.planes, planes, strict=True):
            words = np.frombuffer(cast("bytes", plane), np.uint16).reshape(-1, plane.line_size // 2)
            words[: codes.shape[0], : codes.shape[1]] = codes
    tags = ColorTags(1, 1, 1)
    assert np.array_equal(to_rgb(packed, tags), to_rgb(frame, tags))


@pytest.mark.gpu
def test_a_gpu_gives_the_frames_of_the_processor() -> None:
    with open_video(SAMPLE, reader="nvdec") as found, open_video(SAMPLE) as expected:
        assert found.info == expected.info
        for one, other in zip(found.batches(), expected.batches(), strict=True):
            assert (one.pts, one.durations) == (other.pts, other.durations)
            assert torch.equal(one.rgb, other.rgb)
