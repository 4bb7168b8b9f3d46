"""Where the server's log goes: one line of JSON a request, and what else is to be known."""

import logging

from magistral_mlx.server.layers import records as request_log


def configure_logging() -> None:
    """Write to standard error; for the program that serves, not for tests or libraries."""
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


class LineFormatter(logging.Formatter):
    """Leaves the lines about requests as they are: they are JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """A record as text."""
        if record.name == request_log.logger.name:
            return record.getMessage()
        return super().format(record)
