"""The picker in a real browser: `pytest -m browser`. Needs playwright and Chromium.

PICKER_SCREENSHOT=docs/picker.png makes the pictures of the README and the guide anew.
"""

import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from picker import CircleModel, InlineRun, disc, opened, write_disc

pytest.importorskip("playwright", reason="needs playwright")

from playwright.sync_api import sync_playwright

from vidmatte.options import MatteOptions
from vidmatte.prompts.files import load_prompts
from vidmatte.web.choose import Chooser
from vidmatte.web.server import PickerServer, _file_leading_to

pytestmark = pytest.mark.browser
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
SIZE = (320, 180)
PATIENCE = 240
"""Seconds to wait for anything: machines that test are often busy."""
SAMPLE = Path(__file__).parents[1] / "vidmatte" / "sample" / "portrait.mp4"

PIXEL = """([x, y, wide, tall]) => {
  const stage = document.getElementById("stage"), box = stage.getBoundingClientRect();
  const scale = Math.min((box.width - 24) / wide, (box.height - 24) / tall), ratio = stage.width / box.width;
  const at = [(box.width - wide * scale) / 2 + x * scale, (box.height - tall * scale) / 2 + y * scale];
  const data = stage.getContext("2d").getImageData(Math.round(at[0] * ratio), Math.round(at[1] * ratio), 1, 1).data;
  return [...data.slice(0, 3), box.x + at[0], box.y + at[1]];
}"""  # noqa: E501
"""Colour of the fitted stage at a place of the picture, and where that is on the page."""

IS_UP_TO_DATE = """async () => {
  const { model } = await import("/static/model.js");
  const state = await (await fetch("/api/state")).json();
  return state.version === model.state.version;
}"""
"""Whether the page knows all edits that the server has."""


@pytest.fixture(scope="module")
def chromium():
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"], timeout=PATIENCE * 1000
        )
        yield browser
        browser.close()


class Page:
    """A page of the picker, used as a person would."""

    def __init__(self, context, server, size=SIZE) -> None:
        self.size, self.server, self.context = size, server, context
        self.problems, self.hosts = [], set()
        self.open(server.address)

    def open(self, address: str) -> None:
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE * 1000)
        self.page.on(
            "console",
            lambda message: (
                message.type == "error"
                and self.problems.append(f"{message.text} ({message.location['url']})")
            ),
        )
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on(
            "request", lambda request: self.hosts.add(request.url.split("/")[2] or request.url[:5])
        )
        self.page.goto(address)
        # The first visit is led on to the address without the token.
        self.page.wait_for_url(lambda url: "token" not in url)
        self.until(lambda: self.evaluate("document.getElementById('clip-name').textContent !== ''"))
        self.until(lambda: sum(self.pixel(self.size[0] / 2, self.size[1] / 2)) > 0)

    def until(self, condition, seconds: float = PATIENCE, what: str = "anything") -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"did not happen in time: {what}"
            self.page.wait_for_timeout(50)

    def until_saved(self, condition) -> None:
        """Wait until the server has an edit, and the page has heard of it."""
        self.until(condition)
        self.until(lambda: self.evaluate(IS_UP_TO_DATE), what="the page hears of an edit")

    def evaluate(self, expression: str):
        # Waiting inside the page would need eval, which the page's policy forbids.
        return self.page.evaluate(expression)

    def pixel(self, x: float, y: float) -> tuple[int, int, int]:
        return tuple(self.page.evaluate(PIXEL, [x, y, *self.size])[:3])

    def place(self, x: float, y: float) -> tuple[float, float]:
        return tuple(self.page.evaluate(PIXEL, [x, y, *self.size])[3:])

    def click(self, x: float, y: float, **options) -> None:
        self.page.mouse.click(*self.place(x, y), **options)

    def drag(self, *places) -> None:
        self.page.mouse.move(*self.place(*places[0]))
        self.page.mouse.down()
        for place in places[1:]:
            self.page.mouse.move(*self.place(*place), steps=5)
        self.page.mouse.up()

    def view(self, name: str) -> None:
        self.page.click(f"[data-view={name}]")

    def go_to(self, frame: int) -> None:
        self.page.fill("#frame", str(frame))
        self.page.press("#frame", "Enter")
        self.page.locator("#stage").focus()

    def picture(self, selector: str) -> np.ndarray:
        """(h, w, 3) what is seen of an element."""
        data = self.page.locator(selector).screenshot()
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int)


@pytest.fixture(autouse=True)
def quick_runs(monkeypatch):
    """Runs in this process: one of their own takes long to start, and is tested elsewhere."""
    monkeypatch.setattr("vidmatte.web.runs.Run", InlineRun)


@pytest.fixture
def session(tmp_path):
    options = {"g": "250"}
    with opened(
        write_disc(tmp_path / "clip.mp4", frames=30, size=SIZE, options=options)
    ) as session:
        yield session


@pytest.fixture
def page(chromium, session):
    with PickerServer(session) as server:
        context = chromium.new_context(viewport={"width": 1280, "height": 800})
        page = Page(context, server)
        yield page
        context.close()
    assert page.problems == []
    assert page.hosts <= {f"127.0.0.1:{server.port}"}


def is_near(color, other, by: int = 24) -> bool:
    return max(abs(a - b) for a, b in zip(color, other, strict=True)) <= by


