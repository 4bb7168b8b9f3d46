"""A file on a server, read by byte range. A cut connection is resumed."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

import httpx2
from huggingface_hub import get_session

from magistral_mlx.errors import CheckpointError

TIMEOUT = 30.0
"""Seconds without a byte before the range is requested again."""

ATTEMPTS = 8
"""Requests in a row without a byte before reading fails."""

FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)
REFUSED = (401, 403)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """Name, address and size of a file; headers carry the token."""

    name: str
    url: str
    size: int
    headers: Mapping[str, str]

    def read(self, start: int, stop: int) -> bytearray:
        """Bytes [start, stop), from as many requests as needed.

        Raises CheckpointError when the server refuses, or fails several times in a row.
        """
        buffer = bytearray(stop - start)
        filled = failures = 0
        while filled < len(buffer):
            reply = self._request(memoryview(buffer)[filled:], start + filled)
            filled += reply.count
            failures = 0 if reply.count else failures + 1
            if failures == ATTEMPTS:
                raise CheckpointError(
                    f"{self.name} cannot be read from {self._host} ({reply.problem}): check the "
                    "network and run this again; the conversion resumes."
                )
            if filled < len(buffer):
                time.sleep(max(reply.wait, min(LONGEST_WAIT, FIRST_WAIT * 2**failures)))
        return buffer

    def _request(self, view: memoryview, start: int) -> "_Reply":
        """Send one request and read its reply into `view`."""
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
                f"{self._host} refuses {self.name} (HTTP {response.status_code}): accept the "
                "model's terms on its page and set HF_TOKEN to a token of that account."
            )
        if response.status_code in TRY_AGAIN:
            return f"HTTP {response.status_code}"
        if response.status_code == 200 and length == self.size:
            # A server may answer a range that is the whole file with the whole file.
            return None if response.headers.get("content-length") == str(length) else "wrong length"
        if response.status_code != 206:
            return f"HTTP {response.status_code} instead of a byte range"
        expected = f"bytes {start}-{start + length - 1}/{self.size}"
        found = response.headers.get("content-range", "none")
        return None if found == expected else f"range {found!r} instead of {expected!r}"

    @property
    def _host(self) -> str:
        return httpx2.URL(self.url).host


@dataclass(frozen=True, slots=True)
class _Reply:
    """The number of bytes received, why there are not more, and seconds to wait (Retry-After)."""

    count: int
    problem: str
    wait: float = 0.0


def _retry_after(response: httpx2.Response) -> float:
    value = response.headers.get("retry-after", "")
    return min(LONGEST_WAIT, float(value)) if re.fullmatch(r"\d+", value) else 0.0
