"""The supervisor's connection."""

from __future__ import annotations

import selectors
import socket
import time
from typing import Any

import pytest
from conftest import eventually

from coordinated._address import parse_address
from coordinated.worker.link import Link


def test_each_address_of_a_host_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        refusing = closed.getsockname()
    with socket.create_server(("127.0.0.1", 0)) as listener, selectors.DefaultSelector() as selector:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", target) for target in (refusing, listener.getsockname())]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        problems: list[Any] = []
        link = Link(parse_address("localhost:1"), selector, lambda: None, problems.append)

        def is_open() -> bool:
            link.tick(time.monotonic())
            for key, events in selector.select(0.01):
                key.data(events)
            return link.is_open

        eventually(is_open, "it is connected")
        link.close()
    assert [type(problem) for problem in problems] == [ConnectionRefusedError]
