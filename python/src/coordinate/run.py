"""Starts the daemon with the flags of the old Python server: `python -m coordinate.run`."""

from __future__ import annotations

import argparse
import os

import coordinate

from . import dblogger, yakonfig
from ._native import run_native


def main() -> None:
    """Becomes `coordinated serve`."""
    parser = argparse.ArgumentParser(prog="coordinate.run", description="Run the coordinated daemon.")
    parser.add_argument("--host", help="listen at this address (default 127.0.0.1)")
    parser.add_argument("--port", "-p", type=int, help="listen at this port (default 5932)")
    parser.add_argument("--pid", metavar="FILE", help="write the process id to FILE")
    parser.add_argument("--snapshot-dir", metavar="DIR", help="keep the database in DIR")
    parser.add_argument("--httpd", metavar="HOST:PORT", help="serve HTTP there")
    args = yakonfig.parse_args(parser, [yakonfig, dblogger, coordinate])
    server = yakonfig.get_global_config("coordinate").get("server") or {}

    host = args.host or server.get("host") or "127.0.0.1"
    arguments = ["serve", "--listen", f"{host}:{args.port or server.get('port') or 5932}"]
    if args.pid:
        arguments += ["--pid-file", args.pid]
    if args.snapshot_dir:
        arguments += ["--db", os.path.join(args.snapshot_dir, "coordinate.db")]
    http = args.httpd or server.get("httpd")
    if http:
        arguments += ["--http", f"127.0.0.1{http}" if http.startswith(":") else http]
    if args.config:
        arguments += ["--config", args.config]
    run_native(arguments)


if __name__ == "__main__":
    main()
