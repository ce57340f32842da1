"""How many units per second a worker runs whose functions do nothing, beside the old `coordinate_worker`.

    python benches/worker.py [--units 20000] [--python2 PYTHON] [--profile]

One daemon in a temporary folder, durable as by default. New and old run by turns, three times each, with two processes;
the medians are shown. `--python2` is a Python 2.7 with the package `coordinate` 0.1.5. `--profile` shows where the
supervisor spends its time instead.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import resource
import socket
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from coordinated import Client, Status, Worker, spec
from coordinated.testing import find_binary


@spec
def empty(n: int) -> None:
    """Does nothing."""


@spec
async def empty_async(n: int) -> None:
    """Does nothing."""


def run_new(client: Client, function: object, units: int, concurrency: int = 1) -> float:
    """Units per second of this worker, from when its children are ready."""
    assert function is empty or function is empty_async
    client.add_many(function.unit(n) for n in range(units))
    worker = Worker(function, server=client.server, processes=2, concurrency=concurrency)
    began = time.monotonic()
    worker.run(until_empty=True)
    return units / (time.monotonic() - began)


def run_old(client: Client, port: int, python2: str, folder: Path, units: int) -> float:
    """Units per second of two children of `coordinate_worker`, from its start."""
    (folder / "old_jobs.py").write_text("def run(unit):\n    pass\n")
    (folder / "config.yaml").write_text(
        f"coordinate:\n  address: ['127.0.0.1', {port}]\n  fork_worker:\n    num_workers: 2\n    child_lifetime: 3600\n"
    )
    client.set_spec({"name": "old", "min_gb": 0, "module": "old_jobs", "run_function": "run"})
    client.call("add_work_units", "old", [[f"{n:08}", {"n": n}] for n in range(units)])
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    began = time.monotonic()
    worker = subprocess.Popen(
        [str(Path(python2).with_name("coordinate_worker")), "-c", str(folder / "config.yaml"), "--foreground"],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while client.count("old").get(Status.FINISHED, 0) < units:
            time.sleep(0.05)
            assert worker.poll() is None, "coordinate_worker has ended"
        return units / (time.monotonic() - began)
    finally:
        worker.terminate()
        worker.wait()
        client.delete_spec("old")


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--units", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--python2")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        port = 30_000 + os.getpid() % 20_000
        command = [find_binary(), "serve", "--db", str(folder / "db"), "--listen", f"127.0.0.1:{port}"]
        with open(folder / "log", "wb") as log:
            daemon = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            while socket.socket().connect_ex(("127.0.0.1", port)):
                time.sleep(0.01)
            with Client(f"127.0.0.1:{port}") as client:
                if options.profile:
                    client.add_many(empty.unit(n) for n in range(options.units))
                    with cProfile.Profile() as profile:
                        Worker(empty, server=client.server, processes=2).run(until_empty=True)
                    pstats.Stats(profile).sort_stats("tottime").print_stats(25)
                    return
                rates: dict[str, list[float]] = {}
                for _ in range(options.rounds):
                    rates.setdefault("new", []).append(run_new(client, empty, options.units))
                    rates.setdefault("new, async, 50 at a time", []).append(
                        run_new(client, empty_async, options.units, 50)
                    )
                    if options.python2:
                        units = max(options.units // 25, 200)
                        rates.setdefault("coordinate_worker", []).append(
                            run_old(client, port, options.python2, folder, units)
                        )
                for what, values in rates.items():
                    print(
                        f"{what}: {statistics.median(values):,.0f} units/s  ({', '.join(f'{v:,.0f}' for v in values)})"
                    )
                if "coordinate_worker" in rates:
                    ratio = statistics.median(rates["new"]) / statistics.median(rates["coordinate_worker"])
                    print(f"ratio: {ratio:.1f}")
                kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                print(f"memory of the supervisor: {kibibytes / 1024:,.0f} MiB at most")
        finally:
            daemon.terminate()
            daemon.wait()


if __name__ == "__main__":
    main()
