"""The tests that PyPI's `coordinate` 0.1.5 ships pass against the daemon, converted but otherwise unchanged."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree
from pathlib import Path

import pytest
from convert import PACKAGE, package_with_published_tests
from daemon import running_daemon

# Those that talk to a server; the other 51 look inside the Python server. Each file with what to run of it,
# and how many tests that is. Together they are 65.
TESTS = {
    "test_client_retry": ("", 2),
    "test_fifolock": ("", 1),
    "test_job": (
        "test_max_running or test_job_server_update_data or (test_job_server_continuous and not interval)",
        3,
    ),
    "test_job_client": ("", 14),
    "test_job_flow": ("", 5),
    "test_rejester_worker": ("", 8),  # sleeps for more than a minute
    "test_task_master": ("", 32),
}

_SECONDS_MAX = 300


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = package_with_published_tests(tmp_path_factory.mktemp("published") / "packages")
    # The tests of workers give ten units, which sleep for two seconds each, 15 seconds. With a child for each of
    # two busy processors that is too close, so the workers see four.
    (folder / "sitecustomize.py").write_text("import os\nos.cpu_count = lambda: 4\n")
    return folder


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name == "test_rejester_worker" else ()) for name in TESTS]
)
def test_published_tests_pass(name: str, package: Path, tmp_path: Path) -> None:
    only, number = TESTS[name]
    results = tmp_path / "results.xml"
    command = [
        sys.executable, "-m", "pytest", "-p", "published_plugin", "-p", "no:cacheprovider", "-c", os.devnull,
        "--rootdir", str(package), "--basetemp", str(tmp_path / "tmp"), "--junitxml", str(results),
        "-k", f"({only}) and not conf1" if only else "test", "--pyargs", f"coordinate.tests.{name}",
    ]  # fmt: skip
    with running_daemon() as address:
        search = [package, Path(__file__).parent, PACKAGE.parent]
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
            "PYTHONPATH": os.pathsep.join(map(str, search)),
            "PUBLISHED_TESTS_DAEMON": address,
        }
        ended = subprocess.run(
            command,
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS_MAX,
            check=False,
        )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    suite = xml.etree.ElementTree.parse(results).getroot()[0]
    counts = {key: int(suite.get(key, "0")) for key in ("tests", "skipped", "failures", "errors")}
    assert counts == {"tests": number, "skipped": 0, "failures": 0, "errors": 0}, ended.stdout


def test_together_they_are_sixty_five() -> None:
    assert sum(number for _, number in TESTS.values()) == 65
