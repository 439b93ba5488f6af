"""An object store in memory like S3: buckets, ETags; `makedirs` creates missing buckets."""

import hashlib
from pathlib import Path

from fsspec import AbstractFileSystem


class ObjectStore(AbstractFileSystem):
    """Addresses are store://bucket/key. The class holds the content: instances come and go."""

    protocol = "store"
    cachable = False
    objects: dict[str, bytes] = {}  # noqa: RUF012
    buckets: set[str] = set()  # noqa: RUF012
    error: Exception | None = None
    """Raised by everything that asks the store."""

    @classmethod
    def _strip_protocol(cls, path):
        return path.removeprefix("store://").strip("/")

    def _ask(self):
        if self.error is not None:
            raise self.error

    def info(self, path, **options):
        self._ask()
        path = self._strip_protocol(path)
        if path in self.objects:
            data = self.objects[path]
            etag = hashlib.md5(data).hexdigest()
            return {"name": path, "size": len(data), "type": "file", "ETag": etag}
        if path in self.buckets or any(key.startswith(f"{path}/") for key in self.objects):
            return {"name": path, "size": 0, "type": "directory"}
        raise FileNotFoundError(path)

    def ls(self, path, detail=True, **options):
        self._ask()
        start = f"{self._strip_protocol(path)}/"
        names = {
            start + key[len(start) :].partition("/")[0]
            for key in self.objects
            if key.startswith(start)
        }
        return [self.info(name) if detail else name for name in sorted(names)]

    def isdir(self, path):
        try:
            return self.info(path)["type"] == "directory"
        except FileNotFoundError:
            return False

    def makedirs(self, path, exist_ok=False):
        self.buckets.add(path.partition("/")[0])

    def put_file(self, lpath, rpath, **options):
        self._ask()
        self.objects[rpath] = Path(lpath).read_bytes()
