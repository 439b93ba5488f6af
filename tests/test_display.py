"""What the model sees of HDR and scene-linear footage, while outputs get the footage itself."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import av
import numpy as np
import pytest
import torch

import vidmatte
from vidmatte.frames import ColorTags, FrameBatch, MatteBatch
from vidmatte.imaging import yuv
from vidmatte.imaging.display import describe_view, for_output, to_display
from vidmatte.imaging.transfer import hlg_decode, linear_to_srgb, linear_to_video, pq_decode
from vidmatte.model.display import with_display_transform
from vidmatte.read import open_video
from vidmatte.write.planes import output_tags, video_frame

PQ, HLG, LINEAR = ColorTags(9, 16, 9), ColorTags(9, 18, 9), ColorTags(1, 8, 0, True)


def gray(value):
    return torch.full((1, 3, 4, 4), value)


def test_pq_is_that_of_the_standard():
    # BT.2408-7: 203 cd/m2 is 58 % of PQ, 100 cd/m2 50.8 %; 10000 cd/m2 is the end of the scale.
    light = pq_decode(torch.tensor([0.0, 0.508, 0.581, 0.7518, 1.0], dtype=torch.float64))
    assert light.tolist() == pytest.approx([0, 100, 203, 1000, 10000], rel=5e-3, abs=1e-9)


def test_hlg_is_that_of_the_standard():
    # BT.2100-2, table 5: half signal is a twelfth of the light; full signal all of it. BT.2408: 75
    # % is 26.5 %.
    assert hlg_decode(torch.tensor([0.0, 0.5, 0.75, 1.0])).tolist() == pytest.approx(
        [0, 1 / 12, 0.265, 1], rel=3e-3
    )


@pytest.mark.parametrize(("tags", "white", "peak"), [(PQ, 0.5807, 0.7518), (HLG, 0.75, 1.0)])
def test_hdr_is_toned_down_to_a_bright_picture_without_clipped_highlights(tags, white, peak):
    shown = [
        to_display(gray(value), tags)[0, 0, 0, 0].item()
        for value in (0.0, 0.3, white, (white + peak) / 2, peak)
    ]
    assert shown[0] == 0
    assert shown[-1] == pytest.approx(1, abs=2e-3)
    assert all(a < b - 0.01 for a, b in pairwise(shown))
    assert 0.85 < shown[2] < 0.95  # diffuse white is nearly white


def test_dark_hdr_light_is_shown_as_it_is():
    # Below the knee of the curve light is not touched. BT.2408: gray of 18 % is 26 cd/m2, 38 % of
    # PQ.
    code = torch.tensor(0.38)
    assert pq_decode(code).item() == pytest.approx(26, rel=3e-2)
    wanted = (pq_decode(code).item() / 203) ** (1 / 2.4)
    assert to_display(gray(code.item()), PQ).mean().item() == pytest.approx(wanted, abs=2e-3)


def test_hue_survives_the_tone_curve():
    rgb = torch.tensor([0.7, 0.5, 0.5]).reshape(1, 3, 1, 1)
    shown = to_display(rgb, replace(PQ, primaries=1)).flatten().double() ** 2.4
    light = pq_decode(rgb.flatten().double())
    assert (shown[1] / shown[0]).item() == pytest.approx((light[1] / light[0]).item(), rel=1e-2)


def test_scene_linear_light_is_rolled_off():
    rgb = torch.tensor([0.18, 0.5, 1.0, 16.0, -0.1]).reshape(1, 1, 5, 1).expand(1, 3, 5, 1)
    shown = to_display(rgb, LINEAR)[0, 0, :, 0]
    assert shown[:2].tolist() == pytest.approx([0.4614, 0.7354], abs=1e-3)  # the curve of sRGB
    assert shown[1] < shown[2] < shown[3] <= 1
    assert shown[4] == 0


def test_super_whites_are_clipped_for_the_model_alone():
    rgb = gray(1.07)
    assert (to_display(rgb, ColorTags()) == 1).all()
    assert torch.equal(for_output(rgb, ColorTags(), linear_to_video), rgb)


@pytest.mark.parametrize(
    ("curve", "middle"), [(linear_to_srgb, 0.46135), (linear_to_video, 0.40901)]
)
def test_curves_for_outputs_of_scene_linear_light(curve, middle):
    values = torch.tensor([0.0, 0.18, 1.0, 7.0]).reshape(1, 1, 1, 4).expand(1, 3, 1, 4)
    out = for_output(values, LINEAR, curve)
    assert out[0, 0, 0].tolist() == pytest.approx([0, middle, 1, 1], abs=1e-5)


class Seen:
    """A predictor that keeps what it is shown."""

    def __init__(self):
        self.frames = []

    def __call__(self, batch):
        self.frames.append(batch.rgb)
        return MatteBatch(batch, batch.rgb[:, :1].clamp(0, 1), (1.0,) * len(batch))


def test_a_matter_sees_the_view_and_the_matte_carries_the_source():
    batch = FrameBatch(gray(0.58), (0,), (0,), (1,))
    seen = Seen()
    result = with_display_transform(seen, PQ)(batch)
    assert torch.equal(seen.frames[0], to_display(batch.rgb, PQ))
    assert torch.equal(result.source.rgb, batch.rgb)


def write_hdr(path, *, transfer, frames=3):
    """Write a lossless 10-bit 4:4:4 FFV1 movie with random code values; return it and the codes.

    Their colours lie inside the RGB cube.
    """
    rng = np.random.default_rng(7)
    rgb = rng.random((3, 48, 96))
    luma = 0.2627 * rgb[0] + 0.678 * rgb[1] + 0.0593 * rgb[2]
    planes = [
        np.rint(64 + 876 * luma),
        np.rint(512 + 896 * (rgb[2] - luma) / 1.8814),
        np.rint(512 + 896 * (rgb[0] - luma) / 1.4746),
    ]
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 48, "yuv444p10le"
        for _ in range(frames):
            frame = av.VideoFrame(96, 48, "yuv444p10le")
            for owner in (stream.codec_context, frame):
                owner.color_primaries, owner.color_trc, owner.colorspace, owner.color_range = (
                    9,
                    transfer,
                    9,
                    1,
                )
            for plane, codes in zip(frame.planes, planes, strict=True):
                np.frombuffer(plane, np.uint16).reshape(48, -1)[:, :96] = codes
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return planes


@pytest.mark.parametrize("transfer", [16, 18])
def test_hdr_code_values_reach_the_outputs_untouched(tmp_path, transfer):
    planes = write_hdr(tmp_path / "hdr.mkv", transfer=transfer)
    with open_video(tmp_path / "hdr.mkv") as video:
        rgb = video.frame(0).rgb[0]
        tags = output_tags(video.info.color, alpha_only=False, full_range=False)
    assert (tags.primaries, tags.transfer, tags.matrix) == (9, transfer, 9)
    written = video_frame(rgb, torch.ones(48, 96), pixel_format="yuva444p10le", tags=tags)
    for plane, codes in zip(written.planes, planes, strict=False):
        assert np.array_equal(np.frombuffer(plane, np.uint16).reshape(48, -1)[:, :96], codes)


def test_a_run_on_hdr_says_what_the_model_saw(tmp_path):
    write_hdr(tmp_path / "hdr.mkv", transfer=16)
    prompt = vidmatte.Prompt(box=(10, 10, 60, 40))
    options = vidmatte.MatteOptions(foreground="source", adapt_steps=0)
    summary = vidmatte.matte(
        tmp_path / "hdr.mkv", prompt, output=tmp_path / "out.mov", options=options
    )
    assert any("HDR (PQ)" in note and "tone-mapped copy" in note for note in summary.notes)
    with av.open(str(tmp_path / "out.mov")) as container:
        frame = next(container.decode(video=0))
        assert (int(frame.color_primaries), int(frame.color_trc), int(frame.colorspace)) == (
            9,
            16,
            9,
        )
    assert describe_view(ColorTags()) is None


def test_super_whites_are_read_and_written(tmp_path):
    frame = av.VideoFrame(96, 16, "yuv444p10le")
    frame.colorspace, frame.color_range = 1, 1
    for plane, code in zip(frame.planes, (1000, 512, 512), strict=True):
        np.frombuffer(plane, np.uint16)[:] = code
    tags = yuv.tags_of(frame)
    rgb = torch.from_numpy(yuv.to_rgb(frame, tags))
    assert rgb.max().item() == pytest.approx((1000 - 64) / 876, abs=1e-5)
    written = video_frame(rgb, torch.ones(16, 96), pixel_format="yuva444p10le", tags=tags)
    assert (np.frombuffer(written.planes[0], np.uint16).reshape(16, -1)[:, :96] == 1000).all()


def test_light_above_white_survives_the_estimation_of_colour():
    from vidmatte.stages.chain import with_foreground

    light = torch.linspace(0, 30, 64 * 64).reshape(1, 1, 64, 64).expand(1, 3, 64, 64).contiguous()
    alpha = torch.ones(1, 1, 64, 64)
    alpha[..., :8] = 0.5
    batch = MatteBatch(FrameBatch(light, (0,), (0,), (1,)), alpha, (1.0,))
    estimated = with_foreground(batch).color
    assert torch.equal(estimated[..., 8:], light[..., 8:])
    assert estimated[..., :8].max() > 20
