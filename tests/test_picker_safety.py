"""Attempts to get into the picker: all fail, and what is let in can be counted on one hand."""

import contextlib
import json
import socket
import struct
import sys
import time
import zlib
from contextlib import ExitStack, suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
from picker import QUICK, Browser, on_disc, opened, write_disc

from vidmatte.errors import ReadError, WriteError
from vidmatte.web.app import create_app
from vidmatte.web.guard import LARGEST_BODY, Guard
from vidmatte.web.protocol import PatientProtocol
from vidmatte.web.server import PickerServer, pick
from vidmatte.web.session import PickerConfig


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("safe")
    (folder / "secret.txt").write_text("secret")
    with (
        opened(write_disc(folder / "clip.mp4", frames=6)) as session,
        PickerServer(session) as server,
    ):
        server.session = session
        browser = Browser(server)
        assert browser.visit() == 200
        server.cookie = browser.cookie
        yield server


@pytest.fixture
def browser(server):
    browser = Browser(server)
    browser.cookie = server.cookie
    return browser


def test_the_page_comes_with_a_strict_policy_and_asks_no_other_host(browser):
    status, headers, body = browser.send("GET", "/")
    assert status == 200
    assert b"<title>vidmatte</title>" in body
    policy = dict(
        part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in headers["content-security-policy"]
    assert "http" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"


def test_the_cookie_is_for_this_site_and_not_for_scripts(server):
    # The token was used up by the fixture: this server gives nobody a second cookie.
    assert Browser(server).visit() == 403


def test_the_cookie_has_its_flags(tmp_path):
    with (
        opened(write_disc(tmp_path / "clip.mp4", frames=2)) as session,
        PickerServer(session) as server,
    ):
        _, headers, body = Browser(server).send("GET", "/?" + server.address.partition("?")[2])
        flags = headers["set-cookie"].lower()
        assert "httponly" in flags
        assert "samesite=strict" in flags
        assert b"url=/" in body


@pytest.mark.parametrize("other", ['foo={"a":1}', "foo[bar]=1", "a b"])
def test_cookies_of_other_servers_of_this_machine_lock_nobody_out(browser, other):
    status, _, _ = browser.send("GET", "/api/state", cookie=f"{other}; {browser.cookie}")
    assert status == 200


@pytest.mark.parametrize(
    "path", ["/", "/api/state", "/api/frame/0", "/static/main.js", "/api/file/0"]
)
@pytest.mark.parametrize(
    "cookie", [None, "vidmatte=guess", "vidmatte_1=guess; other=1", ";;;", "vidmatte\x7f=\x80"]
)
def test_without_the_cookie_there_is_nothing(browser, path, cookie):
    status, _, body = browser.send("GET", path, cookie=cookie)
    assert status == 403
    assert b"vidmatte" in body


@pytest.mark.parametrize("token", ["", "guess", "%00", "a" * 5000, "%F0%9F%98%80"])
def test_a_wrong_token_opens_nothing(tmp_path, server, token):
    status, headers, _ = Browser(server).send("GET", f"/?token={token}")
    assert status == 403
    assert "set-cookie" not in headers


OTHER_HOSTS = [
    "evil.example",
    "evil.example:80",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "",
    "192.168.1.4",
    "[::2]",
    "[::1",
    "a@b:c",
]


@pytest.mark.parametrize("host", OTHER_HOSTS)
def test_another_host_is_refused_even_with_the_cookie(browser, host):
    for method in ("GET", "POST"):
        assert browser.send(method, "/api/state", host=host, origin=f"http://{host}")[0] == 403


def test_a_forwarded_port_and_other_names_of_this_machine_are_fine(browser):
    for host in ("localhost:9999", "127.0.0.1", "[::1]:4000", "LOCALHOST"):
        assert browser.send("GET", "/api/state", host=host)[0] == 200


def test_a_server_for_the_network_is_reached_by_numbers_and_its_own_name_only(tmp_path):
    with opened(write_disc(tmp_path / "clip.mp4", frames=2)) as session:
        with PickerServer(session, host="0.0.0.0") as server:
            browser = Browser(server)
            assert browser.visit() == 200
            for host, status in (
                ("192.168.1.4:80", 200),
                ("[fe80::1]", 200),
                ("localhost", 200),
                ("evil.example", 403),
            ):
                assert browser.send("GET", "/api/state", host=host)[0] == status
        guard = Guard(create_app(session), token="t", host="workstation.example")
        scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"token=t"}
        for host, status in ((b"evil.example", 403), (b"workstation.example:8000", 200)):
            assert guard._answer({**scope, "headers": [(b"host", host)]}).status_code == status


