"""A Hub with one repository, on loopback: enough of its HTTP interface for huggingface_hub."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from huggingface_hub import constants, hf_api

REPOSITORY = "lab/tiny"
COMMIT = "c0ffee" * 6 + "c0ff"


class FakeHub(ThreadingHTTPServer):
    """Serves the files of a directory as the repository `lab/tiny`."""

    daemon_threads = True

    def __init__(self, directory: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.directory = directory
        self.downloaded: list[str] = []
        """Names of the files that were fetched whole."""

        self.resumed: list[str] = []
        """Names of the files that were asked for from some byte on, to their end."""

        self.breaks_after_bytes: int | None = None
        """Weight files break off after so many bytes of one answer."""

        self.damages = False
        """The first byte of weight files is wrong."""

    @property
    def url(self) -> str:
        """What HF_ENDPOINT has to be."""
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextlib.contextmanager
def running_hub(directory: Path) -> Iterator[FakeHub]:
    """Serve `directory` while the context lasts."""
    with FakeHub(directory) as hub:
        thread = threading.Thread(target=hub.serve_forever)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()


def use_hub(hub: FakeHub, cache: Path, patch: pytest.MonkeyPatch) -> None:
    """Let huggingface_hub in this process speak to `hub`, and keep everything in `cache`."""
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    patch.setattr(constants, "ENDPOINT", hub.url)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    patch.setattr(constants, "HF_HUB_CACHE", str(cache / "hub"))
    patch.setattr(hf_api.api, "endpoint", hub.url)
    patch.setenv("XDG_CACHE_HOME", str(cache / "xdg"))
    patch.setenv("NO_PROXY", "127.0.0.1")


class _Handler(BaseHTTPRequestHandler):
    server: FakeHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *_: object) -> None:
        """Stay quiet."""

    def _answer(self, *, with_body: bool) -> None:
        path = urlsplit(self.path).path
        resolve = f"/{REPOSITORY}/resolve/"
        if path.startswith(f"/api/models/{REPOSITORY}"):
            found = json.dumps(self._tree() if "/tree/" in path else self._info())
            self._send(200, found.encode(), {"Content-Type": "application/json"}, with_body)
        elif path.startswith(resolve):
            self._send_file(path.removeprefix(resolve).split("/", 1)[1], with_body)
        else:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"}, with_body)

    def _info(self) -> dict[str, object]:
        return {
            "id": REPOSITORY,
            "sha": COMMIT,
            "siblings": [
                {
                    "rfilename": file.name,
                    "size": file.stat().st_size,
                    "lfs": {"sha256": _sha256(file), "size": file.stat().st_size, "pointerSize": 130}
                    if file.suffix == ".safetensors"
                    else None,
                }
                for file in sorted(self.server.directory.iterdir())
            ],
        }

    def _tree(self) -> list[dict[str, object]]:
        return [
            {
                "type": "file",
                "oid": _sha256(file)[:40],
                "path": file.name,
                "size": file.stat().st_size,
                **(
                    {"lfs": {"oid": _sha256(file), "size": file.stat().st_size, "pointerSize": 130}}
                    if file.suffix == ".safetensors"
                    else {}
                ),
            }
            for file in sorted(self.server.directory.iterdir())
        ]

    def _send_file(self, name: str, with_body: bool) -> None:
        file = self.server.directory / name
        if not file.is_file():
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"}, with_body)
            return
        data = file.read_bytes()
        headers = {"ETag": f'"{_sha256(file)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        wanted = self.headers.get("Range")
        if wanted and with_body:
            first, last = wanted.removeprefix("bytes=").split("-")
            end = min(int(last or len(data) - 1), len(data) - 1)
            headers["Content-Range"] = f"bytes {first}-{end}/{len(data)}"
            if int(first) == 0 and end == len(data) - 1 and len(data) > 100_000:
                self.server.downloaded.append(name)
            if int(first) and end == len(data) - 1:
                self.server.resumed.append(name)
            self._send(206, data[int(first) : end + 1], headers, with_body)
            return
        if with_body:
            self.server.downloaded.append(name)
        if self.server.damages and file.suffix == ".safetensors":
            data = b"x" + data[1:]
        self._send(200, data, headers, with_body)

    def _send(self, status: int, body: bytes, headers: dict[str, str], with_body: bool) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        limit = self.server.breaks_after_bytes
        if with_body and limit is not None and limit < len(body) and "Accept-Ranges" in headers:
            self.wfile.write(body[:limit])
            self.close_connection = True
        elif with_body:
            self.wfile.write(body)


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
