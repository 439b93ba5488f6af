"""Camera and scene-linear colour through OpenColorIO: what the model sees, what files hold."""

from __future__ import annotations

from fractions import Fraction
from importlib.resources import as_file, files

import av
import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner

import vidmatte
from vidmatte.cli import cli
from vidmatte.errors import MissingExtraError, OptionError
from vidmatte.frames import ColorSpace, ColorTags
from vidmatte.imaging import ocio
from vidmatte.imaging.display import to_display
from vidmatte.imaging.primaries import AP0, AP1, CHROMATICITIES, matrix_between
from vidmatte.metrics import mad, region_overlap
from vidmatte.pipeline.request import Request
from vidmatte.pipeline.segments.fingerprint import fingerprint
from vidmatte.pipeline.source import open_clip
from vidmatte.prompts.files import load_prompts
from vidmatte.prompts.reference import make_references
from vidmatte.read import open_video
from vidmatte.read.camera import declared_space
from vidmatte.write.exr import to_light

OpenColorIO = pytest.importorskip("PyOpenColorIO")
OpenEXR = pytest.importorskip("OpenEXR")

LOGC3, SLOG3, ACESCG = "ARRI LogC3 (EI800)", "S-Log3 S-Gamut3.Cine", "ACEScg"
AP1_HEADER = (0.713, 0.293, 0.165, 0.830, 0.128, 0.044, 0.32168, 0.33767)
# Published by the Academy: ARRI wide gamut 3 to AP0 (CSC of LogC3, EI 800), and AP0 to AP1.
AWG3_TO_AP0 = np.array(
    [
        [0.680206, 0.236137, 0.083658],
        [0.085415, 1.017471, -0.102886],
        [0.002057, -0.062563, 1.060506],
    ]
)
AP0_TO_AP1 = np.array(
    [
        [1.4514393161, -0.2365107469, -0.2149285693],
        [-0.0765537734, 1.1762296998, -0.0996759264],
        [0.0083161484, -0.0060324498, 0.9977163014],
    ]
)
# Of the ACES configs: linear BT.709 to AP1.
BT709_TO_AP1 = np.array(
    [
        [0.6130974, 0.3395231, 0.0473795],
        [0.0701937, 0.9163539, 0.0134524],
        [0.0206156, 0.1095698, 0.8698147],
    ]
)


def space(name):
    return ocio.find_space(name, ocio.BUILT_IN)


def logc3_light(code):
    """Return the light of LogC3 code values (ARRI, EI 800) above the linear part at the bottom."""
    return (10 ** ((code - 0.385537) / 0.247190) - 0.052272) / 5.555556


def column(*values):
    """Return (1, 3, 1, 1) of one colour."""
    return torch.tensor(values, dtype=torch.float32).reshape(1, 3, 1, 1)


def save_exr(path, pixels, **header):
    header = {"type": OpenEXR.scanlineimage, **header}
    OpenEXR.File(header, {"RGB": np.ascontiguousarray(pixels, np.float32)}).write(str(path))


def save_movie(path, frames, rate=25, **metadata):
    """Write (3, H, W) frames in 0..1 without loss of their 10-bit code values."""
    with av.open(str(path), "w") as container:
        container.metadata.update({key.replace("_", "."): text for key, text in metadata.items()})
        stream = container.add_stream("ffv1", rate=rate)
        stream.height, stream.width = frames[0].shape[1:]
        stream.pix_fmt = "gbrp10le"
        for picture in frames:
            codes = np.round(picture * 1023).astype(np.uint16)
            frame = av.VideoFrame(stream.width, stream.height, "gbrp10le")
            for plane, channel in zip(frame.planes, (1, 2, 0), strict=True):
                rows = np.frombuffer(plane, np.uint16).reshape(stream.height, -1)
                rows[:, : stream.width] = codes[channel]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def given(tmp_path, **options):
    """Return options that take a matte of 1 everywhere, without any network."""
    cv2.imwrite(str(tmp_path / "white.png"), np.full((8, 8), 255, np.uint8))
    matte = tmp_path / "white.png"
    return vidmatte.MatteOptions(model="none", matte=matte, overwrite=True, **options)


def flat(*color):
    return np.ones((3, 8, 8), np.float32) * np.reshape(color, (3, 1, 1))


