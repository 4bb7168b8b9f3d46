"""A server on 127.0.0.1 that speaks the Hub's API for one repository, with faults on demand."""

import base64
import hashlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from urllib.parse import unquote, urlsplit

REPOSITORY = "mistralai/Magistral-Small-2506"
COMMIT = "c0ffee" * 6 + "c0ff"
TOKEN = "hf_letmein"

Fault = Callable[[int], str | None]
"""What goes wrong with the n-th request for bytes of a weight file; None: nothing.

"cut": the connection ends in the middle. "stall": bytes stop coming. "503", "429": that status.
"range": bytes of another place, said so. "page": an HTML page with status 200. "long": more bytes
than were asked for.
"""


@dataclass
class HubServer:
    """Serves a folder as REPOSITORY at COMMIT. A context manager."""

    folder: Path
    gated: bool = False
    fault: Fault = lambda _: None
    weight_requests: int = 0
    sent: int = 0
    uploaded: dict[str, bytes] = field(default_factory=dict)
    tokens: set[str | None] = field(default_factory=set)
    cdn_tokens: set[str | None] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> "HubServer":
        hub = self

        class Handler(_Handler):
            server_hub = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def cdn(self) -> str:
        """Another origin, as the Hub's storage is: a token must not go there."""
        return f"http://localhost:{self._server.server_address[1]}"

    def next_fault(self) -> str | None:
        with self._lock:
            self.weight_requests += 1
            return self.fault(self.weight_requests)

    def files(self) -> list[Path]:
        return sorted(path for path in self.folder.iterdir() if path.is_file())


class _Handler(BaseHTTPRequestHandler):
    server_hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: pytest shows what a test prints."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        """A new repository, and a commit whose files all come inside it."""
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._refuse(401, "RepoNotFound")
        elif self.path == "/api/repos/create":
            self._json({"url": f"{self.server_hub.url}/me/mine", "name": "me/mine"})
        elif self.path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            self._json({"files": files})
        else:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    value = line["value"]
                    self.server_hub.uploaded[value["path"]] = base64.b64decode(value["content"])
            url = f"{self.server_hub.url}/me/mine/commit/{COMMIT}"
            self._json({"success": True, "commitUrl": url, "commitOid": COMMIT})

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        token = self.headers.get("Authorization")
        if path.startswith("/storage/"):
            self.server_hub.cdn_tokens.add(token)
            self._send_file(self.server_hub.folder / path.rpartition("/")[2])
            return
        if not path.removeprefix("/api/models").startswith(f"/{REPOSITORY}"):
            self._refuse(404, "RepoNotFound")  # also the library's own, once a day, without a token
            return
        self.server_hub.tokens.add(token)
        if self.server_hub.gated and token != f"Bearer {TOKEN}":
            self._refuse(403, "GatedRepo")
        elif path.startswith("/api/models/"):
            self._describe(path.removeprefix(f"/api/models/{REPOSITORY}"))
        else:
            self._resolve(path.removeprefix(f"/{REPOSITORY}"))

    def _describe(self, rest: str) -> None:
        if match := re.fullmatch(r"(?:/revision/([^/]+))?", rest):
            if match[1] not in (None, "main", COMMIT):
                self._refuse(404, "RevisionNotFound")
                return
            siblings = [
                {"rfilename": p.name, "size": p.stat().st_size, "blobId": _etag(p)}
                for p in self.server_hub.files()
            ]
            self._json(
                {
                    "id": REPOSITORY,
                    "sha": COMMIT,
                    "siblings": siblings,
                    "tags": ["license:apache-2.0"],
                }
            )
        elif rest.startswith("/tree/"):
            self._json(
                [
                    {"type": "file", "path": p.name, "size": p.stat().st_size, "oid": _etag(p)}
                    for p in self.server_hub.files()
                ]
            )
        else:
            self._refuse(404, "EntryNotFound")

    def _resolve(self, rest: str) -> None:
        match = re.fullmatch(r"/resolve/([^/]+)/([^/]+)", rest)
        path = self.server_hub.folder / (match[2] if match else "nothing")
        if match is None or not path.is_file():
            self._refuse(404, "EntryNotFound")
        elif match[1] not in ("main", COMMIT):
            self._refuse(404, "RevisionNotFound")
        elif path.suffix == ".safetensors" and self.command == "GET":
            # Large files lie elsewhere, at an address that is good for a while.
            self.send_response(302)
            self.send_header("Location", f"{self.server_hub.cdn}/storage/{path.name}")
            self._end(0)
        else:
            self._send_file(path)

    def _send_file(self, path: Path) -> None:
        data = path.read_bytes()
        is_weights = path.suffix == ".safetensors" and self.command == "GET"
        fault = self.server_hub.next_fault() if is_weights else None
        if fault in ("429", "503"):
            self.send_response(int(fault))
            self.send_header("Retry-After", "0")
            self._end(0)
            return
        if fault == "page":
            page = b"<html>Sign in to the network</html>"
            self.send_response(200)
            self._end(len(page))
            self.wfile.write(page)
            return
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        start, stop = (int(match[1]), int(match[2]) + 1) if match else (0, len(data))
        if fault == "range":
            start, stop = max(0, start - 100), max(0, start - 100) + stop - start
        body = data[start:stop]
        self.send_response(206 if match else 200)
        if match:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
        self.send_header("ETag", f'"{_etag(path)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("X-Linked-Size", str(len(data)))
        if fault == "long":
            body += b"\xff" * 1000
        self._end(len(body))
        if self.command == "GET":
            self._send_body(body, fault)

    def _send_body(self, body: bytes, fault: str | None) -> None:
        if fault in ("cut", "stall"):
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            if fault == "stall":
                time.sleep(2)
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        self.wfile.write(body)
        self.server_hub.sent += len(body)

    def _json(self, data: object) -> None:
        text = json.dumps(data).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self._end(len(text))
        if self.command != "HEAD":
            self.wfile.write(text)

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self._end(0)

    def _end(self, length: int) -> None:
        self.send_header("Content-Length", str(length))
        self.end_headers()


def _etag(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()
