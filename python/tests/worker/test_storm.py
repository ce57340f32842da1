"""Workers, children and the daemon are killed at random while there is work: no unit may be lost.

By default the storm is small. COORDINATED_STORM=5000 sets the number of units; COORDINATED_STORM_SEED repeats one.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import worker_jobs as jobs

from coordinated import Status
from coordinated.testing import Daemon

UNITS = int(os.environ.get("COORDINATED_STORM", "400"))
WORKERS = 2
STORM_S = 6 + UNITS / 100


def children_of(pid: int) -> list[int]:
    """The child processes of a process."""
    found: list[int] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid:
                found.append(int(stat.parent.name))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("function", "concurrency"), [(jobs.storm, 1), (jobs.storm, 4), (jobs.storm_async, 20)])
def test_no_unit_is_lost_and_the_undisturbed_run_once(
    tmp_path: Path, start_worker: Any, function: Any, concurrency: int
) -> None:
    seed = int(os.environ.get("COORDINATED_STORM_SEED") or random.randrange(1 << 32))
    print(f"COORDINATED_STORM_SEED={seed}")
    chance = random.Random(seed)
    log = tmp_path / "log"
    with Daemon(tmp_path / "db") as daemon, daemon.client() as client:
        client.set_spec(function)
        client.add_many(function.options(key=f"{number:05}").unit(str(log)) for number in range(UNITS))
        arguments = (f"worker_jobs:{function.name}", "--server", daemon.server, "-p2", f"-c{concurrency}",
                     "--lease=2", "--grace=0.2")  # fmt: skip
        workers = [start_worker(*arguments, verbose=False) for _ in range(WORKERS)]
        kills: Counter[str] = Counter()
        # A storm ends: then all that it has left has to be done.
        ends = time.monotonic() + STORM_S
        deadline = ends + 120 + UNITS / 20
        while client.count(function.name).get(Status.FINISHED, 0) < UNITS:
            assert time.monotonic() < deadline, client.count(function.name)
            time.sleep(chance.uniform(0.1, 1.0))
            if time.monotonic() > ends:
                continue
            number = chance.randrange(WORKERS)
            victim = chance.choice(["child", "child", "child", "child", "worker", "daemon"])
            kills[victim] += 1
            if victim == "child":
                for pid in children_of(workers[number].pid)[:1]:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            elif victim == "worker":
                workers[number].kill()
                workers[number].wait()
                workers[number] = start_worker(*arguments, verbose=False)
            else:
                daemon.kill()
                daemon.start()
        assert client.count(function.name) == {Status.FINISHED: UNITS}
        for worker in workers:
            worker.terminate()
        for worker in workers:
            # One that has only just been started ends by the signal itself.
            assert worker.wait(60) in (0, -signal.SIGTERM)
        runs = Counter(jobs.lines(log))
        assert len(runs) == UNITS
        # What ran twice was disturbed: it had a second attempt, because the first one was lost or failed.
        keys = [key for key, count in runs.items() if count > 1]
        for key in keys:
            attempts = client.attempts(function.options(key=key).unit(str(log)))
            assert len(attempts) > 1, f"{key} ran {runs[key]} times in one attempt"
        print(f"{dict(kills)}: {len(keys)} of {UNITS} units ran more than once")