@pytest.mark.parametrize(
    ("name", "found", "is_linear"),
    [
        ("acescg", ACESCG, True),
        ("lin_ap1_scene", ACESCG, True),
        ("scene_linear", ACESCG, True),
        ("LogC3", LOGC3, False),
        ("S-Log3", SLOG3, False),
        ("v-log", "V-Log V-Gamut", False),
        ("ARRI LogC4", "ARRI LogC4", False),
    ],
)
def test_spaces_have_the_names_that_people_use(name, found, is_linear):
    assert space(name) == ColorSpace(found, ocio.BUILT_IN, is_linear)


def test_an_unknown_space_is_answered_with_near_names(tmp_path):
    with pytest.raises(OptionError, match=r"near names are ARRI LogC3 \(EI800\), ARRI LogC4"):
        space("LogC5")
    with pytest.raises(OptionError, match=r"near names are S-Log3 S-Gamut3"):
        space("S-Log3 Gamut")
    (tmp_path / "bad.ocio").write_text("a: b\n")
    for config in (tmp_path / "bad.ocio", tmp_path / "none.ocio", "ocio://none"):
        with pytest.raises(OptionError, match="is not an OpenColorIO config that loads") as error:
            ocio.find_space("ACEScg", str(config))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", [ACESCG, LOGC3, SLOG3, "ARRI LogC4"])
def test_the_picture_is_that_of_the_view(name):
    config = OpenColorIO.Config.CreateFromFile(ocio.BUILT_IN)
    display = config.getDefaultDisplay()
    view = config.getDefaultView(display, name)
    transform = OpenColorIO.DisplayViewTransform(src=name, display=display, view=view)
    exact = config.getProcessor(transform).getDefaultCPUProcessor()
    rng = np.random.default_rng(5)
    base = rng.uniform(0.1, 0.9, (4000, 1)) + rng.uniform(-0.05, 0.05, (4000, 3))
    if name == ACESCG:
        base = 2.0 ** (16 * base - 10)
    wanted = np.ascontiguousarray(base, np.float32)
    rgb = torch.from_numpy(wanted.T.reshape(1, 3, 40, 100).copy())
    exact.applyRGB(wanted)
    shown = to_display(rgb, ColorTags(space=space(name)))
    error = np.abs(shown.numpy().reshape(3, -1).T - wanted.clip(0, 1))
    assert error.mean() < 1e-3
    assert np.quantile(error, 0.99) < 0.01


def test_light_beyond_the_cube_and_below_black_stays_in_the_picture():
    rgb = torch.tensor([-0.5, 0.0, 1e-4, 1000.0]).reshape(1, 1, 4, 1).expand(1, 3, 4, 1)
    shown = to_display(rgb, ColorTags(space=space(ACESCG)))[0, :, :, 0]
    assert (shown[:, :2] < 0.01).all()
    assert (shown[:, 3] > 0.99).all()


def test_a_log_movie_keeps_its_code_values_and_becomes_acescg_in_exr(tmp_path):
    code = np.array([0.391, 0.6, 0.3])
    code = np.round(code * 1023) / 1023
    clip = save_movie(tmp_path / "log.mkv", [flat(*code)] * 2)
    summary = vidmatte.matte(
        clip,
        output=[tmp_path / "out.mkv", tmp_path / "out.%04d.exr:float"],
        options=given(tmp_path, input_space="LogC3"),
    )
    with open_video(tmp_path / "out.mkv") as video:
        found = video.frame(0).rgb[0, :, 4, 4].numpy()
        assert video.info.color.transfer in (1, 2)
    assert found == pytest.approx(code, abs=1 / 2047)
    written = OpenEXR.File(str(tmp_path / "out.0001.exr"))
    pixel = written.channels()["RGBA"].pixels[4, 4]
    assert pixel[:3] == pytest.approx(AP0_TO_AP1 @ AWG3_TO_AP0 @ logc3_light(code), rel=2e-3)
    header = written.parts[0].header
    assert header["chromaticities"] == pytest.approx(AP1_HEADER, abs=1e-6)
    assert (header["colorInteropID"], header["oiio:ColorSpace"]) == ("lin_ap1_scene", ACESCG)
    notes = " ".join(summary.notes)
    assert "is read as ARRI LogC3 (EI800)" in notes
    assert "colour is in ACEScg" in notes


