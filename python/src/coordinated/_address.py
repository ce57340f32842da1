"""Where a daemon listens, and what a client needs there: a token, and whom to trust."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ._tls import Tls

__all__ = ["DEFAULT_SERVER", "Address", "find_tls", "find_token", "parse_address"]

DEFAULT_SERVER: Final = "127.0.0.1:5932"


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP address (`host` and `port`), with TLS or without, or the path of a Unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""
    is_tls: bool = False

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'tls:' if self.is_tls else ''}{host}:{self.port}"


def parse_address(server: str | None = None) -> Address:
    """Reads `HOST:PORT`, `[IPV6]:PORT`, `tls:HOST:PORT` or `unix:PATH`.

    None stands for the variable COORDINATED_SERVER or else 127.0.0.1:5932. Raises `ValueError` if it is not one.
    """
    text = server or os.environ.get("COORDINATED_SERVER") or DEFAULT_SERVER
    if text.startswith("unix:") and len(text) > len("unix:"):
        return Address(path=text[len("unix:") :])
    is_tls = text.startswith("tls:")
    host, colon, port = text.removeprefix("tls:").rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    if not (colon and host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"server: expected HOST:PORT, [IPV6]:PORT, tls:HOST:PORT or unix:PATH, got {text!r}")
    return Address(host=host, port=int(port), is_tls=is_tls)


def find_token(token: str | None = None) -> str | None:
    """Gives the token to show the daemon: this one, that in the file COORDINATED_TOKEN_FILE, or COORDINATED_TOKEN.

    Raises `OSError` if the file can't be read.
    """
    if token is None:
        file = os.environ.get("COORDINATED_TOKEN_FILE")
        token = Path(file).read_text().strip() if file else os.environ.get("COORDINATED_TOKEN")
    return token or None


def find_tls(address: Address, tls: Tls | None = None) -> Tls | None:
    """Gives whom to trust at an address, by default as the environment says, with its files read; None without TLS.

    Raises `TlsError` if the files can't be used.
    """
    if not address.is_tls:
        return None
    # Most programs do without, and it takes time to import.
    from ._tls import Tls

    found = Tls() if tls is None else tls
    _ = found.context
    return found
