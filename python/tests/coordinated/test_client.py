"""The blocking client, against a real daemon."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from helpers import fail, finish, report, take

from coordinated import (
    Added,
    Backoff,
    Client,
    CoordinateError,
    LockHeld,
    NoSuchSpec,
    NoSuchUnit,
    Progress,
    RequestRefused,
    ServerUnreachable,
    Status,
    Unit,
    UnitCancelled,
    UnitExists,
    UnitFailed,
    UnwritableValue,
    WaitTimeout,
    spec,
)
from coordinated.testing import Daemon


@spec(retries=1, backoff=Backoff(first=3600))
def double(number: int, *, note: str = "") -> int:
    return 2 * number


@spec
def parse(text: str) -> str:
    return text


@spec("first", then=parse)
def chained(text: str) -> Iterator[Unit[str]]:
    yield parse.unit(text)


@pytest.fixture
def client(coordinated_client: Client) -> Client:
    return coordinated_client


def test_adding_a_unit_sets_its_work_spec_and_those_behind_it(client: Client) -> None:
    unit = client.add(chained, "a")
    assert [one["name"] for one in client.specs()] == ["first", "parse"]
    assert client.get_spec(chained) == chained.definition()
    assert client.state(unit).status is Status.AVAILABLE
    assert client.data(unit) == {"text": "a"}


def test_a_unit_with_options_has_them(client: Client) -> None:
    unit = client.add(double.options(key="k", priority=7, delay=3600, group="acme"), number=1, note="n")
    assert (unit.key, client.data(unit)) == ("k", {"number": 1, "note": "n"})
    assert client.state(unit).group == "acme"
    assert client.summary()[0].delayed == 1


def test_a_key_that_exists_is_not_added_again(client: Client) -> None:
    client.add(double.options(key="k"), 1)
    unit = client.add(double.options(key="k"), 2)
    assert client.data(unit) == {"number": 1}
    client.add(double.options(key="k").unit(3), if_exists="reset")
    assert client.data(unit) == {"number": 3}
    with pytest.raises(UnitExists, match='choose another key, or add it with if_exists="skip"'):
        client.add(unit, if_exists="error")


def test_a_unit_of_a_program_in_another_language_is_added_by_name(client: Client) -> None:
    client.set_spec({"name": "thumbnails", "runtime": "exec", "command": ["true"]})
    unit = client.add(Unit("thumbnails", "a.png", {"size": (1, 2), "raw": b"\x00\xff"}))
    assert client.data(unit) == {"size": (1, 2), "raw": b"\x00\xff"}
    with pytest.raises(TypeError, match="has its data already"):
        client.add(unit, 5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


def test_a_unit_of_an_unknown_work_spec_is_refused(client: Client) -> None:
    with pytest.raises(NoSuchSpec, match='no work spec "nothing": set it with'):
        client.add(Unit("nothing", "k"))


def test_a_work_spec_that_was_deleted_is_set_again_by_the_next_add(client: Client) -> None:
    client.add(double, 1)
    assert client.delete_spec(double)
    client.add(double, 2)
    assert client.count(double) == {Status.AVAILABLE: 1}
    assert not client.delete_spec("nothing")


def test_keys_that_are_not_utf_8_are_like_file_names(client: Client) -> None:
    client.set_spec({"name": "files"})
    name = os.fsdecode(b"caf\xe9.txt")
    client.add(Unit("files", name, {"n": 1}))
    assert dict(client.units("files")) == {name: {"n": 1}}
    assert client.data(Unit("files", name)) == {"n": 1}
    assert os.fsencode(take(client, "files").key) == b"caf\xe9.txt"


def test_a_value_that_cannot_be_sent_is_refused_before_anything_is_sent(client: Client) -> None:
    with pytest.raises(UnwritableValue, match="'number'"):
        client.add(double, number=object())  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    assert client.specs() == []


def test_many_units_come_from_a_generator_without_being_kept(client: Client) -> None:
    most = 0
    taken = 0

    def units() -> Iterator[Unit[int]]:
        nonlocal most, taken
        for number in range(30_000):
            taken += 1
            if number % 5_000 == 0:
                added = sum(client.count(double).values()) if number else 0
                most = max(most, taken - added)
            yield double.options(key=f"{number:05}").unit(number)

    assert client.add_many(units()) == Added(new=30_000)
    # What was taken from the generator is soon in the daemon: 8 requests of 1,000 units at most are on their way.
    assert most <= 10_000
    assert client.add_many(double.options(key=f"{n:05}").unit(n) for n in range(29_990, 30_010)) == Added(10, 0, 10)


def test_many_units_can_be_of_several_work_specs(client: Client) -> None:
    def units() -> Iterator[Unit[Any]]:
        for number in range(1_500):
            yield double.unit(number)
            yield parse.unit(str(number))

    assert client.add_many(units()).total == 3_000
    assert client.count(double) == client.count(parse) == {Status.AVAILABLE: 1_500}


def test_no_units_are_no_request(client: Client) -> None:
    assert client.add_many([]) == Added()


def test_an_error_in_the_generator_leaves_the_client_usable(client: Client) -> None:
    def units() -> Iterator[Unit[int]]:
        yield from (double.unit(number) for number in range(5_000))
        raise KeyError("broken")

    with pytest.raises(KeyError):
        client.add_many(units())
    assert client.server_info()["server"] == "coordinated"
    assert client.add_many(double.options(key="k").unit(1) for _ in range(3)) == Added(1, 0, 2)


def test_a_refused_group_leaves_the_client_usable(client: Client) -> None:
    client.add(double.options(key="k"), 1)
    with pytest.raises(UnitExists):
        client.add_many((double.options(key="k").unit(n) for n in range(12_000)), if_exists="error")
    assert client.count(double) == {Status.AVAILABLE: 1}


def test_a_result_is_waited_for(client: Client) -> None:
    unit = client.add(double, 21)
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(client.result, unit, 30)
        finish(client, "double", double)
        assert waiting.result() == 42
    assert client.result(unit, timeout=0) == 42
    state = client.wait(unit)
    assert (state.done, state.worker, state.status) == (True, "w", Status.FINISHED)


def test_a_result_that_does_not_come_is_a_timeout_that_says_why(client: Client) -> None:
    unit = client.add(double, 1)
    with pytest.raises(WaitTimeout, match="no worker has taken it"):
        client.result(unit, timeout=0.01)
    take(client, "double")
    with pytest.raises(TimeoutError, match="it is pending"):
        client.result(unit, timeout=0.01)


def test_a_failed_unit_raises_its_traceback(client: Client) -> None:
    unit = client.add(parse, "a")
    fail(client, "parse", "Traceback ...\nValueError: no such page")
    with pytest.raises(UnitFailed, match="has failed: ValueError: no such page") as caught:
        client.result(unit)
    assert (caught.value.key, caught.value.traceback[:9]) == (unit.key, "Traceback")
    [failure] = client.failures(parse)
    assert (failure.message, failure.count, failure.first_key) == ("ValueError: no such page", 1, unit.key)


def test_a_unit_that_will_be_tried_again_has_not_failed(client: Client) -> None:
    unit = client.add(double, 1)
    told = fail(client, "double", "boom")
    assert told.retry is not None
    assert (told.retry.failures, told.retry.retries) == (1, 1)
    state = client.state(unit)
    assert (state.done, state.failures, state.retries) == (False, 1, 1)
    assert state.retry_at is not None
    assert client.why(unit)[0].code == "retry"
    assert client.retry(unit) == 1  # now, not in an hour
    finish(client, "double", double)
    assert client.result(unit) == 2
    assert client.retry(unit) == 0
    assert [attempt.status for attempt in client.attempts(unit)] == [Status.FINISHED, Status.FAILED]


def test_failed_units_are_retried_by_their_message(client: Client) -> None:
    client.add_many(parse.options(key=key).unit(key) for key in "abc")
    for message in ("x\nTimeoutError: a", "TimeoutError: b", "ValueError: c"):
        fail(client, "parse", message)
    assert client.retry(parse, matching="TimeoutError") == 2
    assert client.count(parse) == {Status.AVAILABLE: 2, Status.FAILED: 1}
    assert client.retry("parse") == 1


def test_units_that_do_not_exist_are_errors_that_say_so(client: Client) -> None:
    client.set_spec(parse)
    unit = Unit("parse", "nothing", definition=parse)
    for ask in (client.state, client.wait, client.data, client.result, client.attempts, client.progress, client.retry):
        with pytest.raises(NoSuchUnit, match='has no unit "nothing"'):
            ask(unit)
    assert client.states([unit]) == [None]
    other = Unit("other", "k")
    for question in (client.state, client.data, client.why):
        with pytest.raises(NoSuchSpec):
            question(other)
    with pytest.raises(NoSuchSpec):
        client.get_spec("other")


def test_a_unit_that_is_deleted_ends_the_wait_for_it(client: Client) -> None:
    unit = client.add(parse, "a")
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(client.result, unit)
        assert client.delete(unit) == 1
        with pytest.raises(NoSuchUnit):
            waiting.result()


def test_units_complete_in_the_order_of_their_completion(client: Client) -> None:
    units = [client.add(parse.options(key=f"{n:03}"), str(n)) for n in range(300)]
    other = client.add(double, 1)
    assert finish(client, "parse", parse).key == "000"
    completed = client.completed([*units, other], timeout=60)
    assert next(completed).key == "000"
    finish(client, "double", double)
    assert next(completed).spec == "double"
    for _ in range(299):
        finish(client, "parse", parse)
    assert {state.key for state in completed} == {unit.key for unit in units[1:]}


def test_waiting_for_many_ends_at_the_timeout(client: Client) -> None:
    units = [client.add(parse, str(n)) for n in range(3)]
    with pytest.raises(WaitTimeout, match="3 units"):
        list(client.completed(units, timeout=0.05))


def test_a_cancelled_unit_fails_with_the_reason(client: Client) -> None:
    waiting, running = client.add(parse.options(key="2"), "a"), client.add(parse.options(key="1"), "b")
    lease = take(client, "parse")
    assert lease.key == "1"
    counts = client.cancel(parse, reason="wrong input", grace=60)
    assert (counts.failed, counts.running) == (1, 1)
    with pytest.raises(UnitCancelled, match="cancelled: wrong input"):
        client.result(waiting)
    cancelled = client.state(running).cancelled
    assert cancelled is not None
    assert (cancelled.reason, cancelled.by is not None) == ("wrong input", True)
    assert report(client, lease, Status.PENDING, {}).cancelled
    assert client.cancel(waiting).failed == 0


def test_progress_is_what_the_worker_wrote(client: Client) -> None:
    unit = client.add(parse, "a")
    assert client.progress(unit) is None
    lease = take(client, "parse")
    report(client, lease, Status.PENDING, {**lease.data, "progress": {"done": 3, "total": 10}})
    assert client.progress(unit) == Progress(3, 10)


def test_units_are_listed_by_key_in_pages(client: Client) -> None:
    client.add_many(parse.options(key=f"{n:05}").unit(str(n)) for n in range(2_500))
    finish(client, "parse", parse)
    assert [key for key, _ in client.units(parse)] == [f"{n:05}" for n in range(2_500)]
    assert [key for key, _ in client.units(parse, Status.FINISHED)] == ["00000"]
    assert next(client.units("parse", start="02"))[0] == "02000"


def test_units_are_prioritized_counted_and_deleted(client: Client) -> None:
    client.add(parse.options(key="a"), "1")
    second = client.add(parse.options(key="b"), "2")
    client.prioritize(second, 5)
    assert take(client, "parse").key == "b"
    assert client.delete(parse, Status.PENDING) == 1
    assert client.delete(parse) == 1
    assert client.count(parse) == {}


def test_a_paused_work_spec_says_why(client: Client) -> None:
    unit = client.add(parse, "a")
    client.pause(parse, "disk full")
    reasons = {reason.code: reason.text for reason in client.why(unit)}
    assert "disk full" in reasons["paused"]
    client.resume(parse)
    assert "paused" not in {reason.code for reason in client.why(parse)}


def test_setting_a_work_spec_again_keeps_what_people_have_set(client: Client) -> None:
    assert client.set_spec({"name": "s", "weight": 5})
    client.pause("s", "broken")
    client.call("control_work_spec", "s", {"weight": 7, "max_running": 3})
    assert not client.set_spec({"name": "s", "weight": 5})
    assert client.set_spec({"name": "s", "weight": 5, "owner": "me"})
    meta = client.call("get_work_spec_meta", "s", {"pause": True})
    assert (meta[0]["status"], meta[0]["pause"]["reason"], meta[0]["max_running"]) == (2, "broken", 3)
    assert client.set_spec({"name": "s", "weight": 9, "disabled": False})
    meta = client.call("get_work_spec_meta", "s")
    assert (meta[0]["status"], meta[0]["weight"], meta[0]["max_running"]) == (1, 9, 3)


def test_workers_are_listed_with_their_environment(client: Client) -> None:
    client.call("worker_heartbeat", "w", "RUN", 60, {"pid": 42}, None)
    [worker] = client.workers()
    assert (worker.name, worker.mode, worker.environment) == ("w", "RUN", {"pid": 42})
    assert worker.age is not None


def test_any_method_can_be_called_by_position_or_name(client: Client) -> None:
    client.set_spec({"name": "s"})
    assert client.call("get_work_spec", "s") == {"name": "s"}
    assert client.call("get_work_spec", work_spec_name="s") == {"name": "s"}
    with pytest.raises(RequestRefused, match="unknown method juggle"):
        client.call("juggle")
    with pytest.raises(TypeError, match="all by name"):
        client.call("get_work_spec", "s", work_spec_name="s")


def test_a_lock_excludes_others_and_is_renewed(client: Client) -> None:
    with client.lock("reports", "2026", timeout=0.3) as lock:
        time.sleep(0.7)  # longer than the timeout: the lock has to outlive it
        assert not lock.lost.is_set()
        with pytest.raises(LockHeld, match=f'reports/2026 can\'t be taken: "{lock.owner}" holds it'):
            client.lock("reports", "2026").__enter__()
        with pytest.raises(LockHeld, match="above or below it"):
            client.lock("reports").__enter__()
    with client.lock("reports"):
        pass
    with pytest.raises(ValueError, match="at least one label"):
        client.lock()


def test_a_lock_that_is_held_can_be_waited_for(client: Client) -> None:
    held = threading.Event()

    def hold() -> None:
        with client.lock("a"):
            held.set()
            time.sleep(0.2)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    with client.lock("a", wait=30):
        pass
    holder.join()


def test_a_lost_lock_is_known(client: Client) -> None:
    with client.lock("a", timeout=0.1) as lock:
        client.call("delete_namespace", "a")
        assert lock.lost.wait(30)


def test_strings_of_python_2_are_text_on_request(client: Client, coordinated_daemon: Daemon) -> None:
    client.set_spec({"name": "old"})
    client.add(Unit("old", "k", {b"url": b"http://a", b"raw": b"\xff"}))
    assert client.data(Unit("old", "k")) == {b"url": b"http://a", b"raw": b"\xff"}
    with Client(coordinated_daemon.server, python2_strings=True) as other:
        assert other.data(Unit("old", "k")) == {"url": "http://a", "raw": b"\xff"}
        assert list(other.units("old")) == [("k", {"url": "http://a", "raw": b"\xff"})]


def test_threads_share_a_client(client: Client) -> None:
    with ThreadPoolExecutor(8) as threads:
        units = list(threads.map(lambda number: client.add(double, number), range(200)))
        waiting = [threads.submit(client.result, unit, 60) for unit in units[:7]]
        for _ in units:
            finish(client, "double", double)
        assert sorted(one.result() for one in waiting) == [0, 2, 4, 6, 8, 10, 12]


def test_a_closed_client_says_so(coordinated_daemon: Daemon) -> None:
    client = coordinated_daemon.client()
    client.server_info()
    client.close()
    client.close()
    with pytest.raises(CoordinateError, match="the client is closed"):
        client.server_info()


def test_a_forked_process_does_not_use_the_parents_connections(client: Client) -> None:
    client.server_info()
    child = os.fork()
    if child == 0:
        os._exit(0 if client.server_info()["calls"]["server_info"] >= 2 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert client.server_info()["server"] == "coordinated"


# Broken connections.


def test_no_daemon_is_an_error_at_once_that_says_what_to_do() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with (
            Client(f"127.0.0.1:{port}") as client,
            pytest.raises(ServerUnreachable, match=f"no daemon answers at 127.0.0.1:{port}.*COORDINATED_SERVER"),
        ):
            client.server_info()


@pytest.mark.parametrize("server", ["localhost", "localhost:0", "localhost:http", "::1:5932", "unix:", ":5932"])
def test_what_is_no_address_is_refused(server: str) -> None:
    with pytest.raises(ValueError, match="expected HOST:PORT"):
        Client(server)


def test_the_server_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COORDINATED_SERVER", "[::1]:99")
    assert Client().server == "[::1]:99"
    monkeypatch.delenv("COORDINATED_SERVER")
    assert Client().server == "127.0.0.1:5932"


def test_tcp_works_like_a_unix_socket() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with Daemon(None, "--listen", f"127.0.0.1:{port}"), Client(f"127.0.0.1:{port}") as client:
        assert client.data(client.add(double, 1)) == {"number": 1}


def test_a_server_that_speaks_something_else_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        with (
            Client(f"127.0.0.1:{server.getsockname()[1]}") as client,
            pytest.raises(CoordinateError, match="is this its CBOR-RPC port"),
        ):
            client.server_info()
        thread.join()


def test_a_restart_of_the_daemon_goes_unnoticed(tmp_path: Path) -> None:
    with Daemon(tmp_path / "db") as daemon, daemon.client() as client:
        unit = client.add(parse, "a")
        daemon.kill()
        daemon.start()
        assert client.data(unit) == {"text": "a"}
        daemon.stop()
        with ThreadPoolExecutor() as threads:
            answer = threads.submit(client.data, unit)
            daemon.start()
            assert answer.result() == {"text": "a"}


def test_every_unit_is_added_once_although_the_daemon_is_killed(tmp_path: Path) -> None:
    with Daemon(tmp_path / "db") as daemon, daemon.client() as client:
        restarts = threading.Semaphore(0)

        def restart() -> None:
            for _ in range(3):
                restarts.acquire()
                daemon.kill()
                daemon.start()

        def units() -> Iterator[Unit[int]]:
            for number in range(40_000):
                if number in (8_000, 18_000, 28_000):
                    restarts.release()
                yield double.options(key=f"{number:05}").unit(number)

        thread = threading.Thread(target=restart)
        thread.start()
        added = client.add_many(units())
        thread.join()
        assert added.total == 40_000
        assert client.count(double) == {Status.AVAILABLE: 40_000}


def test_a_daemon_that_stays_away_is_an_error_after_the_time_allowed() -> None:
    with Daemon() as daemon, Client(daemon.server, reconnect_for=0.2) as client:
        client.server_info()
        daemon.stop()
        with pytest.raises(ServerUnreachable, match="Start one with"):
            client.server_info()
        daemon.start()
        assert client.server_info()["server"] == "coordinated"
