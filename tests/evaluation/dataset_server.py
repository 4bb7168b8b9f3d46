"""A server on this machine that gives files of data sets as the Hub does."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def serve_datasets(
    files: Mapping[str, bytes], *, refusals: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Serve files by "owner/name/REVISION/path"; yields what HF_ENDPOINT is to be.

    refusals: by repository, the Hub's X-Error-Code.
    """
    server = _Server(files, refusals or {})
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, files: Mapping[str, bytes], refusals: Mapping[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = files
        self.refusals = refusals


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._reply(body=False)

    def do_GET(self) -> None:
        self._reply(body=True)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: tests print enough."""

    def _reply(self, *, body: bool) -> None:
        owner, name, _, revision, *rest = self.path.removeprefix("/datasets/").split("/")
        refusal = self.server.refusals.get(f"{owner}/{name}")
        content = self.server.files.get("/".join((owner, name, revision, *rest)))
        if refusal is not None:
            self._refuse(403 if refusal == "GatedRepo" else 404, refusal)
        elif content is None:
            self._refuse(404, "EntryNotFound")
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", f'"{sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", revision)
            self.end_headers()
            if body:
                self.wfile.write(content)

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", f"refused: {code}")
        self.send_header("Content-Length", "0")
        self.end_headers()