def test_mark_see_correct_run_watch_and_find_the_marks_again(page, session, tmp_path):
    x, y, radius = disc(0, SIZE)
    page.view("alpha")
    page.click(x, y)
    # Away from the mark itself, which is drawn above the picture.
    page.until(lambda: page.pixel(x + radius / 2, y) == (255, 255, 255))
    assert page.pixel(300, 20) == (0, 0, 0)
    before = page.picture("#stage")
    page.click(x - radius / 2, y + 4)
    page.until_saved(lambda: len(session.project.prompts["object"][0].points) == 2)
    page.until(lambda: (page.picture("#stage") != before).any())
    page.click(280, 30, button="right")
    page.page.keyboard.down("Alt")
    page.click(20, 160)
    page.page.keyboard.up("Alt")
    page.until_saved(lambda: len(session.project.prompts["object"][0].points) == 4)
    assert [label for *_, label in session.project.prompts["object"][0].points] == [1, 1, 0, 0]
    page.until(lambda: page.page.locator("#marks li").count() == 4)
    page.page.keyboard.press("Control+z")
    page.until_saved(lambda: len(session.project.prompts["object"][0].points) == 3)

    # Over a colour and over the checkerboard: the object itself, and what is behind it.
    page.view("color")
    page.until(lambda: is_near(page.pixel(300, 20), (0x2F, 0x7D, 0x4F), 4))
    assert is_near(page.pixel(x + radius / 2, y), (230, 120, 30))
    page.view("overlay")
    page.until(lambda: is_near(page.pixel(300, 20), page.pixel(300, 24), 16))

    # Scrub with the keyboard and the slider; the picture of each frame is its own.
    page.page.locator("#stage").focus()
    for _ in range(3):
        page.page.keyboard.press("ArrowRight")
    assert page.page.input_value("#frame") == "3"
    page.page.keyboard.press("End")
    page.until(lambda: page.page.input_value("#frame") == "29")
    end = disc(29, SIZE)
    page.view("source")
    page.until(lambda: is_near(page.pixel(end[0], end[1]), (230, 120, 30)))

    # Preview, and a correction at another frame.
    page.page.click("#preview")
    page.until(lambda: session.preview.progress == (30, 30))
    followed = session.preview.computed
    page.go_to(20)
    page.view("alpha")
    middle = disc(20, SIZE)
    page.until(lambda: page.pixel(middle[0], middle[1])[0] > 200)
    page.click(middle[0], middle[1])
    page.until_saved(
        lambda: session.project.prompts["object"][1:] and session.preview.progress[0] > 30
    )
    page.until(lambda: session.preview.progress[0] == session.preview.progress[1])
    # The frames from half-way to the end, and a few that are mixed; not the whole clip again.
    assert 20 <= session.preview.computed - followed <= 24
    page.until(lambda: "confidence" in page.page.locator("#frame-confidence").inner_text())

    # Run, and watch what was written.
    page.page.get_by_label("clip_matte.mov").uncheck()
    page.page.get_by_label("clip_matte.webm").check()
    page.until(lambda: "clip_matte.webm" in page.page.locator("#command").inner_text())
    page.page.click("#run")
    page.until(lambda: page.page.locator("#run-done").is_visible())
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "clip.mp4",
        "clip.prompts.json",
        "clip_alpha.mov",
        "clip_matte.webm",
    ]
    watch_the_result(page)

    # Reload: the marks are there, and so they are in the file.
    page.page.reload()
    page.until(lambda: page.page.locator("#marks li .dot").count() == 3)
    page.go_to(20)
    page.until(lambda: page.page.locator("#marks li .dot").count() == 1)
    assert [prompt.frame for prompt in load_prompts(tmp_path / "clip.prompts.json")["object"]] == [
        0,
        20,
    ]


def watch_the_result(page) -> None:
    """Colour, alpha and backdrop of what was written, on the stage at full size."""
    page.view("color")
    page.go_to(10)
    page.page.click("#watch")
    page.until(lambda: page.page.locator("#result-bar").is_visible())
    x, y, _ = disc(10, SIZE)
    assert page.page.locator("#marks-frame").inner_text() == "10"
    page.page.select_option("#result-file", label="clip_matte.webm")
    page.until(lambda: is_near(page.pixel(300, 20), (0x2F, 0x7D, 0x4F), 6))
    assert is_near(page.pixel(x, y), (230, 120, 30))
    page.page.select_option("#result-file", label="clip_alpha.mov")
    page.view("alpha")
    page.until(lambda: page.pixel(x, y)[0] > 240 and max(page.pixel(300, 20)) < 10)
    # Nothing is marked while the result is watched.
    page.click(x, y)
    assert page.page.locator("#result-close").is_visible()
    page.page.keyboard.press("Escape")
    page.until(lambda: page.page.locator("#result-bar").is_hidden())


def test_everything_without_a_mouse(page, session):
    keys = page.page.keyboard
    for _ in range(60):
        keys.press("Tab")
        if page.page.evaluate("document.activeElement.id") == "stage":
            break
    assert page.page.evaluate("document.activeElement.id") == "stage"
    outline = page.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"  # the focus can be seen
    x = disc(0, SIZE)[0]
    keys.press("Enter")
    assert "160, 90" in page.page.locator("#status").inner_text()
    for key, steps in (("Control+ArrowLeft", 1), ("Shift+ArrowLeft", 1), ("ArrowLeft", 4)):
        for _ in range(steps):
            keys.press(key)
    keys.press("Enter")
    page.until_saved(lambda: bool(session.project.prompts))
    assert session.project.prompts["object"][0].points == ((96.5, 90.5, 1),)
    assert abs(96.5 - x) < 1
    assert "Object marked at 96, 90" in page.page.locator("#status").inner_text()
    keys.press("Control+ArrowUp")
    keys.press("Backspace")
    page.until_saved(lambda: len(session.project.prompts["object"][0].points) == 2)
    assert session.project.prompts["object"][0].points[1] == (96.5, 40.5, 0)
    keys.press("b")
    keys.press("Enter")
    keys.press("Control+ArrowDown")
    keys.press("Control+ArrowRight")
    keys.press("Enter")
    page.until_saved(lambda: session.project.prompts["object"][0].box is not None)
    assert session.project.prompts["object"][0].box == (96.5, 40.5, 146.5, 90.5)
    keys.press("s")
    keys.press("]")
    keys.press("Enter")
    keys.press("Shift+ArrowRight")
    keys.press("Enter")
    page.until_saved(lambda: bool(session.project.prompts["object"][0].strokes))
    assert session.project.prompts["object"][0].strokes[0].points == ((146.5, 90.5), (156.5, 90.5))
    keys.press(".")
    assert page.page.input_value("#frame") == "1"
    keys.press("Escape")
    keys.press("ArrowLeft")
    assert page.page.input_value("#frame") == "0"
    keys.press("Shift+ArrowRight")
    keys.press("i")
    page.until_saved(lambda: session.project.start == 10)
    keys.press("2")
    assert page.page.get_attribute("[data-view=overlay]", "aria-pressed") == "true"
    keys.press("ArrowRight")
    assert page.page.input_value("#frame") == "11"
    keys.press("?")
    assert page.page.locator("#help").is_visible()
    keys.press("Escape")
    # Arrows step frames whatever has the focus, but in a field and on a slider of its own.
    page.page.locator("[data-view=overlay]").focus()
    keys.press("ArrowRight")
    assert page.page.input_value("#frame") == "12"
    page.page.locator("#edge-grow").focus()
    keys.press("ArrowRight")
    page.until_saved(lambda: session.edge.grow == 0.5)
    assert page.page.input_value("#frame") == "12"
    page.page.locator("#frame").fill("20")
    keys.press("Enter")
    assert page.page.input_value("#frame") == "20"
    keys.press("ArrowLeft")  # the field was left
    assert page.page.input_value("#frame") == "19"


def keys_of(page) -> list[dict]:
    """The table of keys, as the page has it."""
    return page.page.evaluate(
        """async () => (await import("/static/keymap.js")).KEYS
        .map(({ id, keys, text, where }) => ({ id, keys, text, where: where ?? "" }))"""
    )


