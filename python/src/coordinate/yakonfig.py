"""The configuration of a program: one dictionary, from defaults, a YAML file and flags.

The package `yakonfig` on PyPI does not work with Python 3, so the part of it that
`coordinate` programs use is here; instead of `import yakonfig` they say
`from coordinate import yakonfig`.

A *module* below is anything with a `config_name`: usually a Python module. Its block of
the configuration has this name. All else is optional: `default_config` (a dictionary),
`sub_modules` (more of these, whose blocks are inside its own), `add_arguments(parser)`,
`runtime_keys` (from names of flags to keys of the block), `replace_config(block, name)`,
`discover_config(block, name)`, `check_config(block, name)`, `normalize_config(block)`.

Reading YAML needs PyYAML: `pip install coordinated[coordinate]`.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import os
import sys
from collections.abc import Callable, Generator, Iterable, Mapping
from types import MappingProxyType
from typing import IO, Any, cast

Config = dict[str, Any]

config_name = "yakonfig"
runtime_keys = {"config": "config"}

_global_config: Config | None = None
_global_config_path: str | None = None


class ConfigurationError(Exception):
    """The user's configuration is wrong or incomplete."""


class ProgrammerError(Exception):
    """A module does not meet the requirements of this one."""


class Configurable:
    """A module of the configuration as a class; instances of subclasses are given to parse_args."""

    config_name: str | None = None
    default_config: Mapping[str, Any] = MappingProxyType({})
    sub_modules: Iterable[Any] = ()
    runtime_keys: Mapping[str, str] = MappingProxyType({})

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Adds flags to the command line."""

    def replace_config(self, config: Config, name: str = "") -> Any:
        """Returns the module to use instead of this one."""
        return self

    def discover_config(self, config: Config, name: str = "") -> None:
        """Puts what it finds by itself into the block."""

    def check_config(self, config: Config, name: str = "") -> None:
        """Raises ConfigurationError if the block is wrong."""

    def normalize_config(self, config: Config) -> None:
        """Changes the complete block in place, last of all."""


# The global configuration


def set_global_config(path_dict_or_stream: str | Config | IO[str]) -> Config:
    """Sets the global configuration to a dictionary, or to the YAML of a path or stream.

    A second path that differs from the first is refused until clear_global_config().
    """
    global _global_config, _global_config_path
    source: Any = path_dict_or_stream
    if isinstance(source, str):
        if _global_config_path is not None and _global_config_path != source:
            raise Exception(
                f"the configuration {_global_config_path!r} is set already: "
                f"call clear_global_config() before setting {source!r}"
            )
        with open(source, encoding="utf-8") as stream:
            config = load_yaml(stream)
        _global_config_path = source
    elif isinstance(source, Mapping):
        config = cast(Config, source)
    elif hasattr(source, "read"):
        config = load_yaml(source)
    else:
        raise Exception(f"a configuration is a path, a mapping or a stream, not {source!r}")
    _global_config = config
    return cast(Config, config)


def get_global_config(*args: str) -> Any:
    """The global configuration, or what is at these keys of it, one inside the other.

    Raises KeyError if a key is missing, or no configuration has been set.
    """
    found: Any = _global_config
    if found is None:
        raise KeyError(args[0] if args else None)
    for key in args:
        found = found[key]
    return found


def clear_global_config() -> None:
    """Forgets the global configuration."""
    global _global_config, _global_config_path
    _global_config = _global_config_path = None


@contextlib.contextmanager
def _temporary_config() -> Generator[None, None, None]:
    global _global_config, _global_config_path
    saved = (_global_config, _global_config_path)
    clear_global_config()
    try:
        yield
    finally:
        _global_config, _global_config_path = saved


# Merging


def overlay_config(base: Any, overlay: Any) -> Any:
    """`base`, changed by `overlay`: its keys win, key by key at every depth, and None deletes."""
    if not isinstance(base, Mapping) or not isinstance(overlay, Mapping):
        return overlay
    result = {key: value for key, value in base.items() if key not in overlay}
    for key, value in overlay.items():
        if key not in base:
            if value is not None:
                result[key] = value
        elif value is not None or base[key] is None:
            result[key] = overlay_config(base[key], value)
    return result


def diff_config(base: Any, target: Any) -> Any:
    """What overlay_config has to lay over `base` to get `target`; {} if they are equal."""
    if not isinstance(base, Mapping) or not isinstance(target, Mapping):
        return {} if base == target and not isinstance(base, Mapping) else target
    result: Config = {key: None for key in base if key not in target}
    for key, value in target.items():
        difference = diff_config(base[key], value) if key in base else value
        if key not in base or difference != {}:
            result[key] = difference
    return result


# Reading


def load_yaml(stream: IO[str]) -> Any:
    """Reads YAML, with `!include FILE` (relative to the file itself) and strings dumped by Python 2."""
    try:
        import yaml
    except ImportError:
        raise ImportError("reading a YAML configuration needs PyYAML: pip install coordinated[coordinate]") from None

    class Loader(yaml.SafeLoader):
        """With more tags than YAML's own."""

    def include(loader: Any, node: Any) -> Any:
        path = loader.construct_scalar(node)
        if not os.path.isabs(path):
            name = getattr(stream, "name", None)
            if not isinstance(name, str):
                raise ConfigurationError(f"!include {path}: a relative path, but this YAML is not in a file")
            path = os.path.join(os.path.dirname(name), path)
        with open(path, encoding="utf-8") as included:
            return load_yaml(included)

    def pass_on(loader: Any, node: Any) -> Any:
        return loader.construct_scalar(node)

    def construct_tuple(loader: Any, node: Any) -> Any:
        return tuple(loader.construct_sequence(node, deep=True))

    python = "tag:yaml.org,2002:python/"
    for tag, construct in (
        ("!include", include),
        ("!include_yaml", include),
        (python + "str", pass_on),
        (python + "unicode", pass_on),
        (python + "long", lambda loader, node: loader.construct_yaml_int(node)),
        (python + "tuple", construct_tuple),
    ):
        Loader.add_constructor(tag, construct)
    return yaml.load(stream, Loader)


