"""Measures the clients: by turns, on one daemon, so that the machine's other work slows all of them.

    python benches/clients.py [--units N] [--cycles N] [--rounds N] [--python2 PYTHON]

1. `Client.add_many` of a generator against `coordinated load` of a file with the same units.
2. The client's CPU time for getting and finishing a unit: this package against `coordinate` 0.1.5 on Python 2.7.
   PYTHON is a Python 2.7 that has it, by default the one that tests/python/run installs.
3. `add` one after the other against many tasks of one `AsyncClient`.

It prints the median of the rounds, and the ratio. The daemon is found as in `coordinated.testing`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from coordinated import AsyncClient, Client, Status, Unit, _methods
from coordinated._connection import Connection
from coordinated.testing import Daemon, find_binary

OLD_CLIENT = """
import resource, sys
from coordinate import TaskMaster
spec, cycles, port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
task_master = TaskMaster({'address': ('127.0.0.1', port)})
def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
before = cpu()
for _ in range(cycles):
    task_master.get_work('old', available_gb=1, work_spec_names=[spec]).finish()
print((cpu() - before) / cycles * 1e6)
"""


def median(rounds: int, *measures: Callable[[int], float]) -> list[float]:
    """Measures by turns, and gives the median of each."""
    found: list[list[float]] = [[] for _ in measures]
    for number in range(rounds):
        for values, measure in zip(found, measures, strict=True):
            values.append(measure(number))
    return [statistics.median(values) for values in found]


def show(what: str, unit: str, named: dict[str, float]) -> None:
    """Prints measurements, and the ratio of the first to the last."""
    first, *_, last = named.values()
    parts = ", ".join(f"{name} {value:,.1f} {unit}" for name, value in named.items())
    print(f"{what}: {parts}; ratio {first / last:.2f}", flush=True)


def data(number: int) -> dict[str, object]:
    """The data of a unit."""
    return {"url": f"http://example.com/{number}", "depth": 1}


def many(client: Client, server: str, folder: Path, units: int, rounds: int) -> None:
    """Measures adding many units."""
    spec, lines = folder / "spec.json", folder / "units.jsonl"
    with lines.open("w") as stream:
        stream.writelines(json.dumps({f"{n:08}": data(n)}) + "\n" for n in range(units))

    def add_many(number: int) -> float:
        name = f"many{number}"
        client.set_spec({"name": name})
        began = time.perf_counter()
        assert client.add_many(Unit(name, f"{n:08}", data(n)) for n in range(units)).new == units
        return units / (time.perf_counter() - began)

    def load(number: int) -> float:
        spec.write_text(json.dumps({"name": f"load{number}"}))
        began = time.perf_counter()
        subprocess.run(
            [find_binary(), "load", "--server", server, "-w", str(spec), "-u", str(lines)],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        assert client.count(f"load{number}") == {Status.AVAILABLE: units}
        return units / (time.perf_counter() - began)

    ours, theirs = median(rounds, add_many, load)
    show(f"adding {units:,} units", "units/s", {"add_many": ours, "coordinated load": theirs})


def cycle(client: Client, server: str, port: int, python2: str, cycles: int, rounds: int) -> None:
    """Measures the CPU time of a client for a unit."""
    units = 2 * cycles * rounds
    client.set_spec({"name": "cycle"})
    client.add_many(Unit("cycle", f"{n:08}", data(n)) for n in range(units))
    connection = Connection(server)

    def cpu() -> float:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime

    def new(_: int) -> float:
        before = cpu()
        for _ in range(cycles):
            [lease] = connection.call(_methods.get_work("new", specs=["cycle"]))
            options = _methods.report_options(status=Status.FINISHED, attempt=lease.attempt)
            assert connection.call(_methods.update_work_unit(lease.spec, lease.key, options)).accepted
        return (cpu() - before) / cycles * 1e6

    def old(_: int) -> float:
        command = [python2, "-c", OLD_CLIENT, "cycle", str(cycles), str(port)]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    ours, theirs = median(rounds, new, old)
    show("client CPU for get_work and finish", "µs", {"new": ours, "Python 2": theirs})


def single(client: Client, server: str, rounds: int) -> None:
    """Measures adding single units."""
    client.set_spec({"name": "single"})

    def one_by_one(number: int) -> float:
        began = time.perf_counter()
        for n in range(200):
            client.add(Unit("single", f"one-{number}-{n}"))
        return 200 / (time.perf_counter() - began)

    def together(number: int) -> float:
        async def add() -> float:
            async with AsyncClient(server) as asynchronous:
                await asynchronous.server_info()
                limit = asyncio.Semaphore(64)

                async def one(n: int) -> None:
                    async with limit:
                        await asynchronous.add(Unit("single", f"together-{number}-{n}"))

                began = time.perf_counter()
                await asyncio.gather(*map(one, range(5_000)))
                return 5_000 / (time.perf_counter() - began)

        return asyncio.run(add())

    in_flight, alone = median(rounds, together, one_by_one)
    show("single adds", "units/s", {"64 in flight": in_flight, "one at a time": alone})


def old_python() -> str:
    """Gives the Python 2.7 of the Python suite."""
    root = Path(__file__).resolve().parents[2]
    found = sorted(root.glob("target/python-suite/env-*/bin/python"))
    if not found:
        sys.exit("there is no Python 2.7 with `coordinate` 0.1.5: run tests/python/run once, or name it with --python2")
    return str(found[-1])


def main() -> None:
    """Measures all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=1_000_000)
    parser.add_argument("--cycles", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--port", type=int, default=15_932, help="where the daemon of the measurement listens")
    parser.add_argument("--python2")
    options = parser.parse_args()
    python2 = options.python2 or old_python()
    with tempfile.TemporaryDirectory() as folder:
        flags = ("--listen", f"127.0.0.1:{options.port}")
        server = f"127.0.0.1:{options.port}"
        # In memory: after each wait for a disk a client needs several times as much CPU time, whichever client it is.
        with Daemon(None, *flags) as daemon, daemon.client() as client:
            cycle(client, server, options.port, python2, options.cycles, options.rounds)
        with Daemon(Path(folder) / "db", *flags, synchronous="full") as daemon, daemon.client() as client:
            single(client, server, options.rounds)
            many(client, server, Path(folder), options.units, options.rounds)
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"memory of this process at most: {own:.0f} MiB")


if __name__ == "__main__":
    main()
