"""`coordinated-worker`: runs the functions of modules for the units of their work specs."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from ..errors import CoordinateError
from . import Worker

if TYPE_CHECKING:
    from .._tls import Tls

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="coordinated-worker",
        description="Runs the functions of modules for the units of their work specs, in child processes.",
        epilog="SIGTERM and SIGINT stop it: units that run go on to their end; a second one stops these, too. SIGHUP "
        "replaces the children by new ones, with the code as it is then. The exit code is 1 if it could not begin or, "
        "with --until-empty, if units have failed.",
    )
    parser.add_argument(
        "specs", nargs="+", metavar="MODULE[:NAME]", help="a module with functions that have @spec, or one of them"
    )
    parser.add_argument(
        "--server",
        metavar="ADDR",
        help="HOST:PORT, tls:HOST:PORT or unix:PATH of the daemon; default: $COORDINATED_SERVER, else 127.0.0.1:5932",
    )
    parser.add_argument(
        "--tls-ca",
        metavar="FILE",
        help="with tls:HOST:PORT: the certificates of the CAs to trust; default: $COORDINATED_TLS_CA, "
        "else the system's",
    )
    parser.add_argument(
        "--tls-client-cert",
        metavar="FILE",
        help="with tls:HOST:PORT: the certificate to show the server, and its key if that is in the same file; "
        "default: $COORDINATED_TLS_CLIENT_CERT",
    )
    parser.add_argument(
        "--tls-client-key", metavar="FILE", help="the key of that certificate; default: $COORDINATED_TLS_CLIENT_KEY"
    )
    parser.add_argument("-p", "--processes", type=int, metavar="N", help="child processes; default: one per processor")
    parser.add_argument(
        "-c",
        "--concurrency",
        type=int,
        default=1,
        metavar="N",
        help="functions that run at the same time in each child; with 1, the default, a function has the main thread",
    )
    parser.add_argument("--lease", type=float, default=60.0, metavar="SECONDS", help="length of leases; default: 60")
    parser.add_argument(
        "--grace",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="time between telling a function to stop and killing its child; default: 10",
    )
    parser.add_argument(
        "--max-memory", metavar="SIZE", help="replace a child that is larger, such as 1GiB; kill it at twice as much"
    )
    parser.add_argument("--max-units", type=int, metavar="N", help="replace a child after so many units")
    parser.add_argument("--lifespan", metavar="MODULE:NAME", help="a context manager, entered once in each child")
    parser.add_argument("--name", help="the worker's name; default: made of the host and the process id")
    parser.add_argument("--until-empty", action="store_true", help="end when no unit of the work specs is left")
    parser.add_argument(
        "--reload", action="store_true", help="replace the children when a file of theirs changes (needs watchfiles)"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="log more")
    return parser


def _tls(options: argparse.Namespace) -> Tls | None:
    """Gives whom to trust if flags say so."""
    files = (options.tls_ca, options.tls_client_cert, options.tls_client_key)
    if not any(files):
        return None
    from .._tls import Tls

    return Tls(*files)


def _watch(watchfiles: ModuleType, files: Callable[[], set[str]], reload: Callable[[], None]) -> None:
    """Calls `reload` when Python files change below the current folder, or those that the children have imported."""
    for changes in watchfiles.watch(".", watch_filter=watchfiles.PythonFilter(), raise_interrupt=False):
        known = {os.path.realpath(file) for file in files()}
        changed = [Path(path) for _, path in changes]
        if any(os.path.realpath(path) in known or path.is_relative_to(Path.cwd()) for path in changed):
            reload()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command, and gives its exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    # As `python -m` does: modules in the current folder can be imported.
    sys.path.insert(0, os.getcwd())
    try:
        worker = Worker(
            *options.specs,
            server=options.server,
            processes=options.processes,
            concurrency=options.concurrency,
            lease=options.lease,
            grace=options.grace,
            max_memory=options.max_memory,
            max_units=options.max_units,
            lifespan=options.lifespan,
            name=options.name,
            tls=_tls(options),
        )
    except ValueError as error:
        parser.error(str(error))
    except CoordinateError as error:
        print(f"coordinated-worker: {error}", file=sys.stderr)
        return 1
    if options.reload:
        try:
            watchfiles = importlib.import_module("watchfiles")
        except ImportError:
            parser.error("--reload needs watchfiles: pip install 'coordinated[reload]'")
        threading.Thread(
            target=_watch, args=(watchfiles, lambda: worker.files, worker.reload), name="watch", daemon=True
        ).start()
    try:
        tally = worker.run(until_empty=options.until_empty)
    except CoordinateError as error:
        print(f"coordinated-worker: {error}", file=sys.stderr)
        return 1
    return 1 if options.until_empty and tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