def test_the_help_lists_each_key_once_and_no_two_mean_the_same(page):
    table = keys_of(page)
    page.page.keyboard.press("?")
    shown = page.page.locator("#keys dt").evaluate_all("terms => terms.map((t) => t.dataset.key)")
    assert sorted(shown) == sorted(key["id"] for key in table)
    assert len(set(shown)) == len(shown)
    places = [(name, key["where"]) for key in table for name in key["keys"]]
    assert len(set(places)) == len(places)


def test_every_key_of_the_table_does_what_it_says(page, session):
    """Each entry has its effect here; an entry without one fails the test."""
    x, y, _ = disc(0, SIZE)
    page.click(x, y)
    page.until_saved(lambda: bool(session.project.prompts))
    model = "(await import('/static/model.js')).model"

    def state(expression: str):
        return page.page.evaluate(f"async () => {{ const m = {model}; return {expression}; }}")

    def frame() -> int:
        return int(page.page.input_value("#frame"))

    def is_view(view: str):
        return lambda: state("m.view") == view

    go = page.go_to
    press = page.page.keyboard.press
    # By id: what to do before, and what is true after the first of its keys was pressed.
    effects = {
        "play": (lambda: go(0), lambda: state("m.speed") == 1),
        "stop": (lambda: None, lambda: state("m.speed") == 0),
        "forward": (lambda: go(0), lambda: state("m.speed") == 1),
        "backward": (lambda: (press("k"), go(20)), lambda: state("m.speed") == -1),
        "before": (lambda: (press("k"), go(9)), lambda: frame() == 8),
        "next": (lambda: go(9), lambda: frame() == 10),
        "before-ten": (lambda: go(15), lambda: frame() == 5),
        "next-ten": (lambda: go(5), lambda: frame() == 15),
        "first": (lambda: go(5), lambda: frame() == 0),
        "last": (lambda: go(5), lambda: frame() == 29),
        "in": (lambda: go(2), lambda: session.project.start == 2),
        "out": (lambda: go(27), lambda: session.project.end == 27),
        "marked-before": (lambda: go(5), lambda: frame() == 0),
        "marked-next": (lambda: go(5), lambda: "No marked frame" in status()),
        "unsure": (lambda: None, lambda: "preview first" in status()),
        "time-in": (lambda: None, lambda: shown_frames() == 20),
        "time-out": (lambda: None, lambda: shown_frames() == 29),
        "point": (lambda: press("b"), lambda: state("m.tool") == "point"),
        "box": (lambda: None, lambda: state("m.tool") == "box"),
        "brush": (lambda: None, lambda: state("m.tool") == "brush"),
        "hand": (lambda: None, lambda: state("m.tool") == "hand"),
        "swap": (lambda: None, lambda: state("m.label") == 0),
        "smaller": (lambda: None, lambda: state("m.brush") == 19),
        "larger": (lambda: None, lambda: state("m.brush") == 25),
        "answer": (lambda: go(0), lambda: "nswer" in status()),
        "hide": (lambda: go(0), lambda: state("m.areMarksHidden")),
        "copy": (lambda: (press("h"), go(3)), lambda: 3 in session.project.objects[0].prompts),
        "undo": (lambda: None, lambda: 3 not in session.project.objects[0].prompts),
        "redo": (lambda: None, lambda: 3 in session.project.objects[0].prompts),
        "remove": (
            lambda: page.page.locator("#marks button.name").first.click(),
            lambda: 3 not in session.project.objects[0].prompts,
        ),
        "view-source": (lambda: None, is_view("source")),
        "view-overlay": (lambda: None, is_view("overlay")),
        "view-alpha": (lambda: None, is_view("alpha")),
        "view-checker": (lambda: None, is_view("checker")),
        "view-color": (lambda: None, is_view("color")),
        "view-picture": (lambda: None, is_view("picture")),
        "view-difference": (lambda: None, lambda: "two runs" in status()),
        "wipe": (lambda: None, lambda: state("m.wipe") == 0.5),
        "zoom-in": (lambda: None, lambda: page.page.locator("#zoom").inner_text() != "Fit"),
        "zoom-out": (lambda: press("0"), lambda: page.page.locator("#zoom").inner_text() != "Fit"),
        "fit": (lambda: None, lambda: page.page.locator("#zoom").inner_text() == "Fit"),
        "preview": (lambda: None, lambda: session.preview.progress[1] > 0),
        "result": (lambda: None, lambda: "no result yet" in status()),
        "cross": (lambda: go(0), lambda: state("m.cross !== null")),
        "cross-enter": (lambda: (press("Escape"), go(0)), lambda: state("m.cross !== null")),
        "cross-1": (lambda: None, lambda: status() == "159, 90"),
        "cross-10": (lambda: None, lambda: status() == "149, 90"),
        "cross-50": (lambda: None, lambda: status() == "99, 90"),
        "cross-object": (lambda: press("q"), lambda: "Object marked" in status()),
        "cross-background": (lambda: press("ArrowDown"), lambda: "Background marked" in status()),
        "remove-near": (lambda: None, lambda: "nearest point was removed" in status()),
        "escape": (lambda: None, lambda: state("m.cross === null")),
        "help": (lambda: None, lambda: page.page.locator("#help").is_visible()),
    }

    def status() -> str:
        return page.page.locator("#status").inner_text()

    def shown_frames() -> int:
        low, high = (int(page.page.get_attribute("#slider", name)) for name in ("min", "max"))
        return high - low

    table = {key["id"]: key for key in keys_of(page)}
    # Tab needs a model with several answers: test_tab_goes_through_the_answers_to_a_click.
    assert set(table) == {*effects, "answer-tab"}
    names = {"Space": " ", "Ctrl+": "Control+"}
    for name, (before, holds) in effects.items():
        before()
        key = table[name]["keys"][0]
        for ours, theirs in names.items():
            key = key.replace(ours, theirs)
        press(key if len(key) > 1 or not key.isalpha() else key.lower())
        page.until(holds, what=name)
    # What is still asked for would be noted after the list is emptied.
    page.until(lambda: page.page.locator("#busy").is_hidden())
    page.page.wait_for_timeout(500)
    page.problems.clear()  # background alone makes no matte, which the browser notes


