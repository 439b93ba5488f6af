"""Access control of the picker: only a browser that opened its address, from the picker's own page.

Pages elsewhere cannot reach the picker. Their posts have another Origin; a name of their own that
resolves to this machine (DNS rebinding) has another Host; and they have no cookie. The address
holds a token for one visit, which sets the browser's cookie. An address read in a history, a log or
over a shoulder opens nothing.
"""

from __future__ import annotations

import ipaddress
import secrets
from urllib.parse import SplitResult, parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import cookie_parser
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LARGEST_BODY = 64 << 20
"""Largest body in bytes, which a mask may have; anything else is limited further in `app`."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_WELCOME = (
    '<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>vidmatte</title>'
    '<link rel="icon" href="/static/icon.svg" type="image/svg+xml">'
    '<meta http-equiv="refresh" content="0;url=/"><p><a href="/">Open the picker</a></p></html>'
)
"""Leads to the page itself, from the picker's own site."""
_CHANGING = ("POST", "PUT", "PATCH", "DELETE")
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; media-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}


class Guard:
    """ASGI middleware that refuses requests from other pages, and bodies that are too large."""

    def __init__(
        self, app: ASGIApp, *, token: str, host: str = "127.0.0.1", cookie: str = "vidmatte"
    ) -> None:
        self.app = app
        """What answers the requests that pass; may be replaced."""
        self._host = host.strip("[]")
        self._cookie = cookie
        self._token: str | None = token
        self._session = secrets.token_urlsafe(32)

    def renew(self) -> str:
        """Return a new token for one more visit; the one before opens nothing any more."""
        self._token = secrets.token_urlsafe(32)
        return self._token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request or pass it on."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            # Nothing here speaks WebSocket.
            return
        with_headers = _adding(_HEADERS, send)
        answer = self._answer(scope)
        if answer is not None:
            await answer(scope, receive, with_headers)
            return
        await self.app(scope, _limited(receive), with_headers)

    def _answer(self, scope: Scope) -> Response | None:
        """Return the answer to a request that must not pass, None for one that may."""
        headers = Headers(scope=scope)
        if len(headers.getlist("host")) != 1 or not self._is_own_host(headers["host"]):
            return _refused(403, "this address is not the picker's; use the one that it printed")
        if scope["method"] in _CHANGING and not _is_same_origin(headers):
            return _refused(403, "only the picker's own page can change anything")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length[:20]) > LARGEST_BODY:
            return _refused(413, f"more than {LARGEST_BODY >> 20} MB were sent")
        if self._has_cookie(headers):
            return None
        return self._admit(scope)

    def _is_own_host(self, host: str) -> bool:
        name = _split(f"//{host}").hostname or ""
        if name in _LOOPBACK or name == self._host.lower():
            return True
        # The user asked to listen to the network. Rebinding needs a name, so addresses are safe.
        return self._host not in _LOOPBACK and _is_number(name)

    def _has_cookie(self, headers: Headers) -> bool:
        # Cookies are shared by all ports of a host: other servers may have put anything there.
        given = cookie_parser(headers.get("cookie", "")).get(self._cookie, "")
        return secrets.compare_digest(given.encode(), self._session.encode())

    def _admit(self, scope: Scope) -> Response:
        """Set the cookie in exchange for the token, once; refuse anything else."""
        query = parse_qs(scope["query_string"].decode("latin-1"))
        given = query.get("token", [""])[0]
        is_right = self._token is not None and secrets.compare_digest(
            given.encode(), self._token.encode()
        )
        if scope["method"] != "GET" or scope["path"] != "/" or not is_right:
            return _refused(
                403,
                "This page opens with the address that vidmatte printed, once and in one browser. "
                "To open it again, press Enter in the terminal of vidmatte: it prints a fresh "
                "address.",
            )
        self._token = None
        # Not a redirect: after one that began in a file, browsers hold back the cookie.
        answer = HTMLResponse(_WELCOME)
        answer.set_cookie(self._cookie, self._session, httponly=True, samesite="strict")
        return answer


def _is_same_origin(headers: Headers) -> bool:
    """Tell whether the browser says that the sending page is the picker's own."""
    origin = _split(headers.get("origin", ""))
    if headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return False
    return origin.scheme in ("http", "https") and origin.netloc == headers["host"]


def _split(address: str) -> SplitResult:
    """Return the parts of a URL; empty parts if it is invalid."""
    try:
        return urlsplit(address)
    except ValueError:
        return urlsplit("")


def _is_number(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _limited(receive: Receive) -> Receive:
    """Limit the body also if its length is not declared."""
    total = 0

    async def counted() -> Message:
        nonlocal total
        message = await receive()
        total += len(message.get("body", b""))
        if total > LARGEST_BODY:
            raise HTTPException(413, f"more than {LARGEST_BODY >> 20} MB were sent")
        return message

    return counted


def _adding(headers: dict[str, str], send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            present = MutableHeaders(scope=message)
            for name, value in headers.items():
                present[name] = value
        await send(message)

    return sending


def _refused(status: int, why: str) -> Response:
    return PlainTextResponse(why, status_code=status)