def test_no_host_or_two_of_them_are_refused(browser):
    assert browser.send("GET", "/api/state", host=None)[0] in (400, 403)
    request = (
        f"GET /api/state HTTP/1.1\r\nHost: {browser.host}\r\nHost: evil.example\r\n"
        f"Cookie: {browser.cookie}\r\nConnection: close\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", browser.server.port), timeout=10) as connection:
        connection.sendall(request.encode())
        assert connection.recv(100).split()[1] in (b"400", b"403")


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": None},
        {"origin": "null"},
        {"origin": "http://["},
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:1"},
        {"origin": "http://evil.example", "sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "cross-site"},
    ],
)
def test_posts_from_other_pages_change_nothing(browser, headers):
    before = browser.get("/api/state")["version"]
    status, _, _ = browser.send("POST", "/api/edit", json.dumps(on_disc()).encode(), **headers)
    assert status == 403
    assert browser.send("POST", "/api/end", b"", **headers)[0] == 403
    assert browser.get("/api/state")["version"] == before
    assert not browser.server.session.ended.is_set()


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e/%2e%2e/prompt.py",
        "/static/..%5c..%5capp.py",
        "/static/%2fetc%2fpasswd",
        "//etc/passwd",
        "/../../../../etc/passwd",
        "/static/main.js%00.html",
        "/static/",
        "/api/file/../../secret.txt",
        "/api/file/secret.txt",
        "/api/file/%2e%2e%2fsecret.txt",
        "/api/file/-1",
        "/api/file/0",
        "/api/result/0/0",
        "/api/frame/../../secret.txt",
        "/api/frame/-1",
        "/api/frame/6",
        "/api/frame/" + "9" * 400,
        "/secret.txt",
        "/api",
    ],
)
def test_no_path_leads_to_a_file(browser, path):
    status, _, body = browser.send("GET", path)
    assert status in (400, 404, 405), body
    assert b"secret" not in body
    assert b"root:" not in body
    assert b"import" not in body


def test_a_gigabyte_is_refused_before_it_is_sent(browser):
    for path in ("/api/edit", "/api/mask/1/0", "/nowhere"):
        assert browser.send("POST", path, content_length=str(1 << 30))[0] == 413


@pytest.mark.parametrize("length", ["-1", "1e3", "0x10", "9" * 40, " "])
def test_a_length_that_is_none_is_refused(browser, length):
    assert browser.send("POST", "/api/edit", content_length=length)[0] in (400, 413)


