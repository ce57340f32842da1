"""Fixtures for pytest: a real daemon for each test, and a client of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .client import Client
    from .testing import Daemon


@pytest.fixture
def coordinated_daemon() -> Iterator[Daemon]:
    """A daemon of the test's own, empty, in memory, on a Unix socket: `coordinated_daemon.server` is its address."""
    from .testing import Daemon

    with Daemon() as daemon:
        yield daemon


@pytest.fixture
def coordinated_client(coordinated_daemon: Daemon) -> Iterator[Client]:
    """A client of the test's own daemon."""
    with coordinated_daemon.client() as client:
        yield client
