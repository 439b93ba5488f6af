"""Matte a clip with `vidmatte serve`: a client that needs nothing but Python.

    python samples/service_client.py http://127.0.0.1:8750 clip.mp4 clip.prompts.json --to out

The token of the service is in the variable VIDMATTE_TOKEN.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

FINISHED = ("done", "failed", "cancelled")


class Client:
    """Requests to one service."""

    def __init__(self, address: str, token: str) -> None:
        self.address = address.rstrip("/")
        self.headers = {"Authorization": f"Bearer {token}"}

    def open(self, method: str, path: str, body=None, **headers):
        """Send a request, and return the answer as an open file. Ends the program at an error."""
        request = urllib.request.Request(
            self.address + path, body, {**self.headers, **headers}, method=method
        )
        try:
            return urllib.request.urlopen(request)
        except urllib.error.HTTPError as error:
            sys.exit(f"{method} {path}: {json.load(error)['error']}")

    def job(self, method: str, path: str, body=None, **headers) -> dict:
        """Send a request, and return the job that it is answered with."""
        with self.open(method, path, body, **headers) as answer:
            return json.load(answer)


def matte(client: Client, clip: Path, prompts: Path, folder: Path, interval: float) -> list[Path]:
    """Matte a clip, and return the files that came out."""
    asked = {"name": clip.name, "prompts": json.loads(prompts.read_text())}
    job = client.job("POST", "/jobs", json.dumps(asked).encode())
    # A file is sent piece by piece, whatever its size.
    with open(clip, "rb") as file:
        length = {"Content-Length": str(clip.stat().st_size)}
        job = client.job("PUT", f"/jobs/{job['id']}/clip", file, **length)
    while job["state"] not in FINISHED:
        time.sleep(interval)
        job = client.job("GET", f"/jobs/{job['id']}")
        print(f"{job['state']}: {job['frames']} of {job['total'] or '?'} frames")
    if job["state"] != "done":
        sys.exit(f"{job['state']}: {job['error']}")
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for file in job["files"]:
        paths.append(folder / file["name"])
        with client.open("GET", file["url"]) as answer, open(paths[-1], "wb") as out:
            shutil.copyfileobj(answer, out)
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address")
    parser.add_argument("clip", type=Path)
    parser.add_argument("prompts", type=Path)
    parser.add_argument("--to", type=Path, default=Path())
    parser.add_argument("--interval", type=float, default=1.0)
    given = parser.parse_args()
    client = Client(given.address, os.environ["VIDMATTE_TOKEN"])
    for path in matte(client, given.clip, given.prompts, given.to, given.interval):
        print(path)


if __name__ == "__main__":
    main()
