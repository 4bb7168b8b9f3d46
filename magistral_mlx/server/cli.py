"""The command line of the server."""

from importlib.util import find_spec
from typing import Annotated

import typer

from magistral_mlx.commands import options as opt
from magistral_mlx.commands.exit_codes import consoles, exit_codes
from magistral_mlx.errors import RequestError
from magistral_mlx.folders import data_folder
from magistral_mlx.terminal.opening import Opening

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
Page = Annotated[
    bool | None,
    typer.Option(
        "--page/--no-page",
        help="Show the page at the root, for those who may use the server.",
        show_default="where it is installed",
    ),
]
LogPrompts = Annotated[bool, typer.Option("--log-prompts", help="Write messages into the log.")]


def serve_command(
    model: opt.Model = None,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    api_key: ApiKey = None,
    insecure: Insecure = False,
    cors_origin: CorsOrigin = None,
    allow_host: AllowHost = None,
    alias: Alias = None,
    queue: Queue = 64,
    per_key: PerKey = None,
    timeout: Timeout = 3600,
    grace: Grace = 30,
    max_body: MaxBody = 16,
    log_prompts: LogPrompts = False,
    page: Page = None,
    data_dir: opt.DataDir = None,
    no_history: opt.NoHistory = False,
    max_context: opt.MaxContext = None,
    dtype: opt.ComputeDtype = None,
    kv_bits: opt.KVBits = None,
    kv_start: opt.KVStart = 0,
    kv_disk: opt.KVDisk = None,
    wired: opt.Wired = False,
) -> None:
    """Serve the model to OpenAI's and Anthropic's clients, at http://127.0.0.1:8000/v1."""
    _, errors = consoles()
    with exit_codes(errors):
        _check_extra()
        # FastAPI and the clients' types are an extra, and take a second to import.
        from magistral_mlx.server.logs import configure_logging
        from magistral_mlx.server.open_for_serving import serve_chosen
        from magistral_mlx.server.settings import MB, ServerSettings

        settings = ServerSettings(
            host=host,
            port=port,
            api_keys=tuple(key for given in api_key or () for key in given.split()),
            insecure=insecure,
            cors_origins=tuple(cors_origin or ()),
            allowed_hosts=tuple(allow_host or ()),
            aliases=tuple(alias or ()),
            queue=queue,
            per_key=per_key,
            request_timeout=timeout,
            grace=grace,
            max_body_bytes=max_body * MB,
            log_prompts=log_prompts,
        )
        opening = Opening(
            max_context=max_context,
            dtype=dtype,
            kv_bits=kv_bits,
            kv_start=kv_start,
            kv_disk=kv_disk,
            wired=wired,
        )
        configure_logging()
        serve_chosen(
            model,
            opening,
            settings,
            page=_has_page(page),
            page_folder=None if no_history else (data_dir or data_folder()).expanduser(),
        )


def _has_page(wanted: bool | None) -> bool:
    installed = find_spec("gradio") is not None
    if wanted and not installed:
        raise RequestError("The page needs gradio: pip install 'magistral-mlx[app]'.")
    return installed if wanted is None else wanted


def _check_extra() -> None:
    missing = [
        name
        for name in ("fastapi", "uvicorn", "openai", "anthropic", "prometheus_client")
        if find_spec(name) is None
    ]
    if missing:
        raise RequestError(
            f"The server needs {', '.join(missing)}: install it with "
            "pip install 'magistral-mlx[serve]'."
        )
