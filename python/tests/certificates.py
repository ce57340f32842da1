"""Certificates for tests, and a daemon that uses them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Generator
from datetime import datetime
from pathlib import Path

import trustme

from coordinated import RequestRefused, Tls
from coordinated.testing import Daemon


class Authority:
    """A CA, with its files in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self._ca = trustme.CA()
        self.path = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(self.path)

    @property
    def tls(self) -> Tls:
        """A client that trusts it."""
        return Tls(ca=self.path)

    def issue(self, name: str, *hosts: str, ends: datetime | None = None) -> Path:
        """Gives a file with a certificate and its key."""
        path = self.folder / f"{name}.pem"
        issued = self._ca.issue_cert(*hosts, not_after=ends)
        issued.private_key_and_cert_chain_pem.write_to_path(path)
        return path


def flags(certificate: Path, *more: str) -> tuple[str, ...]:
    """The flags of a daemon that listens with TLS, and without."""
    return (
        *("--listen", "tls:127.0.0.1:0", "--listen", "127.0.0.1:0", "--http", "off"),
        *("--tls-cert", str(certificate), "--tls-key", str(certificate), *more),
    )


@contextlib.contextmanager
def tls_daemon(
    certificate: Path, *more: str, database: Path | None = None
) -> Generator[tuple[Daemon, str, str], None, None]:
    """Runs a daemon. Gives its address with TLS, and that without."""
    with Daemon(database, *flags(certificate, *more)) as daemon:
        yield daemon, *addresses(daemon)


def addresses(daemon: Daemon) -> tuple[str, str]:
    """Where a daemon listens now, with TLS and without."""
    # It logs this before it answers anything; one that wants a token refuses to.
    with daemon.client() as client, contextlib.suppress(RequestRefused):
        client.call("server_info")
    with_tls = re.findall(r"listening on (tls:127\.0\.0\.1:\d+)", daemon.log())
    without = re.findall(r"listening on (127\.0\.0\.1:\d+)", daemon.log())
    assert with_tls, daemon.log()
    assert without, daemon.log()
    return with_tls[-1], without[-1]