def test_every_control_has_a_name_and_text_can_be_read(page):
    nameless = page.page.evaluate(
        """() => [...document.querySelectorAll("button, input, canvas:not([aria-hidden]), [role]")]
        .filter((one) => one.checkVisibility() && one.id !== "mask-file")
        .filter((one) => !(one.getAttribute("aria-label") || one.getAttribute("aria-labelledby") ||
          one.textContent.trim() || one.labels?.length || one.matches("[role=status], [role=alert]")))
        .map((one) => one.outerHTML)"""  # noqa: E501
    )
    assert nameless == []
    faint = page.page.evaluate(
        """() => {
        const parse = (text) => text.match(/[\\d.]+/g).map(Number);
        const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
          .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
          .reduce((sum, c, n) => sum + c * [0.2126, 0.7152, 0.0722][n], 0);
        const behind = (one) => {
          for (; one; one = one.parentElement) {
            const color = parse(getComputedStyle(one).backgroundColor);
            if (color.length === 3 || color[3] > 0.8) return color;
          }
        };
        return [...document.querySelectorAll("body *")]
          .filter((one) => one.checkVisibility() && !one.matches(":disabled, option") &&
            [...one.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim()))
          .map((one) => {
            const [a, b] = [parse(getComputedStyle(one).color), behind(one)].map(light);
            return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), one.textContent.trim().slice(0, 40)];
          }).filter(([ratio]) => ratio < 4.5);
        }"""  # noqa: E501
    )
    assert faint == []


def test_a_box_a_stroke_and_a_mask(page, session, tmp_path):
    x, y, radius = disc(0, SIZE)
    page.page.click("[data-tool=box]")
    page.drag((x - radius - 6, y - radius - 6), (x + radius + 6, y + radius + 6))
    page.until_saved(lambda: bool(session.project.prompts))
    box = session.project.prompts["object"][0].box
    wanted = (x - radius - 6, y - radius - 6, x + radius + 6, y + radius + 6)
    assert np.abs(np.subtract(box, wanted)).max() <= 1
    page.page.click("[data-tool=brush]")
    page.page.locator("#brush").fill("12")
    page.drag((x - 10, y), (x + 10, y), (x + 10, y + 8))
    page.until_saved(lambda: bool(session.project.prompts["object"][0].strokes))
    stroke = session.project.prompts["object"][0].strokes[0]
    assert stroke.width == 12
    assert np.abs(np.subtract(stroke.points[0], (x - 10, y))).max() <= 1
    assert np.abs(np.subtract(stroke.points[-1], (x + 10, y + 8))).max() <= 3
    page.view("alpha")
    page.until(lambda: page.pixel(x, y + radius / 2) == (255, 255, 255))
    mask = np.zeros(SIZE[::-1], np.uint8)
    mask[60:120, 200:260] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    page.go_to(5)
    page.page.set_input_files("#mask-file", tmp_path / "mask.png")
    page.until(lambda: page.pixel(230, 90) == (255, 255, 255))
    assert page.pixel(100, 90) == (0, 0, 0)
    page.page.get_by_label("Remove mask").click()
    page.until_saved(lambda: 5 not in session.project.objects[0].prompts)


def test_zoom_and_pan_to_single_pixels(page):
    page.view("source")
    x, y = 159, 91
    at = page.place(x + 0.5, y + 0.5)
    page.page.mouse.move(*at)
    for _ in range(30):
        page.page.mouse.wheel(0, -240)
    page.until(lambda: page.page.locator("#zoom").inner_text() == "6400 %")
    page.until(
        lambda: (
            page.page.locator("#readout").inner_text() == f"{x}, {y}" or page.page.mouse.move(*at)
        )
    )
    box = page.page.locator("#stage").bounding_box()
    page.page.mouse.move(0, 0)
    picture = page.picture("#stage")
    # Around the mouse there is one pixel of the clip, as large as 64 of the screen.
    column, row = int(at[0] - box["x"]), int(at[1] - box["y"])
    block = picture[row - 24 : row + 24, column - 24 : column + 24]
    assert block.reshape(-1, 3).std(0).max() == 0
    page.page.click("[data-tool=hand]")
    page.page.mouse.move(*at)
    page.page.mouse.down()
    page.page.mouse.move(at[0] + 128, at[1], steps=4)
    page.page.mouse.up()
    page.page.mouse.move(*at)
    page.until(lambda: page.page.locator("#readout").inner_text() == f"{x - 2}, {y}")
    page.page.keyboard.press("0")
    assert page.page.locator("#zoom").inner_text() == "Fit"


def test_several_objects_have_names_and_colours(page, session):
    page.click(*disc(0, SIZE)[:2])
    page.page.get_by_role("button", name="Add", exact=True).click()
    page.until_saved(lambda: len(session.project.objects) == 2)
    page.page.locator("#objects input[type=text]").nth(1).fill("sky")
    page.page.keyboard.press("Tab")
    page.until_saved(lambda: session.project.objects[1].name == "sky")
    page.click(290, 20)
    page.until_saved(lambda: len(session.project.prompts) == 2)
    assert set(session.project.prompts) == {"object", "sky"}
    page.until(lambda: "{object}" in page.page.locator("#command").inner_text())
    page.page.get_by_label("Name of sky").fill("object")
    page.page.keyboard.press("Tab")
    page.until(lambda: "two objects" in page.page.locator("#status").inner_text())
    assert session.project.objects[1].name == "sky"
    page.page.get_by_label("Remove sky").click()
    page.until_saved(lambda: len(session.project.objects) == 1)
    page.problems.clear()  # the browser notes the refusal in its console


def test_fingers_mark_move_and_zoom(chromium, session):
    with PickerServer(session) as server:
        context = chromium.new_context(viewport={"width": 1100, "height": 750}, has_touch=True)
        page = Page(context, server)
        x, y, _ = disc(0, SIZE)
        page.page.touchscreen.tap(*page.place(x, y))
        page.until_saved(lambda: bool(session.project.prompts))
        assert (
            np.abs(np.subtract(session.project.prompts["object"][0].points[0][:2], (x, y))).max()
            <= 1
        )
        page.page.tap("[data-label='0']")
        page.page.touchscreen.tap(*page.place(300, 20))
        page.until_saved(lambda: len(session.project.prompts["object"][0].points) == 2)
        assert session.project.prompts["object"][0].points[1][2] == 0
        fingers = context.new_cdp_session(page.page)
        left, top = page.place(160, 90)

        def touch(kind: str, *points) -> None:
            places = [{"x": a, "y": b, "id": n} for n, (a, b) in enumerate(points)]
            fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

        touch("touchStart", (left - 40, top), (left + 40, top))
        for reach in range(40, 121, 10):
            touch("touchMove", (left - reach, top), (left + reach, top))
        touch("touchEnd")
        page.until(lambda: page.page.locator("#zoom").inner_text() != "Fit")
        assert len(session.project.prompts["object"][0].points) == 2  # zooming marks nothing
        assert page.problems == []
        context.close()