@pytest.mark.parametrize(
    ("path", "limit"), [("/api/edit", 1 << 20), ("/api/mask/1/0", LARGEST_BODY)]
)
def test_a_gigabyte_in_pieces_is_cut_off(browser, path, limit):
    """What comes without a length is counted, and no more than the limit is taken."""
    start = (
        f"POST {path} HTTP/1.1\r\nHost: {browser.host}\r\nOrigin: http://{browser.host}\r\n"
        f"Cookie: {browser.cookie}\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    piece = b"%x\r\n" % (1 << 20) + bytes(1 << 20) + b"\r\n"
    sent, answer = 0, b""
    with socket.create_connection(("127.0.0.1", browser.server.port), timeout=20) as connection:
        connection.sendall(start.encode())
        try:
            while sent < 1 << 30:
                connection.sendall(piece)
                sent += 1 << 20
                connection.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    answer = connection.recv(200)
                connection.setblocking(True)
                if answer:
                    break
        except OSError:
            pass  # closed while we were sending
        if not answer:
            answer = connection.recv(200)
    assert answer.split()[1] == b"413"
    assert sent <= limit + (16 << 20)


NOT_JSON = [
    b"",
    b"{",
    b"[1, 2]",
    b"null",
    b'"text"',
    b"\xff\xfe",
    b'{"op": NaN}',
    b'{"op": Infinity}',
    b"[" * 200_000,
    b'{"a": ' * 100_000,
    b'{"x": ' + b"9" * 10_000 + b"}",
    b"__import__('os').system('true')",
]


@pytest.mark.parametrize("body", NOT_JSON, ids=range(len(NOT_JSON)))
@pytest.mark.parametrize("path", ["/api/edit", "/api/choices", "/api/preview"])
def test_what_is_no_json_object_is_refused(browser, path, body):
    assert browser.send("POST", path, body)[0] == 400


EDITS = [
    {},
    {"op": None},
    {"op": "__class__"},
    {"op": ["add_point"]},
    {"op": {"a": 1}},
    on_disc(frame=0) | {"frame": "0"},
    on_disc() | {"frame": True},
    on_disc() | {"frame": -1},
    on_disc() | {"frame": 6},
    on_disc() | {"frame": 1e300},
    on_disc() | {"x": 1e300},
    on_disc() | {"x": "5"},
    on_disc() | {"x": -1},
    on_disc() | {"x": 160},
    on_disc() | {"y": None},
    on_disc() | {"label": 7},
    on_disc() | {"label": True},
    on_disc() | {"object": 99},
    on_disc() | {"object": "1"},
    {"op": "add_stroke", "object": 1, "frame": 0, "points": [[1, 1]] * 5000, "width": 4},
    {"op": "add_stroke", "object": 1, "frame": 0, "points": [], "width": 4},
    {"op": "add_stroke", "object": 1, "frame": 0, "points": [[1]], "width": 4},
    {"op": "add_stroke", "object": 1, "frame": 0, "points": "ab", "width": 4},
    {"op": "add_stroke", "object": 1, "frame": 0, "points": [[1, 1]], "width": 0},
    {"op": "add_stroke", "object": 1, "frame": 0, "points": [[1, 1]], "width": -3},
    {"op": "set_box", "object": 1, "frame": 0, "box": [1, 2, 3]},
    {"op": "set_box", "object": 1, "frame": 0, "box": [5, 5, 5, 9]},
    {"op": "change_object", "object": 1, "name": ""},
    {"op": "change_object", "object": 1, "name": "a\nb"},
    {"op": "change_object", "object": 1, "name": "a" * 61},
    {"op": "change_object", "object": 1, "name": 5},
    {"op": "change_object", "object": 1, "color": "red; background: url(http://evil.example)"},
    {"op": "remove_prompt", "object": 1, "frame": 0, "kind": "frame", "index": 0},
    {"op": "set_range", "start": 4, "end": 2},
]


@pytest.mark.parametrize("edit", EDITS, ids=range(len(EDITS)))
def test_edits_that_are_none_are_refused_in_words(browser, edit):
    before = browser.get("/api/state")
    status, answer = browser.post("/api/edit", edit)
    assert status == 422
    assert answer["error"]
    assert "Traceback" not in answer["error"]
    assert browser.get("/api/state")["version"] == before["version"]


CHOICES = [
    {"outputs": ["/etc/passwd"]},
    {"outputs": [99]},
    {"outputs": "0"},
    {"outputs": [-1]},
    {"adapt_steps": -5},
    {"adapt_steps": 10**9},
    {"folder": "/no/such/folder"},
    {"folder": 3},
    {"folder": "x" * 9000},
    {"folder": "a\0b"},
    {"name": "../clip"},
    {"name": "a/b"},
    {"name": ""},
    {"name": "shot.%04d"},
    {"name": "####"},
    {"name": ".hidden"},
    {"name": "{name}"},
    {"name": "a\nb"},
    {"name": "x" * 101},
]
EDGES = [
    {"smooth": 7},
    {"smooth": "1"},
    {"grow": None},
    {"grow": True},
    {"invert": 1},
    {"clip_black": 0.5, "clip_white": 0.4},
    {"despill": "red"},
    {"despill_strength": 2},
    {"inside_mask": "/etc/passwd"},
    {"fill_holes": -1},
]


@pytest.mark.parametrize("asked", CHOICES)
def test_a_page_names_no_paths_and_no_strange_numbers(browser, asked):
    status, answer = browser.post("/api/choices", asked)
    assert status == 409
    assert answer["error"]


@pytest.mark.parametrize("asked", EDGES)
def test_an_edge_that_is_none_is_refused(browser, asked):
    before = browser.get("/api/state")
    status, answer = browser.post("/api/edge", asked)
    assert status == 409
    assert answer["error"]
    assert browser.get("/api/state") == before


@pytest.mark.parametrize(
    "path",
    [
        "/api/frame/" + "9" * 5000,
        "/api/alpha/1/" + "9" * 5000,
        "/api/alpha/" + "9" * 5000 + "/0",
        "/api/result/0/" + "9" * 5000,
        "/api/frame/0?longest=" + "9" * 5000,
        "/api/alpha/1/0?edge=" + "9" * 5000,
        "/api/timecodes/999999999",
        "/api/save/still/1/0",
        "/api/save/other/1/0",
        "/api/proxy/other/1/0",
    ],
)
def test_numbers_and_kinds_that_are_none_are_refused(browser, path):
    assert 400 <= browser.send("GET", path)[0] < 500


@pytest.mark.parametrize("path", ["/api/edit", "/api/edge", "/api/choices", "/api/preview"])
@pytest.mark.parametrize("number", ["1e400", "-1e400", "NaN", "9" * 5000])
def test_numbers_beyond_all_bounds_are_refused(browser, path, number):
    body = f'{{"op": "add_point", "object": 1, "frame": 0, "x": {number}, "y": 1, "grow": {number}, "way": {number}, "adapt_steps": {number}}}'  # noqa: E501
    assert 400 <= browser.send("POST", path, body.encode())[0] < 500


def test_a_fresh_address_lets_another_browser_in_and_ends_the_old_address(tmp_path):
    clip = write_disc(tmp_path / "clip.mp4", frames=2)
    with opened(clip) as session, PickerServer(session) as server:
        first, second, third = Browser(server), Browser(server), Browser(server)
        old = server.address
        assert first.visit() == 200
        assert second.visit() == 403
        fresh = server.renew()
        assert fresh != old
        assert second.visit() == 200
        assert third.visit() == 403
        # Both browsers stay in: the run that one of them started is not lost.
        assert first.get("/api/clip") == second.get("/api/clip")


def test_connections_that_say_nothing_do_not_keep_the_page_waiting(tmp_path, monkeypatch):
    monkeypatch.setattr(PatientProtocol, "header_seconds", 0.5)
    clip = write_disc(tmp_path / "clip.mp4", frames=2)
    with opened(clip) as session, PickerServer(session) as server, ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            for _ in range(150)
        ]
        for number, connection in enumerate(silent):
            if number % 2:
                with suppress(OSError):  # the oldest ones were closed already
                    connection.sendall(b"GET / HTTP/1.1\r\nHost: 127")
        browser = Browser(server)
        assert browser.visit() == 200
        assert browser.send("GET", "/")[0] == 200
        for connection in silent:
            connection.settimeout(20)
            with suppress(ConnectionError):
                assert connection.recv(1) == b""


