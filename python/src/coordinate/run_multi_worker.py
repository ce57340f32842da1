"""The command `coordinate_worker`: runs a worker as a daemon."""

from __future__ import annotations

import argparse
import fcntl
import os
import sys
import tempfile
import traceback
from typing import IO, Any

import coordinate

from . import dblogger, yakonfig
from .workers import ForkWorker, run_worker


def absolute_path(string: str) -> str:
    """Checks the argument of a flag: an absolute path whose folder exists."""
    if not os.path.isabs(string):
        raise argparse.ArgumentTypeError(f"{string!r} is not an absolute path")
    if not os.path.isdir(os.path.dirname(string)):
        raise argparse.ArgumentTypeError(f"the folder of {string!r} does not exist")
    return string


def args_run_worker(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    parser.add_argument(
        "--pidfile", metavar="FILE", type=absolute_path, help="write the process id of the worker to FILE"
    )
    parser.add_argument("--logpath", metavar="FILE", type=absolute_path, help="also log to FILE")
    parser.add_argument("--foreground", action="store_true", help="do not become a daemon")


def start_logging(gconfig: dict[str, Any], logpath: str | None) -> None:
    """Sets the global configuration, and logging by it; with `logpath` also to that file.

    Child processes set up the same again. The file can be renamed meanwhile, as logrotate does.
    """
    if logpath:
        root = (gconfig.get("logging") or {}).get("root") or dblogger.default_config["root"]
        handler = {"class": "logging.handlers.WatchedFileHandler", "filename": logpath, "formatter": "fixed"}
        log_file = {"handlers": {"logpath": handler}, "root": {"handlers": [*root.get("handlers", []), "logpath"]}}
        gconfig = yakonfig.overlay_config(gconfig, {"logging": log_file})
    yakonfig.set_default_config([yakonfig, dblogger, coordinate], config=gconfig)


def start_worker(which_worker: str, config: dict[str, Any] | None = None) -> None:
    """Runs a worker. There is one kind, so `which_worker` does not matter."""
    run_worker(ForkWorker, config or {})


def go(gconfig: dict[str, Any], args: argparse.Namespace) -> None:
    """Runs the worker of a configuration in this process."""
    start_logging(gconfig, args.logpath)
    config = yakonfig.get_global_config(coordinate.config_name)
    start_worker(config.get("worker", "fork_worker"), config)


def fork_worker(gconfig: dict[str, Any], args: argparse.Namespace) -> None:
    """Runs the worker of a configuration as a daemon. Returns in the process that called it.

    Raises BlockingIOError if the pid file is that of a worker which still runs.
    """
    pidfile = _lock(args.pidfile) if args.pidfile else None
    starter = os.fork()
    if starter != 0:
        os.waitpid(starter, 0)
        return
    try:
        _become_daemon(pidfile)
        go(gconfig, args)
    except Exception:
        # Logging may not have been set up, and standard error leads nowhere.
        path = args.logpath or os.path.join(tempfile.gettempdir(), "coordinate-failure.log")
        with open(path, "a", encoding="utf-8") as log:
            traceback.print_exc(file=log)
        raise
    sys.exit(0)


def _lock(path: str) -> IO[str]:
    """The pid file, locked as long as the worker or a child of it lives. Its contents are kept."""
    pidfile = open(path, "a", encoding="ascii")  # noqa: SIM115 - it stays open
    fcntl.flock(pidfile, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return pidfile


def _become_daemon(pidfile: IO[str] | None) -> None:
    """Leaves the terminal and the folder behind. The process that began it ends here, once the pid file is written."""
    os.setsid()
    pid = os.fork()
    if pid != 0:
        if pidfile is not None:
            pidfile.truncate(0)
            pidfile.write(str(pid))
            pidfile.flush()
        os._exit(0)  # without exit handlers, which belong to the process that goes on
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    if null > 2:
        os.close(null)


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="coordinate_worker", description="Run a worker for coordinate work units.")
    args_run_worker(parser)
    args = yakonfig.parse_args(parser, [yakonfig, coordinate])
    gconfig = yakonfig.get_global_config()
    yakonfig.clear_global_config()
    if args.foreground:
        go(gconfig, args)
        return
    try:
        fork_worker(gconfig, args)
    except BlockingIOError:
        parser.error(f"the worker of --pidfile {args.pidfile} still runs: stop it first, or choose another file")


if __name__ == "__main__":
    main()