def test_a_closed_tab_does_not_end_the_run(page, session, tmp_path):
    page.click(*disc(0, SIZE)[:2])
    page.until(lambda: page.page.locator("#run").is_enabled())
    page.page.click("#run")
    page.until(lambda: session.runs.last is not None)
    page.page.close()
    session.runs.last.wait(90)
    assert session.runs.last.progress.state == "done"
    page.open(f"http://127.0.0.1:{page.server.port}/")
    page.until(lambda: page.page.locator("#run-done").is_visible())
    assert "30 frames" in page.page.locator("#run-summary").inner_text()


def run(page, session) -> None:
    """Mark the disc on frame 0, and run."""
    if not session.project.prompts:
        page.click(*disc(0, SIZE)[:2])
        page.until(lambda: page.page.locator("#run").is_enabled())
    page.page.click("#run")
    page.until(lambda: page.page.locator("#run-done").is_visible())


def test_the_result_is_seen_in_every_view_wiped_and_compared(page, session, tmp_path):
    x, y, radius = disc(0, SIZE)
    session.set_edge({"feather": 3})
    run(page, session)
    page.page.keyboard.press("r")
    page.until(lambda: page.page.locator("#result-bar").is_visible())
    page.view("checker")
    page.until(lambda: len({page.pixel(at, 20) for at in range(270, 318, 6)}) == 2)
    assert is_near(page.pixel(x, y), (230, 120, 30))
    page.view("overlay")
    green = np.add(np.multiply(0.55, (230, 120, 30)), np.multiply(0.45, (0x35, 0xD0, 0x7F)))
    page.until(lambda: is_near(page.pixel(x, y), green, 12))
    page.view("source")
    page.until(lambda: is_near(page.pixel(x, y), (230, 120, 30)))
    source = page.pixel(300, 20)

    # Over a picture of the user's, which covers the frame and never leaves the browser.
    picture = np.zeros((90, 90, 3), np.uint8)
    picture[:, :, 2] = 200
    cv2.imwrite(str(tmp_path / "red.png"), picture)
    page.page.set_input_files("#picture-file", tmp_path / "red.png")
    page.until(lambda: is_near(page.pixel(300, 20), (200, 0, 0), 2))
    assert is_near(page.pixel(x, y), (230, 120, 30))

    # The wipe: the source on its left. It is drawn with the mouse, and with its slider.
    page.page.keyboard.press("w")
    page.until(lambda: page.pixel(20, 20) != (200, 0, 0))
    assert is_near(page.pixel(300, 20), (200, 0, 0), 2)
    middle = page.page.locator("#stage").bounding_box()
    line = middle["x"] + middle["width"] / 2
    page.page.mouse.move(line, middle["y"] + 100)
    page.page.mouse.down()
    page.page.mouse.move(middle["x"] + middle["width"] - 8, middle["y"] + 100, steps=4)
    page.page.mouse.up()
    page.until(lambda: is_near(page.pixel(300, 20), source))
    page.page.locator("#wipe-at").fill("0")
    page.until(lambda: is_near(page.pixel(20, 20), (200, 0, 0), 2))
    page.page.keyboard.press("w")

    # To single pixels of the written alpha, at any zoom.
    page.view("alpha")
    page.until(lambda: page.pixel(x, y) == (255, 255, 255))
    written = (session.runs.results()[1].planes(0)[1] * 255).round()
    row, column = np.argwhere((written > 90) & (written < 160))[0]
    page.page.mouse.move(*page.place(column + 0.5, row + 0.5))
    for _ in range(30):
        page.page.mouse.wheel(0, -240)
    page.until(lambda: page.page.locator("#zoom").inner_text() == "6400 %")
    # The place under the mouse stays where it was.
    at = page.place(column + 0.5, row + 0.5)
    box = page.page.locator("#stage").bounding_box()
    page.page.mouse.move(0, 0)

    def shown() -> int:
        return page.picture("#stage")[int(at[1] - box["y"]), int(at[0] - box["x"])][0]

    page.until(lambda: abs(shown() - written[row, column]) <= 1)
    page.page.keyboard.press("0")

    # The difference from the run before: what grew is green.
    session.set_edge({"grow": 9})
    page.page.get_by_label("Replace files that exist").check()
    page.page.keyboard.press("Escape")
    run(page, session)
    page.until(lambda: session.runs.before is not None)
    page.page.keyboard.press("r")
    page.until(lambda: page.page.locator("[data-view=difference]").is_visible())
    page.page.keyboard.press("7")
    page.until(
        lambda: page.pixel(x + radius + 5, y)[1] > 110 and page.pixel(x + radius + 5, y)[0] < 90
    )
    assert max(page.pixel(x, y)[:2]) < 130  # the same in both: only darker


def test_the_result_is_played_in_real_time_without_marks_over_it(page, session):
    run(page, session)
    page.page.keyboard.press("r")
    page.view("alpha")
    page.until(lambda: page.page.locator("#result-bar").is_visible())
    page.page.keyboard.press("Space")
    page.until(lambda: int(page.page.input_value("#frame")) > 10)
    page.page.keyboard.press("k")
    stopped = int(page.page.input_value("#frame"))
    x, y, _ = disc(stopped, SIZE)
    page.until(lambda: page.pixel(x, y)[0] > 240)
    page.page.keyboard.press("j")
    page.until(lambda: int(page.page.input_value("#frame")) < stopped)
    page.page.keyboard.press("k")


def test_the_edge_is_seen_at_once_and_the_command_line_follows(page, session):
    x, y, radius = disc(0, SIZE)
    page.click(x, y)
    page.view("alpha")
    page.until(lambda: page.pixel(x + radius / 2, y) == (255, 255, 255))
    assert page.pixel(x + radius + 8, y)[0] < 60
    page.page.locator("#edge-grow").fill("14")
    page.until(lambda: page.pixel(x + radius + 8, y)[0] > 200)
    page.until(lambda: "--grow 14" in page.page.locator("#command").inner_text())
    page.page.locator("#edge-invert").check()
    page.until(lambda: page.pixel(x + radius / 2, y) == (0, 0, 0))
    assert page.pixel(300, 20) == (255, 255, 255)
    page.page.get_by_label("Grow, as a number").fill("-8")
    page.page.keyboard.press("Enter")
    page.until_saved(lambda: session.edge.grow == -8)
    page.page.get_by_label("Reset Grow").click()
    page.until_saved(lambda: session.edge.grow == 0)
    page.page.click("#edge-reset")
    page.until(lambda: page.pixel(x + radius / 2, y) == (255, 255, 255))
    assert "--invert" not in page.page.locator("#command").inner_text()
    # Despill acts on colour: nothing here is green, but the blue of the backdrop would be.
    page.view("color")
    page.page.select_option("#edge-despill", "blue")
    page.until(lambda: "--despill blue" in page.page.locator("#command").inner_text())
    page.page.keyboard.press("Escape")


