"""A file on a server, read by byte range; cut connections are gone on with."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

import httpx2
import numpy as np
from huggingface_hub import get_session

from magistral_mlx.checkpoint.safetensors_header import TensorEntry
from magistral_mlx.convert.sources.source import READ_AS, Rows, row_bytes
from magistral_mlx.errors import CheckpointError

TIMEOUT = 30.0
"""Seconds without a byte, after which a range is asked for again."""

ATTEMPTS = 8
"""Requests in a row that bring nothing, before it is given up."""

FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)
REFUSED = (401, 403)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """Name, address and length of a file; headers carry the token."""

    name: str
    url: str
    size: int
    headers: Mapping[str, str]

    def read(self, start: int, stop: int) -> bytearray:
        """Bytes [start, stop), from as many requests as it takes.

        Raises CheckpointError when the server refuses, or brings nothing several times in a row.
        """
        buffer = bytearray(stop - start)
        filled = failures = 0
        while filled < len(buffer):
            reply = self._request(memoryview(buffer)[filled:], start + filled)
            filled += reply.count
            failures = 0 if reply.count else failures + 1
            if failures == ATTEMPTS:
                raise CheckpointError(
                    f"{self.name} cannot be read from {_host(self.url)} ({reply.problem}): check "
                    "the network and run this again, it goes on from here."
                )
            if filled < len(buffer):
                time.sleep(max(reply.wait, min(LONGEST_WAIT, FIRST_WAIT * 2**failures)))
        return buffer

    def _request(self, view: memoryview, start: int) -> "_Reply":
        """One request into `view`; the bytes that came, and what was wrong with it."""
        count = 0
        headers = {
            **self.headers,
            "Range": f"bytes={start}-{start + len(view) - 1}",
            "Accept-Encoding": "identity",
        }
        try:
            with get_session().stream(
                "GET", self.url, headers=headers, timeout=TIMEOUT
            ) as response:
                problem = self._problem(response, start, len(view))
                if problem is not None:
                    return _Reply(0, problem, _retry_after(response))
                for data in response.iter_raw():
                    taken = min(len(data), len(view) - count)
                    view[count : count + taken] = data[:taken]
                    count += taken
        except httpx2.TransportError as error:
            return _Reply(count, str(error) or type(error).__name__)
        return _Reply(count, "the reply was too short")

    def _problem(self, response: httpx2.Response, start: int, length: int) -> str | None:
        if response.status_code in REFUSED:
            raise CheckpointError(
                f"{self.name} is refused by {_host(self.url)} (HTTP {response.status_code}): "
                "accept the model's terms on its page and set HF_TOKEN to a token of that account."
            )
        if response.status_code in TRY_AGAIN:
            return f"HTTP {response.status_code}"
        if response.status_code == 200 and length == self.size:
            # A server may answer a range that is the whole file with the whole file.
            return None if response.headers.get("content-length") == str(length) else "wrong length"
        if response.status_code != 206:
            return f"HTTP {response.status_code} where a byte range was asked for"
        expected = f"bytes {start}-{start + length - 1}/{self.size}"
        found = response.headers.get("content-range", "none")
        return None if found == expected else f"range {found!r} where {expected!r} was asked for"


@dataclass(frozen=True, slots=True)
class _Reply:
    """Bytes that a request brought; why there are not more; seconds the server asks to wait."""

    count: int
    problem: str
    wait: float = 0.0


@dataclass(frozen=True, slots=True)
class RemoteTensor:
    """Rows of one tensor of a remote safetensors file; nothing of it is stored."""

    name: str
    file: RemoteFile
    entry: TensorEntry

    @property
    def shape(self) -> tuple[int, ...]:
        return self.entry.shape

    @property
    def dtype(self) -> str:
        return self.entry.dtype

    def read_rows(self, start: int, stop: int) -> Rows:
        """Rows [start, stop) in the file's type. Raises what RemoteFile.read raises."""
        width = row_bytes(self)
        first = self.entry.start + start * width
        data = self.file.read(first, first + (stop - start) * width)
        return np.frombuffer(data, dtype=READ_AS[self.dtype]).reshape(stop - start, *self.shape[1:])


def _retry_after(response: httpx2.Response) -> float:
    value = response.headers.get("retry-after", "")
    return min(LONGEST_WAIT, float(value)) if re.fullmatch(r"\d+", value) else 0.0


def _host(url: str) -> str:
    return httpx2.URL(url).host
