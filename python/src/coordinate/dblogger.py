"""The `logging` block of a configuration, which goes to logging.config.

Named after the package on PyPI whose part it takes: a program says
`from coordinate import dblogger` and passes it to yakonfig.parse_args. That package's log
handler for databases is not here.
"""

from __future__ import annotations

import argparse
import logging
from logging.config import dictConfig
from typing import Any

config_name = "logging"
runtime_keys = {"verbose": "verbose", "quiet": "quiet", "debug": "debug"}
default_config: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "verbose": 0,
    "quiet": 0,
    "debug": [],
    "formatters": {
        "fixed": {
            "()": "coordinate.dblogger.FixedWidthFormatter",
            "format": "%(asctime)-23s pid=%(process)-5d %(fixed_width_filename_lineno)s "
            "%(fixed_width_levelname)s %(message)s",
        },
    },
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "fixed", "level": "INFO"},
        "debug": {"class": "logging.StreamHandler", "formatter": "fixed", "level": "DEBUG"},
    },
    "root": {"handlers": ["console"], "level": "NOTSET"},
    "loggers": {},
}


class FixedWidthFormatter(logging.Formatter):
    """Has two more keys, `fixed_width_filename_lineno` and `fixed_width_levelname`, as columns."""

    filename_width = 17
    levelname_width = 8

    def format(self, record: logging.LogRecord) -> str:
        """Formats a record, as logging asks for it."""
        line = f":{record.lineno}"
        place = record.filename[: self.filename_width - 2 - len(line)] + line
        record.fixed_width_filename_lineno = place.ljust(self.filename_width)
        record.fixed_width_levelname = record.levelname.ljust(self.levelname_width)
        return super().format(record)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags for how much to log."""
    parser.add_argument("--verbose", "-v", action="count", help="log more")
    parser.add_argument("--quiet", "-q", action="count", help="log less")
    parser.add_argument("--debug", action="append", metavar="LOGGER", help="log all of this logger")


def normalize_config(config: dict[str, Any]) -> None:
    """Applies the flags to the block, and sets logging up with it."""
    steps = (config.get("verbose") or 0) - (config.get("quiet") or 0)
    handlers = config.get("handlers", {})
    if steps and "console" in handlers:
        level = handlers["console"].get("level", "INFO")
        number = level if isinstance(level, int) else getattr(logging, str(level), None)
        if isinstance(number, int):
            number = max(logging.NOTSET, min(logging.CRITICAL, number - 10 * steps))
            handlers["console"]["level"] = number
        if steps > 0:
            of_root = config.setdefault("root", {}).setdefault("handlers", [])
            if "console" not in of_root:
                of_root.append("console")
    for name in config.get("debug") or []:
        logger = config.setdefault("loggers", {}).setdefault(name, {})
        logger.setdefault("handlers", []).append("debug")
        logger.setdefault("level", "DEBUG")
    for formatter in config.get("formatters", {}).values():
        # Files of Python 2 name the class where it was.
        if formatter.get("()") == "dblogger.FixedWidthFormatter":
            formatter["()"] = "coordinate.dblogger.FixedWidthFormatter"
    # They are part of the rest now.
    config.update(verbose=0, quiet=0, debug=[])
    dictConfig(config)


def configure_logging(config: dict[str, Any]) -> None:
    """Sets logging up by the key `logging` of a configuration, or by the configuration itself."""
    block = config.get("logging", config if config.get("version") == 1 else {})
    block.setdefault("version", 1)
    if not block.setdefault("handlers", {}):
        block.setdefault("formatters", {}).setdefault("fixed", default_config["formatters"]["fixed"])
        block["handlers"]["console"] = {"class": "logging.StreamHandler", "formatter": "fixed"}
        block.setdefault("root", {})["handlers"] = ["console"]
    block["disable_existing_loggers"] = False
    dictConfig(block)