def test_a_first_run_without_a_manual_takes_at_most_twelve_actions(page, session, tmp_path):
    """Open, mark, correct, finish, inspect, led by what the page says."""
    actions = []

    def act(what: str, action) -> None:
        actions.append(what)
        action()

    x, y, radius = disc(0, SIZE)
    assert "Click" in page.page.locator("#guide").inner_text()
    assert page.page.locator("#guide svg").count() == 3
    act("click on the object", lambda: page.click(x, y))
    page.until(lambda: page.page.locator("#guide").is_hidden())
    page.until(lambda: "% sure" in page.page.locator("#sure").inner_text())
    assert "drag a box" in page.page.locator("#tip-text").inner_text()
    act("take the box", lambda: page.page.click("[data-tool=box]"))
    away = radius + 6
    act("drag it", lambda: page.drag((x - away, y - away), (x + away, y + away)))
    page.until(lambda: "Stroke over" in page.page.locator("#tip-text").inner_text())
    act("got it", lambda: page.page.click("#tip-close"))
    page.until(lambda: "Preview" in page.page.locator("#tip-text").inner_text())
    act("preview", lambda: page.page.click("#preview"))
    page.until(lambda: session.preview.progress == (30, 30))
    act("edge", lambda: page.page.locator("#edge-feather").fill("1"))
    act("run", lambda: page.page.click("#run"))
    page.until(lambda: page.page.locator("#run-done").is_visible())
    act("watch", lambda: page.page.click("#watch"))
    act("wipe", lambda: page.page.click("#wipe"))
    page.until(lambda: page.page.locator("#result-bar").is_visible())
    assert len(actions) <= 12
    assert (tmp_path / "clip_matte.mov").exists()
    # A tip that was read does not come again.
    page.page.reload()
    page.until(lambda: page.page.locator("#clip-name").inner_text() != "")
    assert "Stroke over" not in page.page.locator("#tip-text").inner_text()


def test_marks_are_chosen_dragged_resized_and_removed(page, session):
    x, y, _ = disc(0, SIZE)

    def marks():
        return session.project.objects[0].prompts.get(0)

    page.click(x, y)
    page.until_saved(lambda: marks() is not None)
    # A click on a mark chooses it, and Delete removes it.
    page.click(x, y)
    page.until(lambda: page.page.locator("#marks button.name[aria-pressed=true]").count() == 1)
    assert len(marks().points) == 1
    # The opposite click beside it takes its place.
    page.click(x + 3, y, button="right")
    page.until_saved(lambda: marks().points[0][2] == 0)
    assert len(marks().points) == 1
    # Dragged: drawn at the new place before it is let go.
    page.view("source")
    page.until(lambda: is_near(page.pixel(x - 15, y), (230, 120, 30)))
    page.page.mouse.move(*page.place(x + 3, y))
    page.page.mouse.down()
    page.page.mouse.move(*page.place(x - 15, y), steps=4)
    page.until(lambda: not is_near(page.pixel(x - 15 - 1.5, y - 1), (230, 120, 30)))
    assert marks().points[0][0] == pytest.approx(x + 3, abs=1)
    page.page.keyboard.press("Escape")  # given up
    page.page.mouse.up()
    assert marks().points[0][0] == pytest.approx(x + 3, abs=1)
    page.drag((x + 3, y), (x - 15, y))
    page.until_saved(lambda: marks().points[0][0] == pytest.approx(x - 15, abs=1))
    page.page.keyboard.press("Delete")
    page.until_saved(lambda: marks() is None)
    # A box has handles: a corner changes two edges, an edge moves it whole.
    page.page.click("[data-tool=box]")
    page.drag((40, 40), (120, 140))
    page.until_saved(lambda: marks() is not None)
    page.drag((120, 140), (140, 150))
    page.until_saved(lambda: np.abs(np.subtract(marks().box, (40, 40, 140, 150))).max() <= 1.5)
    page.page.click("[data-tool=point]")
    page.drag((60, 40), (70, 50))
    page.until_saved(lambda: np.abs(np.subtract(marks().box, (50, 50, 150, 160))).max() <= 2)
    # Hidden marks are not drawn.
    before = page.picture("#stage")
    page.page.keyboard.press("h")
    page.until(lambda: (page.picture("#stage") != before).any())
    page.page.keyboard.press("h")
    # Copied to another frame along the motion; undo goes to the frame that it changes.
    page.go_to(10)
    page.page.click("#copy-marks")
    page.until_saved(lambda: 10 in session.project.objects[0].prompts)
    shift = disc(10, SIZE)[0] - x
    moved = session.project.objects[0].prompts[10].box
    assert np.abs(np.subtract(moved, np.add(marks().box, (shift, 0, shift, 0)))).max() < 15
    chips = page.page.locator("#marked-frames button")
    page.until(lambda: chips.all_inner_texts() == ["0", "10"])
    page.go_to(25)
    page.page.keyboard.press("p")
    assert page.page.input_value("#frame") == "10"
    page.go_to(25)
    page.page.keyboard.press("Control+z")
    page.until(lambda: page.page.input_value("#frame") == "10")
    assert 10 not in session.project.objects[0].prompts
    page.problems.clear()  # background alone makes no matte, which the browser notes


@pytest.fixture
def circles(chromium, tmp_path, monkeypatch):
    """A page whose model answers a point with circles of 12, 30 and 70 pixels around it."""
    monkeypatch.setattr("vidmatte.web.session.model_from_options", lambda _: CircleModel())
    clip = write_disc(tmp_path / "clip.mp4", frames=4, size=SIZE)
    with opened(clip) as session, PickerServer(session) as server:
        context = chromium.new_context(viewport={"width": 1280, "height": 800})
        page = Page(context, server)
        yield page, session
        context.close()
    assert page.problems == []


