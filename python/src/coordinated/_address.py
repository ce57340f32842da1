"""Where a daemon listens, `HOST:PORT`, `[IPV6]:PORT` or `unix:PATH`, and the token to show it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["DEFAULT_SERVER", "Address", "find_token", "parse_address"]

DEFAULT_SERVER: Final = "127.0.0.1:5932"


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP address (`host` and `port`) or the path of a Unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(server: str | None = None) -> Address:
    """Reads an address; None stands for the variable COORDINATED_SERVER or else 127.0.0.1:5932.

    Raises `ValueError` if it is not one.
    """
    text = server or os.environ.get("COORDINATED_SERVER") or DEFAULT_SERVER
    if text.startswith("unix:") and len(text) > len("unix:"):
        return Address(path=text[len("unix:") :])
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    if not (colon and host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"server: expected HOST:PORT, [IPV6]:PORT or unix:PATH, got {text!r}")
    return Address(host=host, port=int(port))


def find_token(token: str | None = None) -> str | None:
    """Gives the token to show the daemon: this one, that in the file COORDINATED_TOKEN_FILE, or COORDINATED_TOKEN.

    Raises `OSError` if the file can't be read.
    """
    if token is None:
        file = os.environ.get("COORDINATED_TOKEN_FILE")
        token = Path(file).read_text().strip() if file else os.environ.get("COORDINATED_TOKEN")
    return token or None
