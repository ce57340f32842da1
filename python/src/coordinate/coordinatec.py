"""The command `coordinate`.

`run_one` and `flow`, which run Python or read its configuration, are done here. All other
commands are those of the program `coordinated`, which this one becomes.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from importlib import import_module
from typing import Any

import coordinate

from . import dblogger, yakonfig
from ._native import run_native
from .job_client import TaskMaster
from .workers import SingleWorker

_DESCRIPTION = "Look after the work of a coordinated daemon."
_COMMANDS = """\
commands of this program:
  flow          set the work specs of a YAML file, with this program's configuration
  run_one       run one work unit, or some

all other commands are those of the program `coordinated`: see `coordinated --help`, and
`coordinate COMMAND --help`.
"""

#: Flags that keep a command doing what it did, where `coordinated` by itself is more careful.
_ADDED = {
    "addwork": ["--reset"],
    "load": ["--reset"],
    "clear": ["--yes"],
    "retry": ["--yes"],
    "delete": ["--all"],
}
#: Flags that say what happens anyway.
_DROPPED = {"summary": {"--text"}, "workers": {"--all"}}


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        prog="coordinate",
        description=_DESCRIPTION,
        epilog=_COMMANDS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", metavar="COMMAND", help="what to do")
    parser.add_argument("arguments", metavar="...", nargs=argparse.REMAINDER, help="arguments of the command")
    args = yakonfig.parse_args(parser, [yakonfig, dblogger, coordinate])
    config = yakonfig.get_global_config(coordinate.config_name)
    if args.action == "run_one":
        sys.exit(_run_one(config, args.arguments))
    if args.action == "flow":
        _flow(config, args.arguments)
        return
    run_native(native_arguments(config, args.action, args.arguments))


def native_arguments(config: dict[str, Any], action: str, arguments: list[str]) -> list[str]:
    """The arguments of `coordinated` for a command, with the address of the configuration."""
    dropped = _DROPPED.get(action, set())
    given = [argument for argument in arguments if argument not in dropped]
    added = list(_ADDED.get(action, []))
    if action == "clear" and not _names_units(given):
        added.append("--all")
    address = config.get("address") or (config.get("addresses") and random.choice(config["addresses"]))
    if address:
        if isinstance(address, (list, tuple)):
            address = f"{address[0]}:{address[1]}"
        added += ["--server", address]
    return [action, *added, *given]


def _names_units(arguments: list[str]) -> bool:
    """Tells whether the arguments of `clear` say which units, by name or by status."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("-w", "--work-spec")
    parser.add_argument("-W", "--work-spec-name")
    parser.add_argument("-s", "--status")
    parser.add_argument("unit", nargs="*")
    known, unknown = parser.parse_known_args(arguments)
    return bool(known.status or known.unit or unknown)


def _flow(config: dict[str, Any], arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="coordinate flow", description="Set the work specs of a flow.")
    parser.add_argument("-c", "--config", metavar="FILE", help="another configuration for the work specs")
    parser.add_argument("file", metavar="FILE", help="a YAML file with the key `flows`")
    args = parser.parse_args(arguments)
    with open(args.file, encoding="utf-8") as stream:
        flow = yakonfig.load_yaml(stream)
    # Modules of the user's whose defaults become part of the configuration.
    names = flow.get("yakonfig_modules", ["yakonfig", "coordinate"])
    modules = [yakonfig if name == "yakonfig" else import_module(name) for name in names]
    with yakonfig.defaulted_config(modules, filename=args.config, config=yakonfig.get_global_config()) as of_specs:
        TaskMaster(config).add_flow(flow["flows"], config=of_specs)


def _run_one(config: dict[str, Any], arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="coordinate run_one", description="Run one work unit, or some.")
    parser.add_argument(
        "--from-work-spec", action="append", default=[], metavar="NAME", help="only of this work spec; repeatable"
    )
    parser.add_argument("--limit-seconds", type=int, metavar="N", help="begin none after N seconds")
    parser.add_argument("--limit-count", type=int, metavar="N", help="stop after N times")
    parser.add_argument("--max-jobs", type=int, metavar="N", help="get up to N units each time")
    args = parser.parse_args(arguments)
    worker = SingleWorker(config, work_spec_names=args.from_work_spec or None, max_jobs=args.max_jobs)
    worker.register()
    start = time.monotonic()
    count = 0
    try:
        while worker.run():
            count += 1
            if args.limit_seconds is None and args.limit_count is None:
                return 0
            if args.limit_seconds is not None and time.monotonic() - start >= args.limit_seconds:
                return 0
            if args.limit_count is not None and count >= args.limit_count:
                return 0
    finally:
        worker.unregister()
    return 2  # there was no work, or none any more


if __name__ == "__main__":
    main()