def test_tab_goes_through_the_answers_to_a_click(circles):
    page, session = circles
    x, y = 160, 90
    page.view("alpha")
    page.click(x, y)
    # The object first, which is the second of three.
    page.until(lambda: page.pixel(x + 26, y) == (255, 255, 255))
    assert page.pixel(x + 34, y) == (0, 0, 0)
    place, choice = (page.page.locator(name) for name in ("#answer-place", "#answer-choice"))
    assert place.inner_text() == "2 of 3 (Tab)"
    assert choice.locator("button").all_inner_texts() == ["Part", "Object", "Group"]
    assert choice.locator("[aria-pressed=true]").inner_text() == "Object"
    page.page.keyboard.press("Tab")
    page.until(lambda: page.pixel(x + 60, y) == (255, 255, 255))
    assert page.pixel(x + 76, y) == (0, 0, 0)
    page.until(lambda: place.inner_text() == "3 of 3 (Tab)")
    assert page.page.evaluate("document.activeElement.id") == "stage"
    assert "Answer 3 of 3: group" in page.page.locator("#status").inner_text()
    page.page.keyboard.press("Tab")
    page.until(lambda: page.pixel(x + 16, y) == (0, 0, 0))
    assert page.pixel(x + 10, y) == (255, 255, 255)
    assert session.project.objects[0].prompts[0].extent == "part"
    # Undone like any other edit, and chosen by name in the panel.
    page.page.keyboard.press("Control+z")
    page.until(lambda: page.pixel(x + 60, y) == (255, 255, 255))
    choice.get_by_text("Object").click()
    page.until(lambda: page.pixel(x + 34, y) == (0, 0, 0) and page.pixel(x + 26, y)[0] == 255)
    # Whoever came to the picture by keys goes on to the next control.
    page.page.keyboard.press("Shift+Tab")
    page.page.keyboard.press("Tab")
    assert page.page.evaluate("document.activeElement.id") == "stage"
    page.page.keyboard.press("Tab")
    assert page.page.evaluate("document.activeElement.id") != "stage"
    assert session.project.objects[0].prompts[0].extent == "object"


def test_the_page_says_which_model_answers_and_switches(circles, monkeypatch):
    page, _ = circles
    other = CircleModel("sam2", (8, 50, 80))
    monkeypatch.setattr("vidmatte.pipeline.models.load_model", lambda name, **_: other)
    x, y = 160, 90
    page.view("alpha")
    page.click(x, y)
    page.until(lambda: page.pixel(x + 26, y) == (255, 255, 255))
    select = page.page.locator("#prompt-model")
    assert select.input_value() == "circles"
    offered = select.locator("option")
    assert offered.all_inner_texts() == ["circles", "compact"]  # what is on this machine
    facts = SimpleNamespace(name="sam2", installed=True)
    monkeypatch.setattr("vidmatte.web.session.all_models", lambda: (facts,))
    page.until(lambda: offered.all_inner_texts() == ["circles", "sam2"])
    select.select_option("sam2")
    page.until(lambda: page.pixel(x + 46, y) == (255, 255, 255))
    assert page.pixel(x + 54, y) == (0, 0, 0)
    page.until(lambda: "--prompt-model sam2" in page.page.locator("#command").inner_text())
    assert page.page.locator("#status").inner_text() == "Marks are answered by sam2"
    select.select_option("circles")
    page.until(lambda: page.pixel(x + 34, y) == (0, 0, 0))
    assert page.pixel(x + 26, y) == (255, 255, 255)


def test_the_matte_follows_a_mark_that_is_dragged(circles):
    page, session = circles
    page.view("alpha")
    page.click(80, 90)
    page.until(lambda: page.pixel(100, 90) == (255, 255, 255))
    page.page.mouse.move(*page.place(80, 90))
    page.page.mouse.down()
    page.page.mouse.move(*page.place(220, 90), steps=20)
    # Before the mark is let go: the circle is where the mark is, and nothing is saved.
    page.until(lambda: page.pixel(240, 90) == (255, 255, 255))
    assert page.pixel(100, 90) == (0, 0, 0)
    assert session.project.objects[0].prompts[0].points[0][0] == pytest.approx(80, abs=1)
    page.page.keyboard.press("Escape")  # given up: the matte goes back, too
    page.until(lambda: page.pixel(100, 90) == (255, 255, 255))
    assert page.pixel(240, 90) == (0, 0, 0)
    page.page.mouse.up()
    page.drag((80, 90), (200, 90))
    page.until_saved(lambda: session.project.objects[0].prompts[0].points[0][0] > 190)
    page.until(lambda: page.pixel(220, 90) == (255, 255, 255))
    assert page.pixel(100, 90) == (0, 0, 0)


def test_an_error_goes_when_what_it_was_about_succeeds(page, session):
    page.click(*disc(0, SIZE)[:2])
    page.until_saved(lambda: bool(session.project.prompts))
    page.page.locator("#out-folder").fill("/no/such/folder")
    page.page.keyboard.press("Enter")
    page.until(lambda: "does not exist" in page.page.locator("#status").inner_text())
    page.page.locator("#edge-grow").fill("3")
    page.until_saved(lambda: session.edge.grow == 3)
    assert "does not exist" in page.page.locator("#status").inner_text()
    page.page.locator("#out-name").fill("take")
    page.page.keyboard.press("Enter")
    page.until(lambda: page.page.locator("#status").inner_text() == "")
    # The error goes once the page shows what came of the edit.
    assert page.page.locator("#outputs label").first.inner_text().startswith("take_matte.mov")
    page.problems.clear()  # the browser notes the refusal in its console


def test_a_mask_is_dropped_on_the_page(page, session):
    page.page.evaluate(
        """async () => {
          const canvas = new OffscreenCanvas(320, 180);
          const context = canvas.getContext("2d");
          context.fillRect(0, 0, 320, 180);
          context.fillStyle = "#fff";
          context.fillRect(200, 60, 60, 60);
          const data = new DataTransfer();
          data.items.add(new File([await canvas.convertToBlob()], "mask.png", { type: "image/png" }));
          window.dispatchEvent(new DragEvent("drop", { dataTransfer: data, cancelable: true }));
        }"""  # noqa: E501
    )
    page.until_saved(lambda: bool(session.project.prompts))
    page.view("alpha")
    page.until(lambda: page.pixel(230, 90) == (255, 255, 255))
    assert page.pixel(100, 90) == (0, 0, 0)


