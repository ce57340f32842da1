"""A worker at a `tls:` address."""

from __future__ import annotations

import selectors
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import worker_jobs as jobs
from certificates import Authority, tls_daemon
from conftest import PATIENCE_S, Start, eventually

from coordinated import Client, Status, TlsError, Worker, _methods
from coordinated._address import parse_address
from coordinated.worker.link import Call, Link


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


def test_a_worker_command_waits_for_work_through_mutual_tls_and_can_be_stopped(
    authority: Authority, start_worker: Start
) -> None:
    certificate = authority.issue("server", "127.0.0.1")
    wanted = ("--tls-client-ca", str(authority.path))
    with tls_daemon(certificate, *wanted) as (daemon, server, _plain), daemon.client() as client:
        files = ("--tls-ca", str(authority.path), "--tls-client-cert", str(authority.issue("client", "client")))
        worker = start_worker("worker_jobs:add", "-p", "1", "--server", server, *files)
        eventually(client.workers, "the worker is there")
        for number in range(3):
            assert client.result(client.add(jobs.add, number), timeout=PATIENCE_S) == number + 1
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(PATIENCE_S) == 0


def test_many_units_and_large_ones_pass_through_tls(authority: Authority) -> None:
    certificate = authority.issue("server", "127.0.0.1")
    with tls_daemon(certificate) as (_, server, _plain), Client(server, tls=authority.tls) as client:
        client.add_many(jobs.add.unit(number) for number in range(5_000))
        units = [client.add(jobs.echo, character * (1 << 21)) for character in "abc"]
        worker = Worker(jobs.add, jobs.echo, server=server, tls=authority.tls, processes=2)
        assert worker.run(until_empty=True).finished == 5_003
        assert client.count(jobs.add) == {Status.FINISHED: 5_000}
        assert [client.result(unit) for unit in units] == [character * (1 << 21) for character in "abc"]


@pytest.mark.parametrize("processes", [0, 1])
def test_a_worker_that_does_not_trust_the_daemon_ends_and_says_what_to_do(
    authority: Authority, tmp_path: Path, processes: int
) -> None:
    certificate = authority.issue("server", "127.0.0.1")
    wanted = ("--tls-client-ca", str(authority.path))
    with tls_daemon(certificate, *wanted) as (_, server, plain):
        for at, tls, words in (
            (server, Authority(tmp_path / "stranger").tls, "no trusted CA has signed"),
            (server, authority.tls, "requires a client certificate"),
            (f"tls:{plain}", authority.tls, "does not speak TLS"),
        ):
            with pytest.raises(TlsError, match=words):
                Worker(jobs.add, server=at, tls=tls, processes=processes).run()


def test_a_worker_command_names_a_file_that_it_cannot_read(start_worker: Start) -> None:
    worker = start_worker("worker_jobs:add", "--server", "tls:127.0.0.1:1", "--tls-ca", "none.pem")
    _, errors = worker.communicate(timeout=PATIENCE_S)
    assert worker.returncode == 1
    assert errors.splitlines() == [
        "coordinated-worker: can't read none.pem: No such file or directory; check the path and its permissions"
    ]


def test_a_request_that_waits_is_answered_when_no_more_is_to_come(authority: Authority) -> None:
    certificate = authority.issue("server", "127.0.0.1")
    with tls_daemon(certificate) as (daemon, server, _plain), daemon.client() as client:
        client.set_spec({"name": "s"})
        selector = selectors.DefaultSelector()
        answers: list[Any] = []
        problems: list[Exception] = []
        link = Link(parse_address(server), selector, lambda: None, problems.append, tls=authority.tls)

        def until(condition: Callable[[], object], what: str) -> None:
            def turn() -> object:
                link.tick(0.0)
                for key, events in selector.select(0.01):
                    key.data(events)
                return condition() or problems

            eventually(turn, what)
            assert not problems

        until(lambda: link.is_free, "it is connected")
        request = _methods.get_work("w", specs=["s"], lease_s=60, wait=60)
        link.send([Call(request.method, request.params, answers.append, problems.append)], alone=True)
        link.hurry()
        until(lambda: answers, "it is answered")
        units, _message = answers[0]
        assert not any(units)
        link.close()
