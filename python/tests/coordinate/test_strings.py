"""Which strings are `str` and which are `bytes`."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from coordinate.constants import FAILED, FINISHED
from coordinate.job_client import TaskMaster

SPEC = {"name": "spec", "min_gb": 1}

DATA = {
    "text": "f\xfc",
    "bytes": b"foo",
    "binary": b"\xff\x00",
    b"key": {b"\xfe": [b"nested", ("tuple", b"tuple", ())]},
    "uuid": uuid.UUID("01234567-89ab-cdef-0123-456789abcdef"),
    "numbers": [1, -1, 2**70, 1.0, True, None],
    7: {None: "seven"},
}


@pytest.fixture
def python2_queue(address: str) -> Iterator[TaskMaster]:
    client = TaskMaster({"address": address, "python2_strings": True})
    yield client
    client.close()


def types(value: Any) -> Any:
    """A value with the type of everything in it, as 1 == True == 1.0."""
    if isinstance(value, dict):
        return {(type(key), key): types(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value), [types(item) for item in value]
    return type(value), value


@pytest.mark.parametrize("key", ["text", "f\xfc", b"bytes", b"f\xfc", b"\x00"])
def test_keys_and_data_come_back_as_the_types_they_were_put_in(task_master: TaskMaster, key: Any) -> None:
    task_master.set_work_spec(SPEC)
    task_master.add_work_units("spec", [(key, DATA)])
    ((listed, data),) = task_master.get_work_units("spec")
    assert (types(listed), types(data)) == (types(key), types(DATA))
    unit = task_master.get_work("worker")
    assert (types(unit.key), types(unit.data)) == (types(key), types(DATA))
    task_master.worker_register("parent")
    task_master.worker_register("worker", parent="parent")
    (child,) = task_master.get_child_work_units("parent")["worker"]
    assert (types(child.key), types(child.data)) == (types(key), types(DATA))


def test_a_key_names_the_same_unit_as_text_and_as_bytes(task_master: TaskMaster) -> None:
    task_master.set_work_spec(SPEC)
    task_master.add_work_units("spec", {"a": {}, b"b": {}})
    assert [status["status"] for status in task_master.get_work_unit_status("spec", [b"a", "b"])] == [1, 1]
    assert task_master.get_work_unit_status("spec", b"a")["status"] == 1


def test_names_ids_and_modes_are_str_whoever_wrote_them(task_master: TaskMaster) -> None:
    task_master._rpc("set_work_spec", [{b"name": b"spec", b"min_gb": 1}])
    task_master._rpc("worker_heartbeat", [b"worker", b"RUN", 60, {b"pid": 1, b"host": b"h\xc3\xbc"}, b"parent"])
    assert task_master.list_work_specs() == ([("spec", SPEC)], None)
    assert task_master.workers() == {"worker": "RUN"}
    assert task_master.mode_counts() == {"RUN": 1}
    environment = task_master.get_heartbeat("worker")
    assert (environment["pid"], environment["host"]) == (1, "h\xfc")

    task_master.add_work_units("spec", [("a", {})])
    task_master._rpc("get_work", [b"worker", {}])
    assert task_master.get_work_unit_status("spec", "a")["worker_id"] == "worker"
    (unit,) = task_master.get_child_work_units("parent")["worker"]
    assert (unit.work_spec_name, unit.worker_id) == ("spec", "worker")


def test_a_work_spec_is_str_but_for_what_is_not_utf_8(task_master: TaskMaster) -> None:
    task_master._rpc(
        "set_work_spec", [{b"name": b"spec", "min_gb": 1, "module": "os.path", "blob": b"\xff", "t": (b"a",)}]
    )
    assert task_master.get_work_spec("spec") == {
        "name": "spec", "min_gb": 1, "module": "os.path", "blob": b"\xff", "t": ("a",)
    }  # fmt: skip


def test_a_worker_id_that_is_not_utf_8_can_be_used_as_it_comes(task_master: TaskMaster) -> None:
    task_master._rpc("worker_heartbeat", [b"\xff", "RUN", 60, {"pid": 5}, None])
    (worker_id,) = task_master.workers()
    assert worker_id == "\udcff"
    assert task_master.get_heartbeat(worker_id)["pid"] == 5


def test_tracebacks_are_str(task_master: TaskMaster) -> None:
    task_master.set_work_spec(SPEC)
    task_master.add_work_units("spec", {"a": {}})
    task_master.update_work_unit("spec", "a", status=FAILED, data={b"traceback": b"it broke"})
    assert task_master.get_work_unit_status("spec", "a")["traceback"] == "it broke"


def test_keys_that_the_daemon_makes_are_str(task_master: TaskMaster) -> None:
    task_master.set_work_spec({**SPEC, "continuous": True})
    unit = task_master.get_work("worker")
    seconds, fraction = unit.key.split(".")
    assert seconds.isdigit()
    assert fraction.isdigit()
    assert unit.finish()
    assert task_master.get_work_unit_status("spec", unit.key)["status"] == FINISHED


def test_python2_strings_gives_what_is_utf_8_as_str(task_master: TaskMaster, python2_queue: TaskMaster) -> None:
    task_master.set_work_spec(SPEC)
    written = {b"url": b"http://example.com/f\xc3\xbc", b"list": [(b"a", b"\xff")], "text": "b"}
    task_master.add_work_units("spec", [(b"key", written), (b"\xfe", {})])
    read = {"url": "http://example.com/f\xfc", "list": [("a", b"\xff")], "text": "b"}
    assert python2_queue.get_work_units("spec") == [("key", read), (b"\xfe", {})]
    unit = python2_queue.get_work("worker")
    assert (unit.key, unit.data) == ("key", read)
    assert task_master.get_work_units("spec")[0] == (b"key", written)
