"""The client: connections, errors, leases."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon import running_daemon

from coordinate.constants import AVAILABLE, FINISHED, PENDING
from coordinate.exceptions import ProgrammerError
from coordinate.job_client import MAX_LEASE_SECONDS, TaskMaster
from coordinated.errors import CoordinateError
from coordinated.testing import Daemon

SPEC = {"name": "spec", "min_gb": 1, "module": "os.path", "run_function": "id"}


@pytest.fixture
def another(address: str) -> Iterator[TaskMaster]:
    """A second client of the daemon."""
    client = TaskMaster({"addresses": [address]})
    yield client
    client.close()


def add(task_master: TaskMaster, *keys: str) -> None:
    task_master.set_work_spec(SPEC)
    task_master.add_work_units("spec", {key: {} for key in keys})


def calls(task_master: TaskMaster, method: str) -> int:
    counted: int = task_master._rpc("server_info", ())["calls"].get(method, 0)
    return counted


def break_connection(client: TaskMaster) -> None:
    client._conn().shutdown(socket.SHUT_RDWR)


def test_an_address_is_text_a_pair_or_a_list(address: str) -> None:
    host, port = address.split(":")
    for given in (address, (host, int(port)), [host, int(port)]):
        client = TaskMaster({"address": given})
        assert client.list_work_specs() == ([], None)
        client.close()


@pytest.mark.parametrize("config", [{}, {"address": "localhost"}, {"address": ("localhost", 1, 2)}])
def test_a_missing_or_wrong_address_is_named(config: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="address"):
        TaskMaster(config).list_work_specs()


def test_an_error_of_the_daemon_is_an_exception_and_the_client_stays_usable(task_master: TaskMaster) -> None:
    with pytest.raises(Exception, match="no_such_method") as raised:
        task_master._rpc("no_such_method", ())
    assert raised.type is Exception
    assert task_master.list_work_specs() == ([], None)


def test_a_value_that_cannot_be_sent_is_named_and_the_client_stays_usable(task_master: TaskMaster) -> None:
    task_master.set_work_spec(SPEC)
    with pytest.raises(TypeError, match="object"):
        task_master.add_work_units("spec", {"a": {"x": object()}})
    assert task_master.count_work_units("spec") == {}


def test_a_lost_connection_is_opened_again(task_master: TaskMaster) -> None:
    task_master._base_retry_seconds = 0.01
    add(task_master, "a")
    break_connection(task_master)
    assert task_master.get_work("worker").key == "a"


def test_no_daemon_is_an_oserror_after_the_retries() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        client = TaskMaster({"address": unused.getsockname(), "retries": 2, "base_retry_seconds": 0.01})
        with pytest.raises(ConnectionRefusedError):
            client.list_work_specs()


def test_a_server_of_another_kind_is_recognised() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(CoordinateError, match="is it coordinated"):
            TaskMaster({"address": server.getsockname()}).list_work_specs()
        thread.join()


def test_a_token_of_the_environment_is_shown_on_each_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Daemon(tmp_path / "db") as daemon, daemon.client() as client:
        if "tokens" not in client.server_info()["features"]:
            pytest.skip("this daemon has no tokens")
        secret = client.call("create_token", "admin", {"scopes": ["admin"], "by": "test"})[0]["token"]
    with running_daemon(tmp_path / "db", "--cborrpc-auth", "required") as address:
        refused = TaskMaster({"address": address})
        with pytest.raises(Exception, match="token"):
            refused.list_work_specs()
        monkeypatch.setenv("COORDINATED_TOKEN", secret)
        task_master = TaskMaster({"address": address, "base_retry_seconds": 0.01})
        assert task_master.list_work_specs() == ([], None)
        break_connection(task_master)
        assert task_master.list_work_specs() == ([], None)
        monkeypatch.setenv("COORDINATED_TOKEN", "cdt_wrong")
        wrong = TaskMaster({"address": address})
        with pytest.raises(Exception, match="the token is not known") as raised:
            wrong.list_work_specs()
        assert raised.type is Exception
        for opened in (refused, task_master, wrong):
            opened.close()


def test_threads_can_share_a_client(task_master: TaskMaster) -> None:
    keys = [f"{number:03}" for number in range(200)]
    add(task_master, *keys)
    taken: list[str] = []

    def work(worker_id: str) -> None:
        while (unit := task_master.get_work(worker_id)) is not None:
            assert unit.finish()
            taken.append(unit.key)

    threads = [threading.Thread(target=work, args=(f"worker{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == keys
    assert task_master.count_work_units("spec") == {FINISHED: 200}


def test_a_forked_child_opens_a_connection_of_its_own(task_master: TaskMaster) -> None:
    add(task_master, "a", "b")
    assert task_master.get_work("parent").key == "a"
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if task_master.get_work("child").key == "b" else 2
        finally:
            os._exit(code)
    assert task_master.status("spec")["num_tasks"] == 2
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    statuses = task_master.get_work_unit_status("spec", ["a", "b"])
    assert [status["worker_id"] for status in statuses] == ["parent", "child"]


def test_running_and_finishing_a_unit_is_one_call(task_master: TaskMaster) -> None:
    add(task_master, "a")
    unit = task_master.get_work("worker")
    unit.spec = {"module": "builtins", "run_function": "id"}
    unit.run()
    assert unit.finish() is True
    assert calls(task_master, "update_work_unit") == 1
    unit.data["more"] = 1
    assert unit.finish() is True
    assert task_master.get_work_units("spec") == [("a", {"more": 1})]


def test_a_report_after_the_lease_is_lost_is_refused_also_over_a_new_connection(
    task_master: TaskMaster, another: TaskMaster
) -> None:
    task_master._base_retry_seconds = 0.01
    add(task_master, "a")
    unit = task_master.get_work("first")
    assert unit.update(-1) is True
    taken = another.get_work("second")
    assert unit.update() is False
    break_connection(task_master)
    assert unit.finish() is False
    assert another.get_work_unit_status("spec", "a")["status"] == PENDING
    assert taken.finish() is True


def test_unchanged_data_is_not_sent(task_master: TaskMaster, another: TaskMaster) -> None:
    add(task_master, "a")
    unit = task_master.get_work("worker")
    unit.data["progress"] = 1
    unit.update()
    another.update_work_unit("spec", "a", lease_time=60, data={"by": "another"})
    unit.update()
    assert another.get_work_units("spec") == [("a", {"by": "another"})]


def test_a_failed_unit_has_the_traceback_of_the_exception(task_master: TaskMaster) -> None:
    add(task_master, "a", "b")
    try:
        raise KeyError("what")
    except KeyError as error:
        task_master.get_work("worker").fail(error)
    task_master.get_work("worker").fail("it broke")
    first, second = task_master.get_work_unit_status("spec", ["a", "b"])
    assert first["traceback"].startswith("Traceback (most recent call last):")
    assert first["traceback"].endswith("KeyError: 'what'\n")
    assert second["traceback"] == "it broke"


def test_a_lease_of_a_day_is_refused_and_shortened_by_update(task_master: TaskMaster) -> None:
    add(task_master, "a")
    with pytest.raises(AssertionError, match="lease_time too big"):
        task_master.get_work("worker", lease_time=MAX_LEASE_SECONDS)
    assert task_master.get_work("worker").update(2 * MAX_LEASE_SECONDS) is True


def test_work_specs_are_listed_in_pages(task_master: TaskMaster) -> None:
    names = [f"spec{number}" for number in range(5)]
    for name in names:
        task_master.set_work_spec({"name": name, "min_gb": 1})
    listed, following = task_master.list_work_specs(limit=2)
    assert [name for name, _ in listed] == names[:2]
    assert [name for name, _ in task_master.list_work_specs(start=following)[0]] == names[2:]
    assert [spec["name"] for spec in task_master.iter_work_specs(limit=3)] == names[:3]
    assert [spec["name"] for spec in task_master.iter_work_specs(start="spec3")] == names[3:]


def test_unknown_work_specs_are_told_by_the_value(task_master: TaskMaster) -> None:
    assert task_master.get_work_spec("unknown") is None
    assert task_master.add_work_units("unknown", {"a": {}}) is False
    assert task_master.get_work_units("unknown") is None
    assert task_master.del_work_spec("unknown") is False
    assert task_master.del_work_units("unknown", all=True) == 0
    assert task_master.get_work_unit_status("unknown", ["a"]) is None
    assert task_master.prioritize_work_units("unknown", ["a"]) is False


def test_retry_makes_units_available_and_says_if_one_is_unknown(task_master: TaskMaster) -> None:
    add(task_master, "a", "b")
    task_master.get_work("worker").finish()
    task_master.get_work("worker").fail()
    assert task_master.retry("spec", "a", "b") is True
    assert task_master.count_work_units("spec") == {AVAILABLE: 2}
    assert task_master.retry("spec", "unknown") is False


@pytest.mark.parametrize("spec", [{"min_gb": 1}, {"name": "a"}, {"name": "a", "min_gb": "1"}])
def test_a_work_spec_without_name_or_min_gb_is_refused(task_master: TaskMaster, spec: dict[str, object]) -> None:
    with pytest.raises(ProgrammerError):
        task_master.set_work_spec(spec)


@pytest.mark.parametrize("flow", [{"a": 1}, {"a": {"b": 1}}, {"a": {"min_gb": 1, "then": "b"}, "c": {"min_gb": 1}}])
def test_a_wrong_flow_sets_nothing(task_master: TaskMaster, flow: dict[str, object]) -> None:
    with pytest.raises(ProgrammerError):
        task_master.add_flow(flow, config={})
    assert task_master.list_work_specs() == ([], None)
