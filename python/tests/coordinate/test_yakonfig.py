"""The configuration of programs."""

from __future__ import annotations

import argparse
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import coordinate
from coordinate import dblogger, yakonfig

DATABASE = SimpleNamespace(config_name="database", default_config={"port": 1, "names": ["a"]})
PROGRAM = SimpleNamespace(
    config_name="program",
    default_config={"level": 1},
    sub_modules=[DATABASE],
    runtime_keys={"level": "level"},
    add_arguments=lambda parser: parser.add_argument("--level", type=int),
)


@pytest.fixture(autouse=True)
def no_configuration() -> Iterator[None]:
    yield
    yakonfig.clear_global_config()


@pytest.mark.parametrize(
    ("base", "overlay", "result"),
    [
        ({"a": 1}, {"a": 2}, {"a": 2}),
        ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": None, "d": 3}}, {"a": {"c": 2, "d": 3}}),
        ({"a": 1}, {"a": None}, {}),
        ({}, {"a": None}, {}),
        ({"a": None}, {"a": None}, {"a": None}),
        ({"a": {"b": 1}}, {"a": 2}, {"a": 2}),
        (1, {"a": 1}, {"a": 1}),
    ],
)
def test_overlay_and_its_difference(base: Any, overlay: Any, result: Any) -> None:
    assert yakonfig.overlay_config(base, overlay) == result
    assert yakonfig.overlay_config(base, yakonfig.diff_config(base, result)) == result
    assert yakonfig.diff_config(result, result) == {}


def test_defaults_file_and_flags_in_this_order(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("program: {level: 2, database: {port: 3}}\nmore: {x: 1}\n")
    parser = argparse.ArgumentParser()
    args = yakonfig.parse_args(parser, [yakonfig, PROGRAM], ["-c", str(path), "--level", "4"])
    assert args.level == 4
    assert yakonfig.get_global_config("program") == {"level": 4, "database": {"port": 3, "names": ["a"]}}
    assert yakonfig.get_global_config("more", "x") == 1
    assert yakonfig.get_global_config("yakonfig", "config") == str(path)
    # The defaults themselves have not changed.
    assert yakonfig.set_default_config([PROGRAM])["program"] == {"level": 1, "database": {"port": 1, "names": ["a"]}}


def test_a_missing_key_or_configuration_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        yakonfig.get_global_config()
    yakonfig.set_global_config({"a": {}})
    with pytest.raises(KeyError, match="b"):
        yakonfig.get_global_config("a", "b")


def test_defaulted_config_restores_what_was_there() -> None:
    yakonfig.set_global_config({"a": 1})
    with yakonfig.defaulted_config([PROGRAM], yaml="program: {level: 5}") as config:
        assert config["program"]["level"] == yakonfig.get_global_config("program", "level") == 5
    assert yakonfig.get_global_config() == {"a": 1}


def test_the_last_module_checks_the_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    def check_config(config: Any, name: str) -> None:
        yakonfig.check_toplevel_config(PROGRAM, name)

    checking = SimpleNamespace(config_name="checking", check_config=check_config)
    yakonfig.set_default_config([PROGRAM, checking])
    with pytest.raises(yakonfig.ConfigurationError, match="checking needs the top-level configuration program"):
        yakonfig.set_default_config([checking])
    with pytest.raises(SystemExit):
        yakonfig.parse_args(argparse.ArgumentParser(), [checking], [])
    assert "checking needs" in capsys.readouterr().err


def test_a_block_that_is_no_map_is_refused() -> None:
    with pytest.raises(yakonfig.ConfigurationError, match=r"program\.database must be a map"):
        yakonfig.set_default_config([PROGRAM], yaml="program: {database: 1}")


def test_modules_can_be_replaced_and_find_and_normalize_values() -> None:
    class Replaced(yakonfig.Configurable):
        config_name = "first"

        def replace_config(self, config: dict[str, Any], name: str = "") -> Any:
            return SimpleNamespace(
                config_name="first",
                default_config={"kind": "none", "size": 1},
                discover_config=lambda block, name: block.setdefault("found", name),
                normalize_config=lambda block: block.update(size=block["size"] * 10),
            )

    config = yakonfig.set_default_config([Replaced()], config={"first": {"kind": "x"}})
    assert config == {"first": {"kind": "x", "size": 10, "found": "first"}}


def test_files_include_others_beside_them(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "outer.yaml").write_text("a: !include inner/b.yaml\n")
    (tmp_path / "inner" / "b.yaml").write_text("b: !include_yaml c.yaml\n")
    (tmp_path / "inner" / "c.yaml").write_text("[1, 2]\n")
    assert yakonfig.set_global_config(str(tmp_path / "outer.yaml")) == {"a": {"b": [1, 2]}}
    with pytest.raises(yakonfig.ConfigurationError, match="not in a file"):
        yakonfig.load_yaml(io.StringIO("a: !include b.yaml"))


def test_yaml_that_python_2_dumped_is_read() -> None:
    dumped = "a: !!python/unicode 'f\xfc'\nb: !!python/tuple [1, !!python/long '2']\nc: !!python/str 'x'\n"
    assert yakonfig.load_yaml(io.StringIO(dumped)) == {"a": "f\xfc", "b": (1, 2), "c": "x"}


@pytest.mark.parametrize(
    ("what", "printed"),
    [
        ([], "program:\n  level: 7\n"),
        (["default"], "program:\n  database:\n    names:\n    - a\n    port: 1\n  level: 1\nyakonfig: {}\n"),
        (["full"], "program:\n  database:\n    names:\n    - a\n    port: 1\n  level: 7\nyakonfig: {}\n"),
    ],
)
def test_dump_config_prints_and_exits(what: list[str], printed: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        yakonfig.parse_args(argparse.ArgumentParser(), [yakonfig, PROGRAM], ["--level", "7", "--dump-config", *what])
    assert ended.value.code == 0
    assert capsys.readouterr().out == printed


def test_the_logging_block_and_its_flags_set_up_logging(tmp_path: Path) -> None:
    log = tmp_path / "log"
    text = f"""
logging:
  formatters:
    fixed: {{(): dblogger.FixedWidthFormatter, format: '%(fixed_width_filename_lineno)s %(fixed_width_levelname)s %(message)s'}}
  handlers:
    file: {{class: logging.FileHandler, filename: {log}, formatter: fixed}}
  root: {{handlers: [file], level: INFO}}
"""  # noqa: E501
    saved = (logging.root.handlers[:], logging.root.level)
    try:
        yakonfig.set_default_config([yakonfig, dblogger, coordinate], yaml=text, params={"debug": ["chatty"]})
        logging.getLogger("somebody").info("hello")
        assert [handler.level for handler in logging.getLogger("chatty").handlers] == [logging.DEBUG]
    finally:
        for handler in logging.root.handlers:
            if handler not in saved[0]:
                handler.close()
        logging.root.handlers[:], logging.root.level = saved
        logging.getLogger("chatty").handlers.clear()
    (line,) = log.read_text().splitlines()
    assert line.startswith("test_yakonf")
    assert line.endswith(" INFO     hello")


@pytest.mark.parametrize(("flags", "level"), [({}, "INFO"), ({"verbose": 1}, 10), ({"quiet": 2}, 40)])
def test_verbose_and_quiet_change_what_the_console_shows(flags: dict[str, int], level: object) -> None:
    saved = (logging.root.handlers[:], logging.root.level)
    try:
        config = yakonfig.set_default_config([dblogger], params=flags)
    finally:
        logging.root.handlers[:], logging.root.level = saved
    assert config["logging"]["handlers"]["console"]["level"] == level
