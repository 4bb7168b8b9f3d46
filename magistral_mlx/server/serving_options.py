"""What an operator chooses on the command line."""

from dataclasses import dataclass
from typing import Annotated

import typer

from magistral_mlx.server.settings import MB, ServerSettings

Host = Annotated[
    str, typer.Option(help="Address to listen on; others than this machine's need a key.")
]
Port = Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")]
ApiKey = Annotated[
    list[str] | None,
    typer.Option(
        "--api-key",
        envvar="MAGISTRAL_MLX_API_KEY",
        help="A key that clients must send; may be given several times, or in the variable with "
        "blanks between. Other users of this machine can read a command line, not the variable.",
        show_default=False,
        show_envvar=True,
    ),
]
Insecure = Annotated[bool, typer.Option("--insecure", help="Serve other machines without a key.")]
CorsOrigin = Annotated[
    list[str] | None,
    typer.Option(
        "--cors-origin",
        help="A web page that may call it, as https://example.org.",
        show_default=False,
    ),
]
AllowHost = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-host", help="A further name that it is called by; * for any.", show_default=False
    ),
]
Alias = Annotated[
    list[str] | None,
    typer.Option(
        "--alias", help="A further name of the model that requests may give.", show_default=False
    ),
]
Queue = Annotated[int, typer.Option(help="Requests that may wait beside those that run.")]
PerKey = Annotated[
    int | None,
    typer.Option("--per-key", help="Requests of one key at once.", show_default="no limit"),
]
Timeout = Annotated[float, typer.Option(help="Seconds after which an answer is ended where it is.")]
Grace = Annotated[
    float, typer.Option(help="Seconds that answers have to finish when it is stopped.")
]
MaxBody = Annotated[int, typer.Option("--max-body", help="Most megabytes of a request.")]
LogPrompts = Annotated[bool, typer.Option("--log-prompts", help="Write messages into the log.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """The options of `serve` that are the server's own."""

    host: Host = "127.0.0.1"
    port: Port = 8000
    api_key: ApiKey = None
    insecure: Insecure = False
    cors_origin: CorsOrigin = None
    allow_host: AllowHost = None
    alias: Alias = None
    queue: Queue = 64
    per_key: PerKey = None
    timeout: Timeout = 3600
    grace: Grace = 30
    max_body: MaxBody = 16
    log_prompts: LogPrompts = False

    def settings(self) -> ServerSettings:
        """The same for the server. Raises RequestError for what is not safe or not possible."""
        return ServerSettings(
            host=self.host,
            port=self.port,
            api_keys=tuple(key for given in self.api_key or () for key in given.split()),
            insecure=self.insecure,
            cors_origins=tuple(self.cors_origin or ()),
            allowed_hosts=tuple(self.allow_host or ()),
            aliases=tuple(self.alias or ()),
            queue=self.queue,
            per_key=self.per_key,
            request_timeout=self.timeout,
            grace=self.grace,
            max_body_bytes=self.max_body * MB,
            log_prompts=self.log_prompts,
        )
