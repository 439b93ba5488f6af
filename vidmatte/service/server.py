"""The server of the service: a port, its thread, and the queue behind it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from vidmatte.config import Config
from vidmatte.media.closing import Closing
from vidmatte.media.lock import exclusive
from vidmatte.service.app import create_service_app
from vidmatte.service.jobs import Jobs
from vidmatte.service.queue import Queue
from vidmatte.web.server import bound, origin_of, quiet_server

_SHUTDOWN_SECONDS = 5


class Service(Closing):
    """Serves jobs until it is closed."""

    def __init__(
        self,
        data: Path,
        *,
        token: str,
        devices: Sequence[str],
        host: str = "127.0.0.1",
        port: int = 0,
        largest_clip: int = 8 << 30,
        limit: int = 100,
        config: Config | None = None,
    ) -> None:
        """Load the jobs, and begin to serve and to render.

        Args:
            data: Folder of the jobs.
            token: Clients have to send it.
            devices: Names of devices, each of which renders one job at a time.
            host: Address to listen at.
            port: Port to listen at; 0 takes a free one.
            largest_clip: Bytes of the largest clip that is taken.
            limit: Largest number of jobs that are not finished.
            config: Defaults of a studio.

        Raises:
            OptionError: If the port is taken, or another service uses the data folder.
            WriteError: If the data folder cannot be written.
        """
        self._socket = bound(host, port, "the service")
        try:
            jobs = Jobs(data, limit=limit, config=config)
            self._lock = exclusive(jobs.folder, "another service uses this folder")
            self._lock.__enter__()
        except BaseException:
            self._socket.close()
            raise
        self.port = int(self._socket.getsockname()[1])
        self.address = origin_of(host, self.port)
        self._queue = Queue(jobs, devices)
        app = create_service_app(jobs, self._queue, token=token, largest_clip=largest_clip)
        self._server = quiet_server(app, shutdown_seconds=_SHUTDOWN_SECONDS)
        self._thread = threading.Thread(target=self._serve, name="vidmatte-service", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        self._server.run(sockets=[self._socket])

    def close(self) -> None:
        """Stop serving and rendering; jobs that were running are queued at the next start."""
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()
        self._queue.close()
        self._lock.__exit__(None, None, None)
