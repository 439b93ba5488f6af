"""HTTP connections of the picker: those that keep it waiting are closed."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.h11_impl import H11Protocol

_HEADER_SECONDS = 10.0
"""For a request to arrive up to the end of its header."""
_BODY_SECONDS = 30.0
"""Between two pieces of a body."""
_MOST_CONNECTIONS = 64
"""Browsers use six for each tab."""


class PatientProtocol(H11Protocol):
    """HTTP/1.1 with limits on the time and the number of connections that say nothing."""

    header_seconds = _HEADER_SECONDS
    body_seconds = _BODY_SECONDS

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection; in place of the one that has waited longest if there are too many."""
        super().connection_made(transport)
        self._heard = self.loop.time()
        self._is_requesting = False
        self._check: asyncio.TimerHandle | None = None
        waiting = [
            other
            for other in cast("set[Any]", self.connections)
            if isinstance(other, PatientProtocol) and other is not self and not other.is_working
        ]
        if len(self.connections) > _MOST_CONNECTIONS and waiting:
            min(waiting, key=lambda other: other._heard).transport.abort()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop watching."""
        if self._check is not None:
            self._check.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Note when something came; a header counts from its first byte."""
        if self.is_working or not self._is_requesting:
            self._heard = self.loop.time()
        self._is_requesting = not self.is_working
        super().data_received(data)
        if self.is_working:
            self._is_requesting = False

    @property
    def is_working(self) -> bool:
        """Whether a request has come whole, up to its header, and is not answered yet."""
        return self.cycle is not None and not self.cycle.response_complete

    def _watch(self) -> None:
        """Close the connection if the other side has been silent for too long; look again later."""
        waits_for_body = self.is_working and self.cycle.more_body
        limit = self.body_seconds if waits_for_body else self.header_seconds
        is_waiting = waits_for_body or not self.is_working
        left = limit - (self.loop.time() - self._heard)
        if is_waiting and left <= 0:
            self.transport.abort()
            return
        self._check = self.loop.call_later(left if left > 0 else limit, self._watch)
