"""A daemon for tests: it starts, stops, and keeps what it should."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinated import Client, CoordinateError, Unit
from coordinated.testing import Daemon, find_binary


def test_the_fixtures_give_a_daemon_of_the_tests_own(coordinated_client: Client) -> None:
    assert coordinated_client.server_info()["server"] == "coordinated"
    assert coordinated_client.specs() == []


def test_a_daemon_with_a_file_has_its_data_after_it_was_killed(tmp_path: Path) -> None:
    with Daemon(tmp_path / "db") as daemon, daemon.client() as client:
        client.set_spec({"name": "s"})
        client.add(Unit("s", "k", {"n": 1}))
        daemon.kill()
        daemon.start()
        assert client.data(Unit("s", "k")) == {"n": 1}


def test_a_daemon_that_does_not_start_says_why() -> None:
    with pytest.raises(CoordinateError, match="no-such-flag"), Daemon(None, "--no-such-flag"):
        pass


def test_a_missing_program_is_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("COORDINATED_BINARY", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    with pytest.raises(CoordinateError, match="COORDINATED_BINARY"):
        find_binary()
