"""Makes Python 3 of Python 2 programs, among them the tests of PyPI's `coordinate` 0.1.5.

The tests are not ours, so they are not in this repository: they come from the package,
which tests/python installs for Python 2.7 to test the daemon with. That Python also has the
converter, lib2to3, which Python 3.13 has no more.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import subprocess
from importlib.machinery import SourceFileLoader
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
PACKAGE = Path(__file__).resolve().parents[2] / "src" / "coordinate"


@functools.cache
def python2() -> Path:
    """The virtual environment with Python 2.7 and `coordinate` 0.1.5, made if it is missing.

    Another one can be named by $COORDINATED_PYTHON2_ENV.
    """
    given = os.environ.get("COORDINATED_PYTHON2_ENV")
    if given:
        return Path(given)
    loader = SourceFileLoader("python2_suite", str(REPOSITORY / "tests" / "python" / "run"))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    suite = importlib.util.module_from_spec(spec)
    loader.exec_module(suite)
    environment: Path = suite.make_environment(suite.find_python())
    return environment


def python2_environment(**more: str) -> dict[str, str]:
    """The variables for a process of Python 2: ours without those that are for Python 3."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST_"))}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1", **more}


def convert(source: Path, destination: Path) -> None:
    """Converts the modules of a folder into another, as `2to3` does; nothing is changed by hand."""
    destination.mkdir(parents=True)
    command = [
        str(python2() / "bin" / "python"), "-m", "lib2to3", "--write", "--nobackups", "--no-diffs",
        "--write-unchanged-files", "--output-dir", str(destination), str(source),
    ]  # fmt: skip
    ended = subprocess.run(command, env=python2_environment(), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def package_with_published_tests(folder: Path) -> Path:
    """Makes a package `coordinate` in a folder: our modules, and the published tests, converted.

    Returns the folder, for PYTHONPATH.
    """
    package = folder / "coordinate"
    package.mkdir(parents=True)
    for module in PACKAGE.glob("*.py"):
        shutil.copy(module, package)
    (published,) = python2().glob("lib/python2.7/site-packages/coordinate/tests")
    convert(published, package / "tests")
    return folder
