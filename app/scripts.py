"""The page's scripts: ES modules, served as they are."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

FOLDER = "/scripts/"
HEADERS = {"cache-control": "max-age=31536000, immutable"}


@dataclass(frozen=True, slots=True)
class Scripts:
    """The modules by file name. `version` changes with any of them and is part of their path.

    So browsers keep them, and never mix modules of two versions.
    """

    modules: Mapping[str, bytes]
    version: str

    def path(self, name: str) -> str:
        """Where a module is served, relative to the page."""
        return f"{FOLDER.lstrip('/')}{self.version}/{name}"

    def route(self) -> Route:
        """Serves them; 404 for another name or version."""

        async def serve(request: Request) -> Response:
            module = self.modules.get(request.path_params["name"])
            if module is None or request.path_params["version"] != self.version:
                return PlainTextResponse("There is no such script.", 404)
            return Response(module, media_type="text/javascript", headers=HEADERS)

        return Route(FOLDER + "{version}/{name}", serve)


def load_scripts() -> Scripts:
    """Read the modules of assets/scripts/."""
    folder = files("magistral_mlx.app") / "assets" / "scripts"
    modules = {
        file.name: file.read_bytes() for file in folder.iterdir() if file.name.endswith(".js")
    }
    return Scripts(modules, version_of(modules))


def version_of(modules: Mapping[str, bytes]) -> str:
    """A hash of the modules' names and texts."""
    digest = sha256()
    for name, module in sorted(modules.items()):
        digest.update(f"{name} {len(module)}\n".encode() + module)
    return digest.hexdigest()[:16]
