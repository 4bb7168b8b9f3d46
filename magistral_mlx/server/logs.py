"""Where the server's log goes: one line of JSON a request, and what else is to be known."""

import logging

from magistral_mlx.server import request_log


def configure_logging() -> None:
    """Write to standard error; for the program that serves, not for tests or libraries."""
    plain = logging.StreamHandler()
    plain.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[plain])
    requests = logging.StreamHandler()
    requests.setFormatter(logging.Formatter("%(message)s"))
    request_log.logger.addHandler(requests)
    request_log.logger.propagate = False
    # It repeats what is said above, for every request of a client.
    logging.getLogger("httpx").setLevel(logging.WARNING)