def test_light_of_bt709_goes_out_in_the_space_asked_for(tmp_path):
    light = np.array([0.5, 0.2, 0.9])
    save_exr(tmp_path / "a.0001.exr", flat(*light).transpose(1, 2, 0))
    vidmatte.matte(
        tmp_path / "a.%04d.exr",
        output=tmp_path / "b.%04d.exr:float",
        options=given(tmp_path, output_space="acescg", frame_rate=Fraction(24)),
    )
    written = OpenEXR.File(str(tmp_path / "b.0001.exr"))
    assert written.channels()["RGBA"].pixels[0, 0, :3] == pytest.approx(
        BT709_TO_AP1 @ light, rel=1e-3
    )
    assert written.parts[0].header["oiio:ColorSpace"] == ACESCG
    # A PQ source is light of BT.2020; white stays white in any primaries.
    white = to_light(column(0.5807, 0.5807, 0.5807)[0], ColorTags(9, 16, 9), space(ACESCG))
    assert white.flatten().tolist() == pytest.approx([1, 1, 1], rel=5e-3)


def test_acescg_in_is_acescg_out_to_the_bit(tmp_path):
    pixels = np.random.default_rng(2).uniform(-0.05, 30, (8, 8, 3)).astype(np.float16)
    save_exr(tmp_path / "a.0001.exr", pixels, chromaticities=AP1_HEADER)
    options = given(tmp_path, input_space="auto", frame_rate=Fraction(24))
    vidmatte.matte(tmp_path / "a.%04d.exr", output=tmp_path / "b.%04d.exr", options=options)
    written = OpenEXR.File(str(tmp_path / "b.0001.exr"))
    assert np.array_equal(written.channels()["RGBA"].pixels[..., :3], pixels)
    assert written.parts[0].header["colorInteropID"] == "lin_ap1_scene"


def test_the_matrix_between_primaries_is_that_of_the_academy():
    found = matrix_between(CHROMATICITIES[1], AP1)
    assert found == pytest.approx(BT709_TO_AP1, abs=2e-3)
    assert matrix_between(AP0, AP1) == pytest.approx(AP0_TO_AP1, abs=1e-5)


def test_ap1_plates_are_not_taken_for_bt709_without_a_config(tmp_path):
    # Pure red of BT.709, in AP1: the first column of the matrix.
    red = BT709_TO_AP1 @ (0.5, 0.0, 0.0)
    save_exr(tmp_path / "a.0001.exr", flat(*red).transpose(1, 2, 0), chromaticities=AP1_HEADER)
    with open_video(tmp_path / "a.%04d.exr") as video:
        shown = to_display(video.frame(0).rgb, video.info.color)[0, :, 0, 0]
    assert shown.tolist() == pytest.approx([0.7354, 0, 0], abs=0.02)
    options = given(tmp_path, frame_rate=Fraction(24))
    outputs = [tmp_path / "b.%04d.exr", tmp_path / "b.%04d.png"]
    summary = vidmatte.matte(tmp_path / "a.%04d.exr", output=outputs, options=options)
    header = OpenEXR.File(str(tmp_path / "b.0001.exr")).parts[0].header
    assert header["chromaticities"] == pytest.approx(AP1_HEADER, abs=1e-6)
    assert header["colorInteropID"] == "lin_ap1_scene"
    png = cv2.imread(str(tmp_path / "b.0001.png"), cv2.IMREAD_UNCHANGED)[0, 0, 2::-1] / 65535
    assert png.tolist() == pytest.approx([0.7354, 0, 0], abs=0.02)
    assert any("EXR outputs keep" in note for note in summary.notes)


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ({"chromaticities": AP1_HEADER}, ACESCG),
        ({"colorInteropID": "lin_ap0_scene"}, "ACES2065-1"),
        ({"oiio:ColorSpace": "ARRI LogC4"}, "ARRI LogC4"),
        ({"oiio:ColorSpace": "acescg", "chromaticities": CHROMATICITIES[1]}, ACESCG),
        ({}, "Linear Rec.709 (sRGB)"),
    ],
    ids=["chromaticities", "interop ID", "log", "name first", "nothing"],
)
def test_auto_takes_the_space_of_the_header(tmp_path, header, found):
    save_exr(tmp_path / "a.0001.exr", flat(0.3, 0.3, 0.3).transpose(1, 2, 0), **header)
    options = given(tmp_path, input_space="auto", frame_rate=Fraction(24))
    output = tmp_path / "b.%04d.exr"
    summary = vidmatte.matte(tmp_path / "a.%04d.exr", output=output, options=options)
    assert any(f"is read as {found} (of" in note for note in summary.notes)


