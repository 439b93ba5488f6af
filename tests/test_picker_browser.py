"""The picker in a real browser: `pytest -m browser`. Needs playwright and Chromium.

PICKER_SCREENSHOT=docs/picker.png makes the picture of the README anew.
"""

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from picker import disc, opened, write_disc

pytest.importorskip("playwright", reason="needs playwright")

from playwright.sync_api import sync_playwright

from vidmatte.options import MatteOptions
from vidmatte.prompts.files import load_prompts
from vidmatte.web.server import PickerServer

pytestmark = pytest.mark.browser
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
SIZE = (320, 180)
SAMPLE = Path(__file__).parents[1] / "vidmatte" / "sample" / "portrait.mp4"

PIXEL = """([x, y, wide, tall]) => {
  const stage = document.getElementById("stage"), box = stage.getBoundingClientRect();
  const scale = Math.min((box.width - 24) / wide, (box.height - 24) / tall), ratio = stage.width / box.width;
  const at = [(box.width - wide * scale) / 2 + x * scale, (box.height - tall * scale) / 2 + y * scale];
  const data = stage.getContext("2d").getImageData(Math.round(at[0] * ratio), Math.round(at[1] * ratio), 1, 1).data;
  return [...data.slice(0, 3), box.x + at[0], box.y + at[1]];
}"""  # noqa: E501
"""Colour of the fitted stage at a place of the picture, and where that is on the page."""


@pytest.fixture(scope="module")
def chromium():
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
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
        self.page.on(
            "console",
            lambda message: message.type == "error" and self.problems.append(message.text),
        )
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on(
            "request", lambda request: self.hosts.add(request.url.split("/")[2] or request.url[:5])
        )
        self.page.goto(address)
        self.until(lambda: self.evaluate("document.getElementById('clip-name').textContent !== ''"))
        self.until(lambda: sum(self.pixel(self.size[0] / 2, self.size[1] / 2)) > 0)

    def until(self, condition, seconds: float = 30) -> None:
        for _ in range(int(seconds / 0.05)):
            if condition():
                return
            self.page.wait_for_timeout(50)
        raise AssertionError("nothing happened in time")

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
    page.until(lambda: len(session.project.prompts["object"][0].points) == 2)
    page.until(lambda: (page.picture("#stage") != before).any())
    page.click(280, 30, button="right")
    page.page.keyboard.down("Alt")
    page.click(20, 160)
    page.page.keyboard.up("Alt")
    page.until(lambda: len(session.project.prompts["object"][0].points) == 4)
    assert [label for *_, label in session.project.prompts["object"][0].points] == [1, 1, 0, 0]
    assert page.page.locator("#marks li").count() == 4
    page.page.keyboard.press("Control+z")
    page.until(lambda: len(session.project.prompts["object"][0].points) == 3)

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
    page.page.locator("#slider").focus()
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
    page.until(lambda: session.project.prompts["object"][1:] and session.preview.progress[0] > 30)
    page.until(lambda: session.preview.progress[0] == session.preview.progress[1])
    # The frames from half-way to the end, and a few that are mixed; not the whole clip again.
    assert 20 <= session.preview.computed - followed <= 24
    assert "confidence" in page.page.locator("#frame-confidence").inner_text()

    # Run, and watch what was written.
    page.page.get_by_label("clip_matte.mov").uncheck()
    page.page.get_by_label("clip_matte.webm").check()
    page.until(lambda: "clip_matte.webm" in page.page.locator("#command").inner_text())
    page.page.click("#run")
    page.until(lambda: page.page.locator("#run-done").is_visible(), 90)
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
    page.go_to(10)
    page.page.click("#watch")
    video = "document.getElementById('result-video')"
    page.until(lambda: page.evaluate(f"{video}.readyState >= 2 && !{video}.seeking"))
    x, y = (value / size for value, size in zip(disc(10, SIZE)[:2], SIZE, strict=True))

    def seen(selector: str, across: float, down: float) -> tuple[int, ...]:
        picture = page.picture(selector)
        height, width = picture.shape[:2]
        # The frame fits into the middle of its element.
        scale = min(width / SIZE[0], height / SIZE[1])
        wide, tall = scale * SIZE[0], scale * SIZE[1]
        return tuple(
            picture[int((height - tall) / 2 + down * tall), int((width - wide) / 2 + across * wide)]
        )

    page.until(lambda: is_near(seen("#result-video", x, y), (230, 120, 30)))
    # Transparent: the colour behind it.
    assert is_near(seen("#result-video", 0.95, 0.1), (0x2F, 0x7D, 0x4F), 6)
    page.page.evaluate(
        """() => { const input = document.getElementById("result-color"); input.value = "#c02060";
        input.dispatchEvent(new Event("input", { bubbles: true })); }"""
    )
    page.until(lambda: is_near(seen("#result-video", 0.95, 0.1), (0xC0, 0x20, 0x60), 6))
    assert is_near(seen("#result-video", x, y), (230, 120, 30))
    page.until(lambda: seen("#result-alpha", x, y)[0] > 240)
    assert max(seen("#result-alpha", 0.95, 0.1)) < 10
    page.until(lambda: is_near(seen("#result-input", x, y), (230, 120, 30)))
    page.page.click("#play")
    page.until(lambda: page.evaluate(f"!{video}.paused && {video}.currentTime > 0.5"))
    page.page.click("#play")
    page.until(lambda: page.evaluate(f"{video}.paused"))
    page.page.click("#result-close")


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
    page.until(lambda: bool(session.project.prompts))
    assert session.project.prompts["object"][0].points == ((96.5, 90.5, 1),)
    assert abs(96.5 - x) < 1
    assert "Object marked at 96, 90" in page.page.locator("#status").inner_text()
    keys.press("Control+ArrowUp")
    keys.press("Backspace")
    page.until(lambda: len(session.project.prompts["object"][0].points) == 2)
    assert session.project.prompts["object"][0].points[1] == (96.5, 40.5, 0)
    keys.press("b")
    keys.press("Enter")
    keys.press("Control+ArrowDown")
    keys.press("Control+ArrowRight")
    keys.press("Enter")
    page.until(lambda: session.project.prompts["object"][0].box is not None)
    assert session.project.prompts["object"][0].box == (96.5, 40.5, 146.5, 90.5)
    keys.press("s")
    keys.press("]")
    keys.press("Enter")
    keys.press("Shift+ArrowRight")
    keys.press("Enter")
    page.until(lambda: bool(session.project.prompts["object"][0].strokes))
    assert session.project.prompts["object"][0].strokes[0].points == ((146.5, 90.5), (156.5, 90.5))
    keys.press(".")
    assert page.page.input_value("#frame") == "1"
    keys.press("Escape")
    keys.press("ArrowLeft")
    assert page.page.input_value("#frame") == "0"
    keys.press("Shift+ArrowRight")
    keys.press("i")
    page.until(lambda: session.project.start == 10)
    keys.press("2")
    assert page.page.get_attribute("[data-view=overlay]", "aria-checked") == "true"
    keys.press("ArrowRight")
    assert page.page.input_value("#frame") == "11"
    keys.press("?")
    assert page.page.locator("#help").is_visible()
    keys.press("Escape")
    page.page.locator("[data-view=overlay]").focus()
    keys.press("ArrowRight")
    assert page.page.get_attribute("[data-view=alpha]", "aria-checked") == "true"


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
    page.until(lambda: bool(session.project.prompts))
    box = session.project.prompts["object"][0].box
    wanted = (x - radius - 6, y - radius - 6, x + radius + 6, y + radius + 6)
    assert np.abs(np.subtract(box, wanted)).max() <= 1
    page.page.click("[data-tool=brush]")
    page.page.locator("#brush").fill("12")
    page.drag((x - 10, y), (x + 10, y), (x + 10, y + 8))
    page.until(lambda: bool(session.project.prompts["object"][0].strokes))
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
    page.until(lambda: 5 not in session.project.objects[0].prompts)


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
    page.until(lambda: len(session.project.objects) == 2)
    page.page.locator("#objects input[type=text]").nth(1).fill("sky")
    page.page.keyboard.press("Tab")
    page.until(lambda: session.project.objects[1].name == "sky")
    page.click(290, 20)
    page.until(lambda: len(session.project.prompts) == 2)
    assert set(session.project.prompts) == {"object", "sky"}
    page.until(lambda: "{object}" in page.page.locator("#command").inner_text())
    page.page.get_by_label("Name of sky").fill("object")
    page.page.keyboard.press("Tab")
    page.until(lambda: "two objects" in page.page.locator("#status").inner_text())
    assert session.project.objects[1].name == "sky"
    page.page.get_by_label("Remove sky").click()
    page.until(lambda: len(session.project.objects) == 1)
    page.problems.clear()  # the browser notes the refusal in its console


