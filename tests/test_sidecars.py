"""Sidecars, read by interpreters of the languages that the hosts use: Tcl, Lua and JavaScript.

None of the hosts is here: nodes, tools and objects are recorded by stand-ins that behave as their
documentation says.
"""

import json
from fractions import Fraction
from pathlib import Path

import cv2
import dukpy
import lupa
import numpy as np
import pytest
from click.testing import CliRunner
from clips import write_movie

import vidmatte
from vidmatte.cli import cli
from vidmatte.errors import OptionError, WriteError
from vidmatte.frames import ColorTags, VideoInfo, Windows
from vidmatte.hosts.clips import clip_of, plate_of
from vidmatte.hosts.sidecars import Sidecars, check_sidecars, sidecar_paths
from vidmatte.option_table import OPTIONS
from vidmatte.options import MatteOptions
from vidmatte.write import parse_output

GIVEN = MatteOptions(model="none", matte="matte.png")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A clip of 6 frames, the same as images 1001 to 1006, and a matte."""
    write_movie(tmp_path / "clip.mp4", frames=6, size=(64, 48))
    cv2.imwrite(str(tmp_path / "matte.png"), np.full((48, 64), 255, np.uint8))
    (tmp_path / "plate").mkdir()
    for number in range(1001, 1007):
        cv2.imwrite(str(tmp_path / f"plate/p.{number}.png"), np.zeros((48, 64, 3), np.uint8))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(source="clip.mp4", *, sidecars, options=GIVEN, **outputs):
    return vidmatte.matte(source, sidecars=sidecars, options=options, **outputs)


def nuke_nodes(path):
    """Return the nodes of a script by name: class, knobs, and the names of their inputs.

    Tcl runs the script as Nuke does: a node takes its inputs from the top of the stack of nodes,
    the first one first, and lies on top of it then.
    """
    tkinter = pytest.importorskip("tkinter")
    tcl = tkinter.Tcl()
    nodes, stack, layers = {}, [], {}

    def node(kind, body):
        words = tcl.splitlist(body)
        knobs = dict(zip(words[::2], words[1::2], strict=True))
        count = int(knobs.pop("inputs", 1))
        inputs = [stack.pop() for _ in range(count)]
        nodes[knobs["name"]] = {"class": kind, "inputs": inputs, **knobs}
        stack.append(knobs["name"])

    for kind in ("StickyNote", "CheckerBoard2", "Read", "Premult", "Copy", "Merge2", "Shuffle"):
        tcl.createcommand(kind, lambda body, kind=kind: node(kind, body))
    tcl.createcommand("push", stack.append)
    tcl.createcommand("stack", lambda n: stack[-1 - int(n)])
    tcl.createcommand("add_layer", lambda text: layers.update({text.split()[0]: text.split()[1:]}))
    tcl.eval(path.read_text(encoding="utf-8"))
    return nodes, layers


def fusion_tools(path):
    """Return the tools of a setting by name, as Lua builds them."""
    lua = lupa.LuaRuntime(unpack_returned_tuples=True)
    kinds = ("Background", "Loader", "Merge", "MatteControl", "Clip", "Input", "FuID")
    for kind in (*kinds, "OperatorInfo"):
        lua.execute(f"function {kind}(t) t.kind = '{kind}'; return t end")
    # Fusion's ordered() keeps the order of the entries.
    lua.execute("function ordered() return function(t) return t end end")
    table = lua.execute("return " + path.read_text(encoding="utf-8").split("\n{", 1)[1].join("{ "))
    return plain(table)["Tools"]


def plain(value):
    if lupa.lua_type(value) != "table":
        return value
    return {key: plain(item) for key, item in value.items()}


AFTER_EFFECTS = """
var calls = [], alerts = [];
function File(path) { this.path = path; }
function ImportOptions(file) { this.file = file; }
var AlphaMode = {IGNORE: "ignore", STRAIGHT: "straight", PREMULTIPLIED: "premultiplied"};
var TrackMatteType = {LUMA: "luma"};
function alert(text) { alerts.push(text); }
function Footage(options) {
    this.path = options.file.path;
    this.sequence = options.sequence;
    this.mainSource = {hasAlpha: hasAlpha(this.path)};
    // As After Effects does, which refuses alpha modes of footage without alpha.
    Object.defineProperty(this.mainSource, "alphaMode", {
        set: function (mode) {
            if (!this.hasAlpha) { throw new Error("no alpha: " + this.path); }
            this.mode = mode;
        }
    });
}
function hasAlpha(path) { return dukpy.with_alpha.indexOf(path) >= 0; }
function Layers() {
    this.list = [];
    this.add = function (source) {
        var layer = {path: source.path};
        if (dukpy.is_new) {
            layer.setTrackMatte = function (matte, type) { this.matte = [matte.path, type]; };
        }
        this.list.unshift(layer);
        return layer;
    };
}
var footage = [], comps = [];
var app = {
    project: {
        items: {
            addFolder: function (name) { return {name: name}; },
            addComp: function (name, width, height, aspect, seconds, rate) {
                var comp = {facts: [name, width, height, aspect, seconds, rate],
                            layers: new Layers()};
                comps.push(comp);
                return comp;
            }
        },
        importFile: function (options) {
            var item = new Footage(options);
            footage.push(item);
            return item;
        }
    },
    beginUndoGroup: function () {},
    endUndoGroup: function () {}
};
"""
RESULT = """
JSON.stringify({
    footage: footage.map(function (item) {
        return {path: item.path, sequence: item.sequence, alpha: item.mainSource.mode || null,
                matted_with: item.mainSource.premulColor || null,
                rate: item.mainSource.conformFrameRate, folder: item.parentFolder.name};
    }),
    comps: comps.map(function (comp) { return {facts: comp.facts, layers: comp.layers.list}; }),
    alerts: alerts
})
"""


def after_effects(path, *, with_alpha, is_new=True):
    """Return what a script does in After Effects, as JavaScript of 2009 runs it."""
    script = path.read_text(encoding="ascii")
    found = dukpy.evaljs(
        AFTER_EFFECTS + script + RESULT,
        with_alpha=[str(path) for path in with_alpha],
        is_new=is_new,
    )
    return json.loads(found)


def test_nuke_premultiplies_straight_movies_and_counts_them_from_1(folder):
    summary = run(sidecars=["nuke"], output="shot.mov")
    assert summary.sidecars == (Path("shot.nk"),)
    nodes, _ = nuke_nodes(folder / "shot.nk")
    read = nodes["read_shot"]
    assert read["file"] == str(folder / "shot.mov")
    assert (read["first"], read["last"], read["colorspace"]) == ("1", "6", "rec709")
    assert "frame_mode" not in read
    assert "raw" not in read
    assert read["format"].split() == ["64", "48", "0", "0", "64", "48", "1"]
    assert nodes["premult_shot"]["inputs"] == ["read_shot"]
    # B is the first input, and A the second.
    assert nodes["over_shot"]["inputs"] == ["background", "premult_shot"]
    assert "25.000 frames/s" in nodes["note"]["label"]


def test_nuke_takes_premultiplied_exr_as_it_is(folder):
    run("plate", sidecars=["nuke"], output="exr/s.%04d.exr")
    nodes, _ = nuke_nodes(folder / "exr/s.nk")
    read = nodes["read_s"]
    assert read["file"] == f"{folder}/exr/s.%04d.exr"
    assert (read["first"], read["last"]) == ("1001", "1006")
    assert read["colorspace"] == "linear"
    assert "premultiplied" not in read
    assert nodes["over_s"]["inputs"] == ["background", "read_s"]
    assert not any(node["class"] == "Premult" for node in nodes.values())


def test_nuke_premultiplies_straight_exr(folder):
    run("plate", sidecars=["nuke"], output="s.####.exr:straight")
    nodes, _ = nuke_nodes(folder / "s.nk")
    assert nodes["read_s"]["file"] == f"{folder}/s.%04d.exr"
    assert nodes["premult_s"]["inputs"] == ["read_s"]


def test_nuke_undoes_a_multiplication_in_display_space_before_it_linearises(folder):
    options = MatteOptions(model="none", matte="matte.png", premultiplied=True)
    run(sidecars=["nuke"], output="shot.mov", options=options)
    nodes, _ = nuke_nodes(folder / "shot.nk")
    assert nodes["read_shot"]["premultiplied"] == "true"
    assert nodes["over_shot"]["inputs"] == ["background", "read_shot"]


def test_nuke_cuts_the_plate_out_with_a_matte(folder):
    options = MatteOptions(model="none", matte="matte.png", start="1003", end="1005")
    run("plate/p.####.png", sidecars=["nuke"], alpha="matte.mov", options=options)
    nodes, _ = nuke_nodes(folder / "matte.nk")
    matte, plate = nodes["read_matte"], nodes["read_p"]
    # A matte is data: no curve is taken out of it.
    assert matte["raw"] == "true"
    assert "colorspace" not in matte
    # The movie has the frames 1 to 3, and lies where the images have 1003 to 1005.
    assert (matte["first"], matte["last"]) == ("1", "3")
    assert (matte["frame_mode"], matte["frame"]) == ("start at", "1003")
    assert (plate["first"], plate["last"], plate["colorspace"]) == ("1003", "1005", "sRGB")
    assert "frame_mode" not in plate
    copy = nodes["copy_alpha"]
    # The first input keeps its colour and receives a channel of the second.
    assert copy["inputs"] == ["read_p", "read_matte"]
    assert (copy["from0"], copy["to0"]) == ("rgba.red", "rgba.alpha")
    assert nodes["premult_matte"]["inputs"] == ["copy_alpha"]
    assert nodes["over_matte"]["inputs"] == ["background", "premult_matte"]


def test_nuke_reads_a_movie_from_its_in_point(folder):
    options = MatteOptions(model="none", matte="matte.png", start="2")
    run(sidecars=["nuke"], alpha="matte.mov", options=options)
    nodes, _ = nuke_nodes(folder / "matte.nk")
    # Frame 2, counted from 0, is frame 3 in Nuke, and is seen with the first frame of the matte.
    plate = nodes["read_clip"]
    assert (plate["first"], plate["last"]) == ("3", "6")
    assert (plate["frame_mode"], plate["frame"]) == ("start at", "1")
    assert "frame_mode" not in nodes["read_matte"]


def layered(folder, name, *, alpha_only):
    """The sidecars of an EXR of two objects."""
    spec = parse_output(name, alpha_only=alpha_only, layers=("hero", "2"))
    like = VideoInfo("plate", 64, 48, Fraction(24), Fraction(1, 24), first_number=1001)
    sidecars = Sidecars(
        ("nuke", "fusion", "ae"),
        [spec],
        [spec],
        like=like,
        source="plate",
        premultiplied=False,
        overwrite=False,
    )
    with sidecars as out:
        for partial, final in out.write(frames=6, index=0):
            partial.rename(final)
    return sidecars.paths


def test_each_layer_of_an_exr_is_merged(folder):
    nuke, fusion, ae = layered(folder, "s.%04d.exr", alpha_only=False)
    nodes, layers = nuke_nodes(nuke)
    assert layers["hero"] == [f"hero.{c}" for c in ("red", "green", "blue", "alpha")]
    assert set(layers) == {"hero", "object_2"}  # no bare number
    for layer in layers:
        shuffle = nodes[f"layer_{layer}"]
        assert (shuffle["in"], shuffle["inputs"]) == (layer, ["read_s"])
        assert nodes[f"over_{layer}"]["inputs"] == ["background", f"layer_{layer}"]
    tools = fusion_tools(fusion)
    names = {
        key: value["Value"][1]
        for key, value in tools["hero"]["Inputs"].items()
        if key.startswith("Clip1.OpenEXRFormat.")
    }
    assert names == {
        f"Clip1.OpenEXRFormat.{role}Name": f"hero.{role[0]}"
        for role in ("Red", "Green", "Blue", "Alpha")
    }
    assert tools["object_2_Over"]["Inputs"]["Foreground"]["SourceOp"] == "object_2"
    done = after_effects(ae, with_alpha=[folder / "s.1001.exr"])
    assert "EXtractoR" in done["alerts"][0]


def test_each_layer_of_mattes_cuts_the_plate_out(folder):
    nuke, fusion, _ = layered(folder, "s.%04d.exr", alpha_only=True)
    nodes, _ = nuke_nodes(nuke)
    copies = [node for node in nodes.values() if node["class"] == "Copy"]
    assert [node["from0"] for node in copies] == ["hero.alpha", "object_2.alpha"]
    assert [node["inputs"][1] for node in copies] == ["read_s", "read_s"]
    red = fusion_tools(fusion)["hero"]["Inputs"]["Clip1.OpenEXRFormat.RedName"]["Value"]
    assert red[1] == "hero.A"


def test_colour_on_black_gets_the_alpha_of_its_matte(folder):
    run(sidecars=["nuke", "fusion", "ae"], output="fill.mov:on-black", alpha="key.mov")
    nodes, _ = nuke_nodes(folder / "fill.nk")
    copy = nodes["copy_alpha"]
    assert copy["inputs"] == ["read_fill", "read_key"]
    # Colour on black is multiplied already.
    assert nodes["over_fill"]["inputs"] == ["background", "copy_alpha"]
    matte = fusion_tools(folder / "fill.setting")["fill_Matte"]
    assert matte["Inputs"]["PostMultiply"]["Value"] == 0
    done = after_effects(folder / "fill.jsx", with_alpha=[])
    layers = done["comps"][0]["layers"]
    assert [Path(layer["path"]).name for layer in layers] == ["key.mov", "fill.mov"]


def test_fusion_multiplies_straight_files_only(folder):
    run(sidecars=["fusion"], output=["shot.mov", "exr/s.%04d.exr"], alpha="m.%05d.png")
    tools = fusion_tools(folder / "shot.setting")
    multiplied = {
        name: tool["Inputs"]["PostMultiplyByAlpha"]["Value"]
        for name, tool in tools.items()
        if tool["kind"] == "Loader"
    }
    assert multiplied == {"shot": 1, "s": 0, "m": 0, "clip": 0}
    movie, images = tools["shot"]["Clips"][1], tools["m"]["Clips"][1]
    assert (movie["Filename"], movie["FormatID"]) == (str(folder / "shot.mov"), "QuickTimeMovies")
    assert (movie["TrimIn"], movie["TrimOut"], movie["GlobalStart"]) == (0, 5, 0)
    assert images["Filename"] == str(folder / "m.00000.png")
    assert (images["StartFrame"], images["Length"]) == (0, 6)
    matte = tools["clip_Matte"]["Inputs"]
    assert (matte["Background"]["SourceOp"], matte["Foreground"]["SourceOp"]) == ("clip", "m")
    assert (matte["MatteCombine"]["Value"], matte["PostMultiply"]["Value"]) == (1, 1)
    assert tools["shot_Over"]["Inputs"]["Foreground"]["SourceOp"] == "shot"
    assert tools["shot_Over"]["Inputs"]["Background"]["SourceOp"] == "YourBackground"


def test_fusion_places_everything_at_the_numbers_of_the_images(folder):
    options = MatteOptions(model="none", matte="matte.png", start="1004")
    run("plate", sidecars=["fusion"], output="shot.mov", alpha="a.mov", options=options)
    tools = fusion_tools(folder / "shot.setting")
    spans = {
        name: (tool["Clips"][1]["GlobalStart"], tool["Clips"][1]["GlobalEnd"])
        for name, tool in tools.items()
        if tool["kind"] == "Loader"
    }
    assert spans == {"shot": (1004, 1006), "a": (1004, 1006), "p": (1004, 1006)}
    assert tools["p"]["Clips"][1]["Filename"] == str(folder / "plate/p.1004.png")


def test_after_effects_interprets_alpha_and_sets_the_rate(folder):
    run(sidecars=["ae"], output=["shot.mov", "s.%04d.exr"])
    movie, image = str(folder / "shot.mov"), str(folder / "s.0000.exr")
    done = after_effects(folder / "shot.jsx", with_alpha=[movie, image])
    assert done["alerts"] == []
    straight, multiplied = done["footage"]
    assert straight == {
        "path": movie,
        "sequence": False,
        "alpha": "straight",
        "matted_with": None,
        "rate": 25,
        "folder": "shot",
    }
    assert (multiplied["path"], multiplied["sequence"]) == (image, True)
    assert (multiplied["alpha"], multiplied["matted_with"]) == ("premultiplied", [0, 0, 0])
    assert done["comps"][0]["facts"] == ["shot", 64, 48, 1, 6 / 25, 25]
    assert done["comps"][0]["layers"] == [{"path": movie}]


@pytest.mark.parametrize("is_new", [True, False])
def test_after_effects_makes_a_luma_matte(folder, is_new):
    options = MatteOptions(model="none", matte="matte.png", start="2")
    run(sidecars=["ae"], alpha="matte.mov", options=options)
    done = after_effects(folder / "matte.jsx", with_alpha=[], is_new=is_new)
    above, below = done["comps"][0]["layers"]
    assert (above["path"], above["enabled"]) == (str(folder / "matte.mov"), False)
    assert (below["path"], below["startTime"]) == (str(folder / "clip.mp4"), -2 / 25)
    if is_new:
        assert below["matte"] == [above["path"], "luma"]
    else:
        # The layer right above is the matte.
        assert below["trackMatteType"] == "luma"


def test_after_effects_says_that_a_file_has_no_alpha(folder):
    run(sidecars=["ae"], output="shot.mov")
    done = after_effects(folder / "shot.jsx", with_alpha=[])
    assert "finds no alpha" in done["alerts"][0]


@pytest.mark.parametrize("name", ['a "b" [c] $d {e}', "Übung ✂ 🎬", "50% done"])
def test_names_of_all_kinds_reach_the_hosts_unharmed(folder, name):
    run(sidecars=["nuke", "fusion", "ae"], output=f"{name}.mov")
    movie = str(folder / f"{name}.mov")
    tools = fusion_tools(folder / f"{name}.setting")
    loaders = [tool for tool in tools.values() if tool["kind"] == "Loader"]
    assert loaders[0]["Clips"][1]["Filename"] == movie
    assert after_effects(folder / f"{name}.jsx", with_alpha=[movie])["footage"][0]["path"] == movie
    nodes, _ = nuke_nodes(folder / f"{name}.nk")
    (read,) = (node for node in nodes.values() if node["class"] == "Read")
    # A file knob is evaluated once more, where a backslash keeps the next character.
    evaluated = read["file"].replace("\\[", "[").replace("\\]", "]").replace("\\$", "$")
    assert evaluated == movie


def test_what_a_host_cannot_read_is_named(folder):
    run(sidecars=["nuke", "fusion", "ae"], output=["shot.mov", "web.webm"])
    nodes, _ = nuke_nodes(folder / "shot.nk")
    assert "not read by Nuke: web.webm" in nodes["note"]["label"]
    assert "read_web" not in nodes
    assert "-- not read by Fusion: web.webm" in (folder / "shot.setting").read_text()
    done = after_effects(folder / "shot.jsx", with_alpha=[folder / "shot.mov"])
    assert "does not read web.webm" in done["alerts"][0]


def test_one_sidecar_names_the_files_of_all_objects(folder):
    specs = [
        parse_output(f"{name}_matte.mov", alpha_only=False, object_name=name)
        for name in ("hero", "car")
    ]
    requested = [parse_output("{object}_matte.mov", alpha_only=False)]
    assert sidecar_paths(["nuke"], requested) == (Path("matte.nk"),)
    like = VideoInfo("clip.mp4", 64, 48, Fraction(25), Fraction(1, 25))
    sidecars = Sidecars(
        ("nuke",), requested, specs, like=like, source=None, premultiplied=False, overwrite=False
    )
    with sidecars as out:
        ((partial, _),) = out.write(frames=6, index=0)
        nodes, _ = nuke_nodes(partial)
    assert {"read_hero_matte", "read_car_matte"} <= set(nodes)
    assert not partial.exists()  # nobody put it in place


def test_a_folder_for_each_object_has_the_sidecar_above_it():
    requested = [parse_output("out/{object}/m.%04d.exr", alpha_only=False)]
    assert sidecar_paths(["fusion"], requested) == (Path("out/m.setting"),)


@pytest.mark.parametrize(
    ("tags", "nuke"),
    [
        (ColorTags(transfer=16), "st2084"),
        (ColorTags(transfer=18), "HybridLogGamma"),
        (ColorTags(matrix=0), "sRGB"),
        (ColorTags(), "rec709"),
        (ColorTags(icc=b"profile", matrix=0, transfer=1), "sRGB"),
        (ColorTags(transfer=8), "rec709"),
    ],
)
def test_a_movie_has_the_curve_of_its_source(tmp_path, monkeypatch, tags, nuke):
    monkeypatch.chdir(tmp_path)
    like = VideoInfo("clip.mov", 64, 48, Fraction(25), Fraction(1, 25), color=tags)
    spec = parse_output("shot.mov", alpha_only=False)
    sidecars = Sidecars(
        ("nuke",), [spec], [spec], like=like, source=None, premultiplied=False, overwrite=False
    )
    with sidecars as out:
        ((partial, _),) = out.write(frames=6, index=0)
        nodes, _ = nuke_nodes(partial)
    assert nodes["read_shot"]["colorspace"] == nuke


def test_colour_spaces_have_the_names_of_opencolorio(folder):
    pytest.importorskip("PyOpenColorIO")
    options = MatteOptions(
        model="none", matte="matte.png", input_space="S-Log3 S-Gamut3.Cine", output_space="ACEScg"
    )
    outputs = {"output": ["s.%04d.exr", "s.mov"], "alpha": "a.mov"}
    run(sidecars=["nuke", "fusion", "ae"], options=options, **outputs)
    nodes, _ = nuke_nodes(folder / "s.nk")
    assert nodes["read_s"]["colorspace"] == "ACEScg"
    assert nodes["read_s_2"]["colorspace"] == "S-Log3 S-Gamut3.Cine"
    assert nodes["read_clip"]["colorspace"] == "S-Log3 S-Gamut3.Cine"
    assert "colour spaces are those of OpenColorIO" in nodes["note"]["label"]
    tools = fusion_tools(folder / "s.setting")
    assert "Colour space ACEScg." in tools["s"]["Inputs"]["Comments"]["Value"]
    script = (folder / "s.jsx").read_text()
    assert 'item.comment = "Colour space ACEScg";' in script


def test_the_format_is_the_display_window(folder):
    windows = Windows((-4, -2, 68, 50), (0, 0, 64, 48))
    like = VideoInfo("p.exr", 72, 52, Fraction(24), Fraction(1, 24), windows=windows)
    spec = parse_output("s.%04d.exr", alpha_only=False)
    sidecars = Sidecars(
        ("nuke",), [spec], [spec], like=like, source=None, premultiplied=False, overwrite=False
    )
    with sidecars as out:
        ((partial, _),) = out.write(frames=2, index=0)
        nodes, _ = nuke_nodes(partial)
    assert nodes["read_s"]["format"].split()[:2] == ["64", "48"]


def test_a_start_number_is_that_of_outputs_and_not_of_the_plate(folder):
    options = MatteOptions(model="none", matte="matte.png", start_number=1, start="1003")
    run("plate", sidecars=["nuke"], alpha="m.%04d.png", options=options)
    nodes, _ = nuke_nodes(folder / "m.nk")
    assert (nodes["read_m"]["first"], nodes["read_m"]["last"]) == ("3", "6")
    plate = nodes["read_p"]
    assert (plate["first"], plate["last"]) == ("1003", "1006")
    assert (plate["frame_mode"], plate["frame"]) == ("start at", "3")


def test_a_range_of_a_pattern_is_no_part_of_file_names(folder):
    like = VideoInfo("p", 64, 48, Fraction(24), Fraction(1, 24), first_number=1002)
    plate = plate_of("plate/p.1002-1004####.png", like=like, index=1, frames=2)
    assert (plate.first, plate.last) == (1003, 1004)
    assert plate.first_file == folder / "plate/p.1003.png"


def test_pixel_aspect_is_told(folder):
    like = VideoInfo(
        "c", 720, 576, Fraction(25), Fraction(1, 25), sample_aspect_ratio=Fraction(64, 45)
    )
    clip = clip_of(
        parse_output("s.mov", alpha_only=False), like=like, first=0, frames=2, premultiplied=False
    )
    assert clip.pixel_aspect == pytest.approx(1.4222, abs=1e-4)


def test_a_long_clip_in_segments_gets_its_sidecar(folder):
    options = MatteOptions(model="none", matte="matte.png", segment_frames=2)
    summary = run(sidecars=["nuke"], output="shot.mov", options=options)
    assert summary.as_json()["sidecars"] == [str(folder / "shot.nk")]
    nodes, _ = nuke_nodes(folder / "shot.nk")
    assert nodes["read_shot"]["last"] == "6"
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_an_existing_sidecar_is_kept_without_overwrite(folder):
    (folder / "shot.nk").write_text("mine")
    with pytest.raises(WriteError, match=r"shot\.nk exists already; use overwrite=True"):
        run(sidecars=["nuke"], output="shot.mov")
    assert (folder / "shot.nk").read_text() == "mine"
    assert not (folder / "shot.mov").exists()
    options = MatteOptions(model="none", matte="matte.png", overwrite=True)
    run(sidecars=["nuke"], output="shot.mov", options=options)
    assert "read_shot" in (folder / "shot.nk").read_text()


def test_a_failed_run_leaves_no_sidecar(folder, monkeypatch):
    def fail(self, **facts):
        raise WriteError("the disk is full")

    monkeypatch.setattr(Sidecars, "write", fail)
    with pytest.raises(WriteError, match="the disk is full"):
        run(sidecars=["nuke"], output="shot.mov")
    assert not list(folder.glob("shot*"))


@pytest.mark.parametrize(
    ("names", "outputs", "images", "message"),
    [
        (["maya"], ["s.mov"], False, "sidecar 'maya' is not valid: choose from nuke, fusion, ae"),
        (["nuke"], ["{name}.png"], True, "a set of images is none"),
        (["fusion"], ["s.webm"], False, r"Fusion reads none of the outputs \(s.webm\)"),
    ],
)
def test_impossible_sidecars_are_refused(names, outputs, images, message):
    specs = [parse_output(output, alpha_only=False) for output in outputs]
    with pytest.raises(OptionError, match=message):
        check_sidecars(names, specs, images=images)


def test_the_command_line_offers_every_sidecar(folder):
    assert OPTIONS["sidecar"].info.choices == ("nuke", "fusion", "ae")
    arguments = ["clip.mp4", "--model", "none", "--matte", "matte.png", "-o", "shot.mov"]
    done = CliRunner().invoke(cli, [*arguments, "--sidecar", "nuke", "--sidecar", "ae"])
    assert done.exit_code == 0
    assert (folder / "shot.nk").exists()
    assert (folder / "shot.jsx").exists()
    refused = CliRunner().invoke(cli, [*arguments, "--sidecar", "maya", "--overwrite"])
    assert refused.exit_code == 2


def test_shots_of_a_batch_get_sidecars(folder):
    (folder / "shots.toml").write_text(
        '[defaults]\nmodel = "none"\nmatte = "matte.png"\nsidecar = ["nuke"]\n'
        'output = "{shot}.mov"\n[[shots]]\ninput = "clip.mp4"\n'
    )
    done = CliRunner().invoke(cli, ["batch", "shots.toml", "--json"])
    assert done.exit_code == 0, done.output
    assert "read_clip" in (folder / "clip.nk").read_text()
    (folder / "shots.toml").write_text(
        '[defaults]\nmodel = "none"\nmatte = "matte.png"\nsidecar = "nuke"\n'
        'input = "clip.mp4"\n'
        '[[shots]]\nname = "a"\noutput = "x.mov"\n[[shots]]\nname = "b"\noutput = "x.%04d.png"\n'
    )
    done = CliRunner().invoke(cli, ["batch", "shots.toml"])
    assert done.exit_code == 2
    assert "would both write" in done.output