@pytest.mark.parametrize(
    ("metadata", "found"),
    [
        ({"com.arri.camera.ColorGammaSxS": "LOG-C"}, "LogC3"),
        ({"com.arri.camera.ColorGammaSxS": "LogC4"}, "LogC4"),
        ({"com.apple.proapps.customgamma": "com.panasonic.vlog"}, "V-Log"),
        ({"com.apple.proapps.customgamma": "com.sony.s-log3"}, "S-Log3"),
        ({"comment": "shot in LogC", "title": "catalog c"}, ""),
        ({"color_space": "bt709"}, ""),
    ],
)
def test_cameras_name_their_curve(tmp_path, metadata, found):
    assert declared_space(tmp_path / "clip.mov", metadata) == found


def test_auto_takes_the_space_of_the_camera(tmp_path):
    frames = [flat(0.4, 0.4, 0.4)]
    arri = save_movie(tmp_path / "arri.mkv", frames, com_arri_camera_ColorGammaSxS="LOG-C")
    with open_video(arri) as video:
        assert video.info.declared_space == "LogC3"
    sony = save_movie(tmp_path / "C0001.mkv", frames)
    (tmp_path / "C0001M01.XML").write_text(
        '<Item name="CaptureGammaEquation" value="s-log3"/>\n'
        '<Item name="CaptureColorPrimaries" value="s-gamut3"/>\n'
    )
    options = given(tmp_path, input_space="auto")
    summary = vidmatte.matte(sony, alpha=tmp_path / "a.mkv", options=options)
    assert any("is read as S-Log3 S-Gamut3 (of" in note for note in summary.notes)
    plain = save_movie(tmp_path / "plain.mkv", frames)
    summary = vidmatte.matte(plain, alpha=tmp_path / "a.mkv", options=options)
    assert any("metadata names no colour space" in note for note in summary.notes)


CONFIG = """ocio_profile_version: 2
roles: {default: raw, scene_linear: light, aces_interchange: aces}
file_rules:
  - !<Rule> {name: Log, colorspace: curve, pattern: "*_log*", extension: mkv}
  - !<Rule> {name: Default, colorspace: raw}
displays:
  screen:
    - !<View> {name: plain, colorspace: raw}
colorspaces:
  - !<ColorSpace> {name: raw, isdata: true}
  - !<ColorSpace> {name: aces}
  - !<ColorSpace> {name: light, to_scene_reference: !<MatrixTransform> {matrix: [2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1]}}
  - !<ColorSpace> {name: curve, to_scene_reference: !<ExponentTransform> {value: 2}}
"""  # noqa: E501


def test_the_config_of_a_studio_counts_and_its_rules(tmp_path, monkeypatch):
    (tmp_path / "studio.ocio").write_text(CONFIG)
    clip = save_movie(tmp_path / "a_log.mkv", [flat(0.6, 0.6, 0.6)])
    outputs = tmp_path / "a.%04d.exr:float"
    monkeypatch.setenv("OCIO", str(tmp_path / "studio.ocio"))
    options = given(tmp_path, input_space="auto")
    summary = vidmatte.matte(clip, output=outputs, options=options)
    assert any("is read as curve (of" in note for note in summary.notes)
    # The square is light of the reference space, which is twice that of "light".
    written = OpenEXR.File(str(tmp_path / "a.0000.exr"))
    code = round(0.6 * 1023) / 1023
    pixel = written.channels()["RGBA"].pixels[0, 0, :3]
    assert pixel == pytest.approx([code**2 / 2] * 3, rel=1e-3)
    assert written.parts[0].header["oiio:ColorSpace"] == "light"
    # A render that was stopped is not resumed with another config.
    monkeypatch.chdir(tmp_path)
    request = Request.of(clip, output=outputs, prompts=(), options=options)
    before = fingerprint(request).key
    assert fingerprint(request).key == before
    (tmp_path / "studio.ocio").write_text(CONFIG.replace("value: 2", "value: 3"))
    assert fingerprint(request).key != before
    # --ocio goes before $OCIO.
    options = given(tmp_path, input_space="curve", ocio=ocio.BUILT_IN)
    with pytest.raises(OptionError, match=r"'curve' is unknown to ocio://studio-config-latest"):
        vidmatte.matte(clip, output=outputs, options=options)


