"""The picker's server: a free port of this machine, an address with a token, a browser."""

from __future__ import annotations

import os
import secrets
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable

import uvicorn

from vidmatte.errors import OptionError
from vidmatte.report.summary import Summary
from vidmatte.web.app import create_app
from vidmatte.web.guard import Guard
from vidmatte.web.session import PickerConfig, Session

_SHUTDOWN_SECONDS = 2


class PickerServer:
    """Serves one session in a thread; to be used in a `with` statement."""

    def __init__(self, session: Session, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._socket = _bound(host, port)
        self.port = int(self._socket.getsockname()[1])
        token = secrets.token_urlsafe(32)
        guard = Guard(create_app(session), token=token, host=host, cookie=f"vidmatte_{self.port}")
        shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
        self.address = f"http://{f'[{shown}]' if ':' in shown else shown}:{self.port}/?token={token}"
        """Opens the page once, in one browser."""
        config = uvicorn.Config(
            guard,
            log_level="critical",
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._serve, name="vidmatte-server", daemon=True)

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

    `on_address` is told the address of the page. Returns what the last complete run did; None where there was none.

    Raises a VidmatteError for a clip, a model or a prompt file that cannot be used, and for a port that is taken.
    """
    session = Session(config)
    try:
        with PickerServer(session, host=host, port=port) as server:
            on_address(server.address)
            if opens_browser and _has_screen():
                webbrowser.open(server.address)
            # Without a limit the wait could not be interrupted everywhere.
            while not session.ended.wait(0.5):
                pass
            return session.summary
    finally:
        session.close()


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named, not 0: asyncio sends small answers at once only on sockets that say that they are TCP.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen()
    except (OSError, OverflowError) as error:
        listening.close()
        raise OptionError(f"the picker cannot listen at {host}, port {port} ({error}); choose another one") from error
    return listening


def _has_screen() -> bool:
    """Whether a browser with windows can be there: one in the terminal would use the address up."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