def test_the_timeline_zooms_and_shows_a_lane_for_each_object(page, session):
    page.click(*disc(0, SIZE)[:2])
    page.until_saved(lambda: bool(session.project.prompts))
    page.page.get_by_role("button", name="Add", exact=True).click()
    second = page.page.get_by_label("Mark object 1")
    page.until(lambda: second.get_attribute("aria-pressed") == "true")
    page.click(290, 20)
    page.until_saved(lambda: len(session.project.prompts) == 2)
    page.page.click("#preview")
    page.until(lambda: session.preview.progress == (60, 60))
    page.until(lambda: "confidence" in page.page.locator("#frame-confidence").inner_text())
    colors = [(0x35, 0xD0, 0x7F), (0xFF, 0xB0, 0x20)]

    def shows(n, color, within):
        lanes = page.picture("#curve")
        height = lanes.shape[0]
        lane = lanes[n * height // 2 : (n + 1) * height // 2].reshape(-1, 3)
        return (np.abs(lane - color).max(1) < within).any()

    # The line of 1.5 pixels may cover two of them by three quarters each.
    page.until(lambda: shows(0, colors[0], 60) and shows(1, colors[1], 60), what="two lanes")
    assert not shows(1, colors[0], 20)
    page.go_to(25)
    page.page.click("#time-in")
    slider = page.page.locator("#slider")
    low, high = (int(slider.get_attribute(name)) for name in ("min", "max"))
    assert (low, high) != (0, 29)
    assert low <= 25 <= high
    page.go_to(0)  # the timeline goes along
    assert slider.get_attribute("min") == "0"


SIZES = {
    "phone": (390, 844),
    "tablet": (820, 1180),
    "small": (1024, 600),
    "large": (2560, 1440),
}


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_nothing_is_cut_off_and_run_is_in_sight(chromium, session, size):
    with PickerServer(session) as server:
        context = chromium.new_context(viewport={"width": size[0], "height": size[1]})
        page = Page(context, server)
        wide = page.page.evaluate(
            """() => [...document.querySelectorAll("button, input, select, h1, h2, label, canvas")]
            .filter((one) => one.checkVisibility() && !one.closest("dialog"))
            .map((one) => [one.id || one.textContent.trim(), one.getBoundingClientRect()])
            .filter(([, box]) => box.right > innerWidth + 9 || box.left < -9)
            .map(([name]) => name)"""
        )
        assert wide == []
        assert page.page.evaluate("document.documentElement.scrollWidth") <= size[0]
        box = page.page.locator("#run").bounding_box()
        if size[0] > 760:
            assert box["y"] + box["height"] <= size[1]
            stage = page.page.locator("#stage").bounding_box()
            assert stage["height"] > 0.4 * size[1]
        context.close()
        assert page.problems == []


def violations(page) -> list[str]:
    axe = pytest.importorskip("axe_playwright_python", reason="needs axe-playwright-python")
    script = next(Path(axe.__file__).parent.rglob("axe.min.js"))
    page.page.evaluate(script.read_text(encoding="utf-8"))
    found = page.page.evaluate("axe.run()")
    return [
        f"{one['id']}: {[node['html'][:90] for node in one['nodes']]}"
        for one in found["violations"]
    ]


def test_every_state_can_be_used_by_everyone(page, session):
    """No violation of the rules of axe: new, with marks and a tip, help, preview, result."""
    assert violations(page) == []
    page.click(*disc(0, SIZE)[:2])
    page.until(lambda: page.page.locator("#tip").is_visible())
    page.click(*disc(0, SIZE)[:2])
    assert violations(page) == []
    page.page.keyboard.press("?")
    assert violations(page) == []
    page.page.keyboard.press("Escape")
    page.page.click("#preview")
    page.until(lambda: session.preview.progress == (30, 30))
    page.page.select_option("#edge-despill", "green")
    page.page.keyboard.press("b")
    page.page.keyboard.press("s")
    assert violations(page) == []
    run(page, session)
    page.page.keyboard.press("r")
    page.page.keyboard.press("w")
    page.page.keyboard.press("5")
    page.until(lambda: page.page.locator("#result-bar").is_visible())
    assert violations(page) == []


def test_the_choice_of_a_clip_can_be_used_by_everyone(chromium, tmp_path):
    write_disc(tmp_path / "clip.mp4", frames=2)
    with PickerServer(Chooser(tmp_path)) as server:
        context = chromium.new_context(viewport={"width": 820, "height": 700})
        tab = context.new_page()
        tab.goto(server.address)
        tab.wait_for_selector("#clips button")
        assert "clip.mp4" in tab.locator("#clips").inner_text()
        assert violations(SimpleNamespace(page=tab)) == []
        context.close()


def test_a_page_that_was_opened_from_a_file_keeps_its_cookie(chromium, session, tmp_path):
    with PickerServer(session) as server:
        context = chromium.new_context()
        tab = context.new_page()
        tab.goto(_file_leading_to(server.address, tmp_path).as_uri())
        tab.wait_for_url(f"http://127.0.0.1:{server.port}/")
        tab.wait_for_selector("#clip-name:not(:empty)")
        assert "token" not in tab.url
        context.close()


def test_done_ends_the_picker(page, session):
    page.page.click("#end")
    page.until(session.ended.is_set)
    page.until(lambda: page.page.locator("#ended").is_visible())


def test_the_pictures_of_the_documents(chromium, tmp_path):
    """The sample clip, marked, previewed and matted; saved where PICKER_SCREENSHOT says."""
    target = Path(os.environ.get("PICKER_SCREENSHOT") or tmp_path / "picker.png")
    clip = shutil.copy(SAMPLE, tmp_path / "portrait.mp4")
    with (
        opened(Path(clip), options=MatteOptions(device="cpu", adapt_steps=0)) as session,
        PickerServer(session) as server,
    ):
        session.edit({"op": "change_object", "object": 1, "name": "astronaut"})
        context = chromium.new_context(viewport={"width": 1360, "height": 880})
        page = Page(context, server, (1280, 720))
        for x, y in (
            (501, 214),
            (514, 98),
            (275, 530),
            (453, 539),
            (656, 487),
            (793, 667),
            (553, 600),
            (750, 595),
        ):
            page.click(x, y)
        for x, y in ((150, 180), (1090, 250), (950, 525), (140, 470), (860, 560), (1250, 690)):
            page.click(x, y, button="right")
        page.page.click("#preview")
        page.until(lambda: session.preview.progress == (100, 100), 900)
        page.go_to(0)
        page.until(
            lambda: page.pixel(560, 420) != (0, 0, 0) and page.page.locator("#busy").is_hidden()
        )
        page.page.wait_for_timeout(3000)
        page.page.mouse.click(300, 12)  # beside everything: the focus is left
        page.page.screenshot(path=target)
        # The result of a few frames, wiped against the source.
        session.edit({"op": "set_range", "start": 0, "end": 5})
        page.until(lambda: page.page.locator("#run").is_enabled())
        page.page.click("#run")
        page.until(lambda: page.page.locator("#run-done").is_visible(), 900)
        page.page.keyboard.press("r")
        page.view("color")
        page.page.keyboard.press("w")
        page.until(lambda: is_near(page.pixel(1200, 60), (0x2F, 0x7D, 0x4F), 8))
        page.page.wait_for_timeout(3000)
        assert page.page.locator("#tip").is_hidden()  # tips are about marking
        # How long this machine took is no figure for the documents.
        page.evaluate("document.getElementById('run-summary').hidden = true")
        page.page.screenshot(path=target.with_name(f"{target.stem}-result.png"))
        context.close()
    assert target.stat().st_size > 200_000
