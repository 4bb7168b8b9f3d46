"""What an operator chooses for the server."""

import ipaddress
from dataclasses import dataclass

from magistral_mlx.errors import RequestError

MB = 1_000_000


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Where it listens, whom it serves, and its limits.

    api_keys: whoever has one of them is served; none: everybody is, on this machine only.
    insecure: listen for other machines although there are no keys.
    cors_origins: web pages that may call it, as "https://example.org"; "*" for any.
    allowed_hosts: names that it is called by, besides its address; "*" for any.
    aliases: further names of the model that requests may give.
    queue: requests that may wait, beside those that run; more get 429.
    per_key: requests at once of one key, waiting ones included; None: no limit but the queue.
    request_timeout: seconds after which an answer is ended where it is.
    body_timeout: seconds in which a request must have arrived as a whole.
    keep_alive: seconds without an event after which a stream gets a comment.
    stall_timeout: seconds after which a client that reads nothing of its stream is given up.
    grace: seconds that answers have to finish when the server is stopped.
    stored_bytes: of conversations that /v1/responses keeps for previous_response_id.
    log_prompts: write messages and prompts into the log.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_keys: tuple[str, ...] = ()
    insecure: bool = False
    cors_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    queue: int = 64
    per_key: int | None = None
    max_body_bytes: int = 16 * MB
    max_messages: int = 4_000
    max_nesting: int = 100
    max_choices: int = 16
    request_timeout: float = 3_600
    body_timeout: float = 60
    keep_alive: float = 10
    stall_timeout: float = 120
    grace: float = 30
    stored_bytes: int = 64 * MB
    log_prompts: bool = False

    def __post_init__(self) -> None:
        if any(not key.strip() for key in self.api_keys):
            raise RequestError("An API key is empty: give one with letters, or none at all.")
        if not (self.api_keys or self.insecure or is_loopback(self.host)):
            raise RequestError(
                f"--host {self.host} can be reached from other machines, and there is no key: "
                "give --api-key, or --insecure to serve anybody."
            )
        for name, value, least in (
            ("--port", self.port, 0),
            ("--queue", self.queue, 0),
            ("--per-key", self.per_key, 1),
            ("--max-body", self.max_body_bytes, 1),
            ("--timeout", self.request_timeout, 0),
            ("--grace", self.grace, 0),
        ):
            if value is not None and value < least:
                raise RequestError(f"{name} is {value}; it must be at least {least}.")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it by this name or address."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