# Putting the configuration together


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of this module."""
    parser.add_argument("--config", "-c", metavar="FILE", help="read configuration from FILE")
    parser.add_argument(
        "--dump-config",
        metavar="WHAT",
        nargs="?",
        const="effective",
        help="print the configuration and stop: default, full, or effective (what differs from the default)",
    )


def parse_args(
    parser: argparse.ArgumentParser, modules: Iterable[Any], args: list[str] | None = None
) -> argparse.Namespace:
    """Parses the command line with the flags of all modules, and sets the global configuration.

    Returns the parsed flags. With --dump-config it prints and exits, and after an error in
    the configuration it exits with a message.
    """
    modules = list(modules)

    def add(block: Config | None, module: Any, name: str) -> None:
        if hasattr(module, "add_arguments"):
            module.add_arguments(parser)

    _walk(None, modules, add)
    namespace = parser.parse_args(args)
    what = getattr(namespace, "dump_config", None)
    try:
        set_default_config(modules, params=vars(namespace), validate=not what)
        if what:
            _dump(what, modules)
            parser.exit()
    except ConfigurationError as error:
        parser.error(str(error))
    return namespace


def _dump(what: str, modules: list[Any]) -> None:
    import yaml

    dumped = get_global_config()
    if what == "default":
        dumped = _default_config(modules)
    elif what != "full":
        dumped = diff_config(_default_config(modules), dumped)
    yaml.safe_dump(dumped, sys.stdout)


def set_default_config(
    modules: Iterable[Any],
    params: Mapping[str, Any] | None = None,
    yaml: str | None = None,
    filename: str | None = None,
    config: Config | None = None,
    validate: bool = True,
) -> Config:
    """Sets and returns the global configuration, without a command line.

    It is made of the modules' defaults; over them `yaml` (text), else the file `filename`, else
    `config`, else the file `params['config']`; and over these, what `params` has for the
    modules' runtime_keys. Raises ConfigurationError if it is wrong.
    """
    modules = list(modules)
    params = params or {}
    if yaml is None and filename is None and config is None:
        filename = params.get("config")
    given: Any = {}
    if yaml is not None:
        given = load_yaml(io.StringIO(yaml)) or {}
    elif filename is not None:
        with open(filename, encoding="utf-8") as stream:
            given = load_yaml(stream) or {}
    elif config is not None:
        given = config
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"the configuration must be a map, not {given!r}")

    # A module may put another in its place, depending on its block.
    first = _assemble(given, modules, params, discover=False)
    modules = [
        module.replace_config(first.get(module.config_name, {}), module.config_name)
        if hasattr(module, "replace_config")
        else module
        for module in modules
    ]
    complete = _assemble(given, modules, params, discover=True)
    if validate and modules and hasattr(modules[-1], "check_config"):
        with _temporary_config():
            set_global_config(complete)
            name = modules[-1].config_name
            modules[-1].check_config(complete[name], name)

    def normalize(block: Config, module: Any, name: str) -> None:
        if hasattr(module, "normalize_config"):
            module.normalize_config(block)

    _walk(complete, modules, normalize)
    return set_global_config(complete)


@contextlib.contextmanager
def defaulted_config(
    modules: Iterable[Any],
    params: Mapping[str, Any] | None = None,
    yaml: str | None = None,
    filename: str | None = None,
    config: Config | None = None,
    validate: bool = True,
) -> Generator[Config, None, None]:
    """set_default_config for a `with` block; afterwards the configuration is what it was."""
    with _temporary_config():
        yield set_default_config(modules, params, yaml, filename, config, validate)


def check_toplevel_config(what: Any, who: str) -> None:
    """Raises ConfigurationError if `who` lacks the block of the module `what`, or it is wrong."""
    config = get_global_config()
    if what.config_name not in config:
        raise ConfigurationError(f"{who} needs the top-level configuration {what.config_name}")
    if hasattr(what, "check_config"):
        what.check_config(config[what.config_name], what.config_name)


def check_subconfig(config: Config, name: str, sub: Any) -> None:
    """Has the module `sub` check its block, which is inside the block `config` called `name`."""
    block = config.get(sub.config_name)
    if not isinstance(block, Mapping):
        raise ProgrammerError(f"configuration for {sub.config_name} in {name} must be a map")
    if hasattr(sub, "check_config"):
        sub.check_config(block, f"{name}.{sub.config_name}")


def _assemble(given: Mapping[str, Any], modules: list[Any], params: Mapping[str, Any], discover: bool) -> Config:
    """Defaults, what is given, and flags, in one new dictionary."""
    own = copy.deepcopy(dict(given))
    _walk(own, modules, lambda block, module, name: None)  # so that every block exists
    if discover:

        def find(block: Config, module: Any, name: str) -> None:
            if hasattr(module, "discover_config"):
                module.discover_config(block, name)

        _walk(own, modules, find)
    complete: Config = overlay_config(_default_config(modules), own)

    def fill_in(block: Config, module: Any, name: str) -> None:
        for flag, key in getattr(module, "runtime_keys", {}).items():
            if params.get(flag) is not None:
                block[key] = params[flag]

    _walk(complete, modules, fill_in)
    return complete


def _default_config(modules: list[Any]) -> Config:
    defaults: Config = {}

    def add(block: Config, module: Any, name: str) -> None:
        if block:
            raise ProgrammerError(f"two modules have the configuration {name}")
        block.update(copy.deepcopy(dict(getattr(module, "default_config", {}))))

    _walk(defaults, modules, add)
    return defaults


def _walk(
    config: Config | None,
    modules: Iterable[Any],
    visit: Callable[[Any, Any, str], None],
    prefix: str = "",
) -> None:
    """Calls visit(block, module, full name) for all modules, parents first; makes missing blocks.

    Without a configuration the block is None.
    """
    for module in modules:
        key = getattr(module, "config_name", None)
        if key is None:
            raise ProgrammerError(f"{module!r} must have a config_name")
        block: Config | None = None
        if config is not None:
            block = cast(Config, config.setdefault(key, {}))
            if not isinstance(block, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise ConfigurationError(f"configuration {prefix + key} must be a map, not {block!r}")
        visit(block, module, prefix + key)
        _walk(block, getattr(module, "sub_modules", ()), visit, prefix + key + ".")