def test_a_header_that_trickles_in_is_cut_off(tmp_path, monkeypatch):
    monkeypatch.setattr(PatientProtocol, "header_seconds", 0.5)
    clip = write_disc(tmp_path / "clip.mp4", frames=2)
    with opened(clip) as session, PickerServer(session) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            is_cut = False
            for _ in range(200):
                try:
                    connection.sendall(b"x")
                except OSError:
                    is_cut = True
                    break
                time.sleep(0.1)
            assert is_cut
        assert Browser(server).visit() == 200


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_link_in_place_of_the_masks_is_not_followed(tmp_path):
    clip = write_disc(tmp_path / "clip.mp4", frames=2)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "clip.masks").symlink_to(elsewhere)
    mask = cv2.imencode(".png", np.full((96, 160), 255, np.uint8))[1].tobytes()
    with opened(clip) as session, pytest.raises(WriteError, match="link to another folder"):
        session.load_mask(1, 0, mask)
    assert list(elsewhere.iterdir()) == []


def test_a_deleted_clip_is_named_as_such(tmp_path):
    clip = write_disc(tmp_path / "clip.mp4", frames=40)
    with opened(clip) as session:
        session.frame_cache.wait()
        clip.unlink()
        with pytest.raises(ReadError, match="was deleted or moved"):
            session.frame_cache.jpeg(20)


