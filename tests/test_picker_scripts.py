"""The scripts of the picker agree with its page; `make check-js` checks their types."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import vidmatte

STATIC = Path(vidmatte.__file__).parent / "web" / "static"
SCRIPTS = sorted(STATIC.glob("*.js"))
TAGS = {
    "HTMLAnchorElement": "a",
    "HTMLButtonElement": "button",
    "HTMLCanvasElement": "canvas",
    "HTMLDetailsElement": "details",
    "HTMLDialogElement": "dialog",
    "HTMLInputElement": "input",
    "HTMLOutputElement": "output",
    "HTMLProgressElement": "progress",
    "HTMLSelectElement": "select",
}


class Ids(HTMLParser):
    """Tags of the elements with an id."""

    def __init__(self):
        super().__init__()
        self.tags = {}

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name == "id":
                self.tags[value] = tag


@pytest.fixture(scope="module")
def page():
    parser = Ids()
    parser.feed((STATIC / "index.html").read_text(encoding="utf-8"))
    return parser.tags


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_types_are_checked(script):
    text = script.read_text(encoding="utf-8")
    assert text.startswith("// @ts-check\n")
    assert "@ts-ignore" not in text
    assert "@ts-nocheck" not in text


def test_types_of_elements_are_those_of_the_page(page):
    declared = dict(
        re.findall(
            r'^ \*   "([\w-]+)": (\w+),$', (STATIC / "model.js").read_text(encoding="utf-8"), re.M
        )
    )
    assert {name: TAGS[kind] for name, kind in declared.items()} == {
        name: tag for name, tag in page.items() if tag in TAGS.values()
    }


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_elements_that_are_asked_for_exist(script, page):
    asked = set(re.findall(r'byId\("([\w-]+)"\)', script.read_text(encoding="utf-8")))
    assert asked <= set(page)
