"""The asyncio client, against a real daemon. The other tests of operations are those of the blocking client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from helpers import fail, finish, take

from coordinated import (
    Added,
    AsyncClient,
    Client,
    CoordinateError,
    LockHeld,
    NoSuchSpec,
    NoSuchUnit,
    RequestRefused,
    ServerUnreachable,
    Status,
    Unit,
    UnitExists,
    UnitFailed,
    WaitTimeout,
    spec,
)
from coordinated.testing import Daemon

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@spec
def double(number: int) -> int:
    return 2 * number


@pytest.fixture
async def client(coordinated_daemon: Daemon) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(coordinated_daemon.server) as client:
        yield client


async def test_a_unit_is_added_and_its_result_awaited(client: AsyncClient, coordinated_client: Client) -> None:
    unit = await client.add(double, 21)
    result = asyncio.create_task(client.result(unit, timeout=30))
    await asyncio.to_thread(finish, coordinated_client, "double", double)
    assert await result == 42
    assert (await client.wait(unit)).status is Status.FINISHED
    assert await client.data(unit) == {"number": 21, "result": 42}


async def test_calls_of_many_tasks_are_in_flight_together(client: AsyncClient) -> None:
    await client.set_spec(double)
    units = await asyncio.gather(*(client.add(double.options(key=f"{n:04}"), n) for n in range(1_000)))
    assert [unit.key for unit in units] == [f"{n:04}" for n in range(1_000)]
    assert await client.count(double) == {Status.AVAILABLE: 1_000}
    # Each answer went to its own task.
    assert await asyncio.gather(*map(client.data, units)) == [{"number": n} for n in range(1_000)]


async def test_hundreds_of_tasks_wait_for_results_without_keeping_others_from_calling(
    client: AsyncClient, coordinated_client: Client
) -> None:
    units = [await client.add(double, n) for n in range(150)]
    results = [asyncio.create_task(client.result(unit, timeout=60)) for unit in units]
    await asyncio.sleep(0)
    assert (await client.server_info())["server"] == "coordinated"

    def work() -> None:
        for _ in units:
            finish(coordinated_client, "double", double)

    await asyncio.to_thread(work)
    assert await asyncio.gather(*results) == [2 * n for n in range(150)]


async def test_many_units_come_from_generators_of_both_kinds(client: AsyncClient) -> None:
    def plain() -> Iterator[Unit[int]]:
        for number in range(20_000):
            yield double.options(key=f"{number:05}").unit(number)

    async def asynchronous() -> AsyncIterator[Unit[int]]:
        for number in range(19_990, 20_010):
            await asyncio.sleep(0)
            yield double.options(key=f"{number:05}").unit(number)

    assert await client.add_many(plain()) == Added(20_000)
    assert await client.add_many(asynchronous()) == Added(10, 0, 10)
    assert await client.add_many([]) == Added()
    with pytest.raises(UnitExists):
        await client.add_many(plain(), if_exists="error")


async def test_units_are_listed_and_complete_one_after_the_other(
    client: AsyncClient, coordinated_client: Client
) -> None:
    units = [await client.add(double.options(key=key), 1) for key in "ab"]
    assert [key async for key, _ in client.units(double)] == ["a", "b"]
    await asyncio.to_thread(finish, coordinated_client, "double", double)
    await asyncio.to_thread(fail, coordinated_client, "double", "boom")
    assert {state.key: state.status async for state in client.completed(units)} == {
        "a": Status.FINISHED,
        "b": Status.FAILED,
    }
    assert [state and state.status for state in await client.states(units)] == [Status.FINISHED, Status.FAILED]
    with pytest.raises(UnitFailed, match="boom"):
        await client.result(units[1])
    assert [failure.message for failure in await client.failures(double)] == ["boom"]
    assert await client.retry(double) == 1
    assert (await client.attempts(units[0]))[0].number == 1
    with pytest.raises(NoSuchUnit):
        await client.attempts(Unit("double", "c"))


async def test_looking_and_changing_are_those_of_the_blocking_client(
    client: AsyncClient, coordinated_client: Client
) -> None:
    unit = await client.add(double.options(key="a"), 1)
    assert (await client.add(double.options(key="a").unit(2), if_exists="reset")).key == unit.key
    assert await client.data(unit) == {"number": 2}
    await client.prioritize(unit, 3)
    assert await client.progress(unit) is None
    await client.pause(double, "wait")
    assert (await client.why(unit))[0].code == "paused"
    await client.resume(double)
    assert (await client.summary())[0].available == 1
    assert (await client.specs())[0] == await client.get_spec(double)
    with pytest.raises(NoSuchSpec):
        await client.get_spec("nothing")
    await client.call("worker_heartbeat", "w", "RUN", 60, {}, None)
    assert [worker.name for worker in await client.workers()] == ["w"]
    assert (await client.cancel(unit, reason="no")).failed == 1
    assert await client.delete(unit) == 1
    assert await client.delete_spec(double)
    with pytest.raises(RequestRefused, match="juggle"):
        await client.call("juggle")
    with pytest.raises(TypeError, match="all by name"):
        await client.call("now", 1, a=2)


async def test_a_lock_excludes_others_and_is_renewed(client: AsyncClient) -> None:
    async with client.lock("a", timeout=0.3) as lock:
        await asyncio.sleep(0.7)
        assert not lock.lost.is_set()
        with pytest.raises(LockHeld):
            await client.lock("a", wait=0.1).__aenter__()
        await client.call("delete_namespace", "a")
        await asyncio.wait_for(lock.lost.wait(), 30)
    with pytest.raises(ValueError, match="at least one label"):
        client.lock()


async def test_a_task_that_is_cancelled_leaves_the_others_their_answers(client: AsyncClient) -> None:
    unit = await client.add(double, 1)
    for _ in range(50):
        cancelled = asyncio.create_task(client.data(unit))
        other = asyncio.create_task(client.server_info())
        await asyncio.sleep(0)
        cancelled.cancel()
        assert (await other)["server"] == "coordinated"
    waiting = asyncio.create_task(client.result(unit))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with pytest.raises(WaitTimeout):
        await client.result(unit, timeout=0.01)


@pytest.mark.parametrize("restart", [Daemon.kill, Daemon.stop])
async def test_a_restart_of_the_daemon_goes_unnoticed(tmp_path: Path, restart: Callable[[Daemon], None]) -> None:
    with Daemon(tmp_path / "db") as daemon:
        async with AsyncClient(daemon.server) as client:
            unit = await client.add(double, 1)
            waiting = asyncio.create_task(client.result(unit))
            await asyncio.sleep(0.01)

            def again() -> None:
                restart(daemon)
                daemon.start()
                with daemon.client() as blocking:
                    finish(blocking, "double", double)

            work: Awaitable[None] = asyncio.create_task(asyncio.to_thread(again))
            assert await client.data(unit)
            assert await waiting == 2
            await work


async def test_no_daemon_is_an_error_at_once() -> None:
    with Daemon() as daemon:
        server = daemon.server
    async with AsyncClient(server) as client:
        assert repr(client) == f"AsyncClient('{server}')"
        with pytest.raises(ServerUnreachable, match="no daemon answers at unix:"):
            await client.server_info()


async def test_a_daemon_that_stays_away_is_an_error_after_the_time_allowed(coordinated_client: Client) -> None:
    with Daemon() as daemon:
        async with AsyncClient(daemon.server, reconnect_for=0.2) as client:
            unit = await client.add(double, 1)
            with daemon.client() as blocking:
                take(blocking, "double")
            waiting = asyncio.create_task(client.result(unit))
            await asyncio.sleep(0.01)
            await asyncio.to_thread(daemon.stop)
            for call in (client.server_info(), waiting):
                with pytest.raises(ServerUnreachable, match="Start one with"):
                    await call


async def test_a_closed_client_says_so(coordinated_daemon: Daemon) -> None:
    client = AsyncClient(coordinated_daemon.server)
    await client.server_info()
    await client.close()
    with pytest.raises(CoordinateError, match="the client is closed"):
        await client.server_info()