def test_the_address_is_not_in_the_arguments_of_the_browser(tmp_path, monkeypatch):
    opened_with = []

    def look(address):
        path = Path(address.removeprefix("file://"))
        opened_with.append((address, path.read_text(), path.stat().st_mode & 0o777))

    monkeypatch.setattr("webbrowser.open", look)
    monkeypatch.setattr("vidmatte.web.server._has_screen", lambda: True)
    monkeypatch.setattr("vidmatte.web.server._wait", lambda session, on_enter: None)
    addresses = []
    clip = write_disc(tmp_path / "clip.mp4", frames=2)
    pick(PickerConfig(clip, options=QUICK), on_address=addresses.append)
    (given, page, mode) = opened_with[0]
    token = addresses[0].partition("token=")[2]
    assert token not in given
    assert token in page
    assert mode == 0o600 or sys.platform == "win32"


def png(width: int, height: int, data: bytes = b"") -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(data))
        + chunk(b"IEND", b"")
    )


BOMBS = [
    png(1_000_000, 1_000_000),
    png(30_000, 30_000, bytes(1 << 20)),
    png(0, 0),
    png(160, 96),
    png(159, 96, bytes(160 * 96)),
    b"",
    b"\x89PNG\r\n\x1a\n",
    b"GIF89a" + bytes(100),
    b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    bytes(1000),
]


@pytest.mark.parametrize("bomb", BOMBS, ids=range(len(BOMBS)))
def test_masks_that_are_none_or_bombs_are_refused_and_leave_nothing(browser, bomb):
    before = browser.get("/api/state")["version"]
    status, _, body = browser.send("POST", "/api/mask/1/0", bomb)
    assert status == 422, body
    assert json.loads(body)["error"]
    assert browser.get("/api/state")["version"] == before
    assert not list(browser.server.session.store.path.parent.glob("**/*.png"))


def test_a_mask_of_the_frames_size_is_taken(browser):
    picture = b"".join(
        b"\0" + bytes([255 if 40 < x < 90 else 0 for x in range(160)]) for _ in range(96)
    )
    status, _, body = browser.send("POST", "/api/mask/1/0", png(160, 96, picture))
    assert status == 200, body
    assert json.loads(body)["objects"][0]["frames"]["0"]["mask"].endswith(".png")
    assert browser.post("/api/undo")[0] == 200


def test_methods_that_are_not_meant_are_refused(browser):
    assert browser.send("GET", "/api/edit")[0] == 405
    assert browser.send("DELETE", "/api/state", b"")[0] == 405
    assert browser.send("PUT", "/static/main.js", b"x")[0] == 405
