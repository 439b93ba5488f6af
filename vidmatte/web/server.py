"""The picker's server: bind a port, make an address with a token, open a browser."""

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
    """Serve one session in a thread. Use it in a `with` statement."""

    def __init__(self, session: Session, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._socket = _bound(host, port)
        self.port = int(self._socket.getsockname()[1])
        token = secrets.token_urlsafe(32)
        guard = Guard(create_app(session), token=token, host=host, cookie=f"vidmatte_{self.port}")
        shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
        self.address = (
            f"http://{f'[{shown}]' if ':' in shown else shown}:{self.port}/?token={token}"
        )
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

    Args:
        config: the clip, prompt file and options.
        host: address to listen at.
        port: port to listen at; 0 takes a free one.
        opens_browser: open the page in the system's browser, if there is a screen.
        on_address: told the address of the page.

    Returns:
        The summary of the last complete run, None if there was none.

    Raises:
        VidmatteError: the clip, model or prompt file cannot be used, or the port is taken.
    """
    session = Session(config)
    try:
        with PickerServer(session, host=host, port=port) as server:
            on_address(server.address)
            if opens_browser and _has_screen():
                webbrowser.open(server.address)
            # On Windows a wait without a limit cannot be interrupted.
            while not session.ended.wait(0.5):
                pass
            return session.summary
    finally:
        session.close()


def _bound(host: str, port: int) -> socket.socket:
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
            f"the picker cannot listen at {host}, port {port} ({error}); choose another --port"
        ) from error
    return listening


def _has_screen() -> bool:
    """Tell whether a graphical browser can run; one in the terminal would use up the token."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