def test_fingers_mark_move_and_zoom(chromium, session):
    with PickerServer(session) as server:
        context = chromium.new_context(viewport={"width": 1100, "height": 750}, has_touch=True)
        page = Page(context, server)
        x, y, _ = disc(0, SIZE)
        page.page.touchscreen.tap(*page.place(x, y))
        page.until(lambda: bool(session.project.prompts))
        assert (
            np.abs(np.subtract(session.project.prompts["object"][0].points[0][:2], (x, y))).max()
            <= 1
        )
        page.page.tap("[data-label='0']")
        page.page.touchscreen.tap(*page.place(300, 20))
        page.until(lambda: len(session.project.prompts["object"][0].points) == 2)
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
    page.until(lambda: session.run is not None)
    page.page.close()
    session.run.wait(90)
    assert session.run.progress.state == "done"
    page.open(f"http://127.0.0.1:{page.server.port}/")
    page.until(lambda: page.page.locator("#run-done").is_visible())
    assert "30 frames" in page.page.locator("#run-summary").inner_text()


def test_done_ends_the_picker(page, session):
    page.page.click("#end")
    page.until(session.ended.is_set)
    page.until(lambda: page.page.locator("#ended").is_visible())


def test_the_picture_of_the_readme(chromium, tmp_path):
    """The sample clip, marked, previewed and corrected; saved where PICKER_SCREENSHOT says."""
    target = Path(os.environ.get("PICKER_SCREENSHOT") or tmp_path / "picker.png")
    clip = shutil.copy(SAMPLE, tmp_path / "portrait.mp4")
    with (
        opened(Path(clip), options=MatteOptions(device="cpu")) as session,
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
        page.until(lambda: session.preview.progress == (100, 100), 120)
        page.go_to(0)
        page.until(
            lambda: page.pixel(560, 420) != (0, 0, 0) and page.page.locator("#busy").is_hidden()
        )
        page.page.wait_for_timeout(1500)
        page.page.mouse.click(300, 12)  # beside everything: the focus is left
        page.page.screenshot(path=target)
        context.close()
    assert target.stat().st_size > 200_000