def test_colour_is_not_multiplied_in_log(tmp_path):
    clip = save_movie(tmp_path / "log.mkv", [flat(0.4, 0.5, 0.6)])
    options = given(tmp_path, input_space="LogC3", output_space="LogC3")
    with pytest.raises(OptionError, match=r"not linear.*straight"):
        vidmatte.matte(clip, output=tmp_path / "a.%04d.exr", options=options)
    vidmatte.matte(clip, output=tmp_path / "a.%04d.exr:float,straight", options=options)
    written = OpenEXR.File(str(tmp_path / "a.0000.exr"))
    pixel = written.channels()["RGBA"].pixels[0, 0, :3]
    assert pixel == pytest.approx([0.4, 0.5, 0.6], abs=1e-3)
    assert "chromaticities" not in written.parts[0].header
    assert written.parts[0].header["oiio:ColorSpace"] == LOGC3


def test_options_that_do_nothing_are_refused(tmp_path):
    with pytest.raises(OptionError, match="without a colour space"):
        vidmatte.MatteOptions(ocio=ocio.BUILT_IN)
    clip = save_movie(tmp_path / "a.mkv", [flat(0.4, 0.5, 0.6)])
    options = given(tmp_path, output_space=ACESCG)
    with pytest.raises(OptionError, match="is for EXR with colour, and none is written"):
        vidmatte.matte(clip, output=tmp_path / "a.mov", options=options)


@pytest.mark.parametrize("segment_frames", [500, 2], ids=["at once", "in segments"])
def test_report_and_segments_show_and_hold_the_same(tmp_path, segment_frames):
    clip = save_movie(tmp_path / "log.mkv", [flat(0.5, 0.45, 0.4)] * 4)
    vidmatte.matte(
        clip,
        output=tmp_path / "a.%04d.exr:float",
        report=tmp_path / "report",
        options=given(
            tmp_path, input_space="LogC3", output_space="ACES2065-1", segment_frames=segment_frames
        ),
    )
    code = np.round(np.array([0.5, 0.45, 0.4]) * 1023) / 1023
    written = OpenEXR.File(str(tmp_path / "a.0003.exr"))
    pixel = written.channels()["RGBA"].pixels[0, 0, :3]
    assert pixel == pytest.approx(AWG3_TO_AP0 @ logc3_light(code), rel=2e-3)
    assert written.parts[0].header["colorInteropID"] == "lin_ap0_scene"
    (sheet,) = (tmp_path / "report").glob("**/contact_sheet*")
    colors = cv2.imread(str(sheet)).reshape(-1, 3)[:, ::-1].astype(int)
    # The view is brighter and warmer than the code values.
    shown = to_display(column(*code), ColorTags(space=space(LOGC3))).flatten().numpy() * 255
    assert (np.abs(colors - shown).max(1) < 12).sum() >= 3 * 64


def test_a_reference_is_read_in_the_space_of_the_clip_unless_it_is_for_displays(tmp_path):
    log = save_movie(tmp_path / "log.mkv", [flat(0.4, 0.4, 0.4)])
    other = save_movie(tmp_path / "other.mkv", [flat(0.4, 0.4, 0.4)])
    cv2.imwrite(str(tmp_path / "still.png"), np.full((8, 8, 3), 102, np.uint8))
    prompt = vidmatte.Prompt(points=((4, 4, 1),))
    with open_clip(log, vidmatte.MatteOptions(input_space="LogC3")) as video:
        shown = to_display(video.frame(0).rgb, video.info.color).mean().item()
        (same,) = make_references(video, [prompt], other)
        (still,) = make_references(video, [prompt], tmp_path / "still.png")
    assert same.rgb.mean().item() == pytest.approx(shown, abs=1e-6)
    assert still.rgb.mean().item() == pytest.approx(0.4, abs=1e-3)


def test_the_command_line_names_near_spaces_in_one_line(tmp_path):
    clip = save_movie(tmp_path / "a.mkv", [flat(0.4, 0.5, 0.6)])
    command = [str(clip), "--points", "4,4", "--input-space", "ACESg", "--alpha"]
    result = CliRunner().invoke(cli, [*command, str(tmp_path / "m.mkv")])
    assert result.exit_code != 0
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert "near names are ACEScg" in lines[-1]
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "m.mkv").exists()


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PyOpenColorIO", None)
    with pytest.raises(MissingExtraError, match=r"vidmatte\[ocio\]"):
        ocio.find_space("ACEScg", "another.ocio")


