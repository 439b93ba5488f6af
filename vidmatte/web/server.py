"""The picker's server: bind a port, make an address with a token, open a browser."""

from __future__ import annotations

import os
import secrets
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import uvicorn

from vidmatte.errors import OptionError, VidmatteError
from vidmatte.report.summary import Summary
from vidmatte.web.app import create_app, create_chooser_app
from vidmatte.web.choose import Chooser
from vidmatte.web.guard import Guard
from vidmatte.web.protocol import PatientProtocol
from vidmatte.web.session import PickerConfig, Session
from vidmatte.web.terminal import was_enter_pressed

_SHUTDOWN_SECONDS = 2


class PickerServer:
    """Serve one session, or the choice of a clip, in a thread. Use it in a `with` statement."""

    def __init__(
        self, session: Session | Chooser, *, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self._socket = bound(host, port, "the picker")
        self.port = int(self._socket.getsockname()[1])
        token = secrets.token_urlsafe(32)
        app = create_chooser_app(session) if isinstance(session, Chooser) else create_app(session)
        self._guard = Guard(app, token=token, host=host, cookie=f"vidmatte_{self.port}")
        self._origin = origin_of(host, self.port)
        self.address = self._address_with(token)
        """Opens the page once, in one browser."""
        self._server = quiet_server(self._guard, shutdown_seconds=_SHUTDOWN_SECONDS)
        self._thread = threading.Thread(target=self._serve, name="vidmatte-server", daemon=True)

    def show(self, session: Session) -> None:
        """Serve this session from now on, in place of the choice of a clip."""
        self._guard.app = create_app(session)

    def renew(self) -> str:
        """Return a fresh address for one more visit; the one before opens nothing any more."""
        self.address = self._address_with(self._guard.renew())
        return self.address

    def _address_with(self, token: str) -> str:
        return f"{self._origin}/?token={token}"

    def __enter__(self) -> PickerServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        self._server.run(sockets=[self._socket])


def pick(
    config: PickerConfig,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    opens_browser: bool = True,
    on_address: Callable[[str], None] = lambda address: None,
) -> Summary | None:
    """Open the picker for a clip, and wait until the page says that it is done.

    Args:
        config: the clip, prompt file and options; without a clip the page asks for one.
        host: address to listen at.
        port: port to listen at; 0 takes a free one.
        opens_browser: open the page in the system's browser, if there is a screen.
        on_address: told the address of the page, and a fresh one whenever Enter is pressed.

    Returns:
        The summary of the last complete run, None if there was none.

    Raises:
        VidmatteError: the clip, model or prompt file cannot be used, or the port is taken.
    """
    opened = Chooser(Path()) if config.source is None else Session(config)
    with ExitStack() as stack:
        if isinstance(opened, Session):
            stack.callback(opened.close)
        server = stack.enter_context(PickerServer(opened, host=host, port=port))
        on_address(server.address)
        folder = stack.enter_context(TemporaryDirectory(prefix="vidmatte-"))
        if opens_browser and _has_screen():
            webbrowser.open(_file_leading_to(server.address, Path(folder)).as_uri())
        if isinstance(opened, Chooser):
            chosen = _chosen(opened, config, lambda: on_address(server.renew()))
            if chosen is None:
                return None
            # Closed after the server, which still answers.
            with ExitStack() as later:
                later.callback(chosen.close)
                server.show(chosen)
                _wait(chosen, lambda: on_address(server.renew()))
                return chosen.runs.summary
        _wait(opened, lambda: on_address(server.renew()))
        return opened.runs.summary


def _wait(session: Session, on_enter: Callable[[], None]) -> None:
    """Wait for the end of a session."""
    # On Windows a wait without a limit cannot be interrupted.
    while not session.ended.wait(0.5):
        if was_enter_pressed():
            on_enter()


def _chosen(chooser: Chooser, config: PickerConfig, on_enter: Callable[[], None]) -> Session | None:
    """Wait until the page has chosen a clip that can be opened; None if it ended before."""
    while not chooser.ended.is_set():
        source = chooser.wait(0.5)
        if was_enter_pressed():
            on_enter()
        if source is None:
            continue
        try:
            return Session(replace(config, source=source))
        except VidmatteError as error:
            chooser.refuse(str(error))
    return None


def _file_leading_to(address: str, folder: Path) -> Path:
    """Return a page that only this user can read and that opens an address.

    Arguments of programs, such as a browser, can be seen by all users of a machine.
    """
    path = folder / "picker.html"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(
            '<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>vidmatte</title>'
            f'<meta http-equiv="refresh" content="0;url={escape(address)}">'
            f'<p><a href="{escape(address)}">Open the picker</a></p></html>'
        )
    return path


def origin_of(host: str, port: int) -> str:
    """Return the beginning of an address at which a server that listens to `host` is reached."""
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}"


def quiet_server(app: Any, *, shutdown_seconds: int) -> uvicorn.Server:
    """Return a server of an ASGI application that logs nothing and bears slow clients.

    Args:
        app: the application.
        shutdown_seconds: how long requests may go on when it is closed.
    """
    config = uvicorn.Config(
        app,
        http=PatientProtocol,
        log_level="critical",
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=shutdown_seconds,
    )
    return uvicorn.Server(config)


def bound(host: str, port: int, what: str) -> socket.socket:
    """Return a socket that listens. Raises OptionError, which says what cannot listen."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # IPPROTO_TCP, not 0: asyncio sets TCP_NODELAY only on sockets that declare TCP.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen()
    except (OSError, OverflowError) as error:
        listening.close()
        raise OptionError(
            f"{what} cannot listen at {host}, port {port} ({error}); choose another --port"
        ) from error
    return listening


def _has_screen() -> bool:
    """Tell whether a graphical browser can run; one in the terminal would use up the token."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
