"""What `magistral-mlx app` does: open the services and the model, and serve the page."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from magistral_mlx.app.launch import Address, check_address, open_in_browser, parse_auth, serve_page
from magistral_mlx.app.panels.services import open_services
from magistral_mlx.convert import DEMO
from magistral_mlx.folders import data_folder
from magistral_mlx.opening import Opening


@dataclass(frozen=True, slots=True, kw_only=True)
class PageOptions:
    """How the page is served; see `magistral-mlx app --help`."""

    model: str | None
    host: str
    port: int
    auth: str | None
    data_dir: Path | None
    history: bool
    show: bool


def run_page(options: PageOptions, opening: Opening, *, console: Console) -> None:
    """Serve until Ctrl-C. The model is opened meanwhile: the one named, the last one, or the demo.

    Raises UserError for an address that is not allowed or in use, a folder that cannot be used,
    and a model that does not exist.
    """
    address = Address(options.host, options.port, parse_auth(options.auth))
    check_address(address)
    folder = (options.data_dir or data_folder()).expanduser() if options.history else None
    with open_services(data_folder=folder, open_model=opening.open) as services:
        services.models.open(options.model or services.models.last_choice() or DEMO)
        serve_page(services, address, on_start=_announcer(console, show=options.show))


def _announcer(console: Console, *, show: bool) -> Callable[[str], None]:
    def announce(url: str) -> None:
        console.print(f"The page is at {url}  (Ctrl-C ends it)", highlight=False)
        if show:
            open_in_browser(url)

    return announce