def in_space(frames, name):
    """Return display frames as a camera would have recorded the scene: the view backwards."""
    config = OpenColorIO.Config.CreateFromFile(ocio.BUILT_IN)
    display = config.getDefaultDisplay()
    view = config.getDefaultView(display, name)
    transform = OpenColorIO.DisplayViewTransform(src=name, display=display, view=view)
    inverse = OpenColorIO.TRANSFORM_DIR_INVERSE
    processor = config.getProcessor(transform, inverse).getDefaultCPUProcessor()
    found = []
    for frame in frames:
        planes = np.array(frame.clip(0, 1), np.float32, order="C")
        processor.apply(OpenColorIO.PlanarImageDesc(*planes, *planes.shape[:0:-1]))
        found.append(planes)
    return found


def sample(name, count):
    with as_file(files("vidmatte.sample") / name) as path, open_video(path) as video:
        return [frame.rgb for _, frame in zip(range(count), video.decode(), strict=False)]


def clip_in(name, frames, folder):
    """Write display frames as a clip in a colour space, and return what to matte and how."""
    there = in_space(frames, name)
    if name != ACESCG:
        path = save_movie(folder / f"{name[:4]}.mkv", [frame.clip(0, 1) for frame in there])
        return path, {"input_space": name}
    for number, frame in enumerate(there):
        path = folder / f"a.{number:04}.exr"
        save_exr(path, frame.transpose(1, 2, 0), chromaticities=AP1_HEADER)
    return folder / "a.%04d.exr", {"input_space": "auto", "frame_rate": Fraction(25)}


def scores(source, truth, folder, step=1, **options):
    """Return mean J and MAD of the mattes of a clip of the sample, shrunk by `step`."""
    with as_file(files("vidmatte.sample") / "portrait.prompts.json") as path:
        (prompt,) = load_prompts(path)["astronaut"]
    points = tuple((x / step, y / step, label) for x, y, label in prompt.points)
    matte = folder / "m.mkv"
    chosen = vidmatte.MatteOptions(overwrite=True, threads=1, **options)
    vidmatte.matte(source, vidmatte.Prompt(points=points), alpha=matte, options=chosen)
    with open_video(matte) as video:
        found = [frame.rgb[0] for frame in video.decode()]
    pairs = list(zip(found, truth, strict=True))
    return np.mean([region_overlap(*pair) for pair in pairs]), np.mean([mad(*p) for p in pairs])


@pytest.mark.parametrize("name", [LOGC3, SLOG3, ACESCG])
def test_the_sample_looks_to_the_model_as_it_was(tmp_path, name):
    frames = sample("portrait.mp4", 1)
    source, options = clip_in(name, [frames[0][:, ::2, ::2]], tmp_path)
    with open_clip(source, vidmatte.MatteOptions(**options)) as video:
        shown = to_display(video.frame(0).rgb, video.info.color)[0].numpy()
    assert np.abs(shown - frames[0][:, ::2, ::2].clip(0, 1)).mean() < 2e-3


@pytest.mark.parametrize(
    "count", [2, pytest.param(25, marks=pytest.mark.slow)], ids=["quick", "second"]
)
def test_mattes_of_camera_and_scene_colour_are_those_of_the_original(tmp_path, count):
    # Half the size is quicker, and all of it what figures are about.
    step = 2 if count == 2 else 1
    frames = [frame[:, ::step, ::step] for frame in sample("portrait.mp4", count)]
    truth = [frame[0, ::step, ::step] for frame in sample("portrait_alpha.mkv", count)]
    # Without loss, as the others are.
    original = save_movie(tmp_path / "o.mkv", [frame.clip(0, 1) for frame in frames])
    j, error = scores(original, truth, tmp_path, step)
    for name in [LOGC3] if count == 2 else [LOGC3, SLOG3, ACESCG]:
        source, options = clip_in(name, frames, tmp_path)
        other_j, other_error = scores(source, truth, tmp_path, step, **options)
        assert abs(other_j - j) < 0.002, name
        assert abs(other_error - error) < 0.002, name
