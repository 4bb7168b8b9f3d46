"""Settings of the server."""

from dataclasses import dataclass

from magistral_mlx.app.hosts import is_loopback
from magistral_mlx.errors import RequestError

MB = 1_000_000


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Where the server listens, whom it serves, and its limits. Times are in seconds.

    api_keys: clients must send one of them; without keys, only this machine is served.
    insecure: listen for other machines without keys.
    cors_origins: web pages that may call the server, such as "https://example.org"; "*" for any.
    allowed_hosts: host names to accept besides the machine's own; "*" for any.
    aliases: more model names that requests may use.
    queue: answers that may wait, besides those that run; more get 429.
    per_key: answers of one key at once, waiting ones included; None: no limit but the queue.
    request_timeout: when an answer is cut off.
    body_timeout: until a request must have arrived.
    keep_alive: silence after which a stream gets a comment.
    stall_timeout: when the stream of a client that reads nothing is closed.
    grace: for running answers to finish when the server stops.
    stored_bytes: of conversations that /v1/responses keeps for previous_response_id.
    log_prompts: write messages and prompts to the log.
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
            raise RequestError("An API key is empty: give one with letters, or none.")
        if not (self.api_keys or self.insecure or is_loopback(self.host)):
            raise RequestError(
                f"--host {self.host} lets other machines use the server without a key: give "
                "--api-key, or --insecure to serve anybody."
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
