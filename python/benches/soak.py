"""Whether the supervisor of a worker stays as it is for hours: its memory and open files, noted in a table.

    python benches/soak.py [--minutes 60] [--rate 300] [--csv FILE]

One daemon in a temporary folder gets units at a steady rate, and a worker with two processes does them. One unit in
fifty fails at first, and is tried again; children are replaced after 20,000 units. At the end the first quarter of the
time is compared with the last.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from coordinated import Backoff, Client, current, spec
from coordinated.testing import Daemon

EVERY_S = 30.0
COLUMNS = ("seconds", "added", "left", "resident_kib", "open_files", "threads", "children")


@spec(retries=2, backoff=Backoff(first=1))
def work(n: int) -> int:
    """Does nearly nothing, and sometimes fails."""
    if n % 50 == 0 and current().attempt == 1:
        raise ValueError(f"unit {n}, as planned")
    return n


def look(pid: int) -> dict[str, int]:
    """Gives what the system tells of a process."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {
        "resident_kib": int(status["VmRSS"].split()[0]),
        "open_files": len(os.listdir(f"/proc/{pid}/fd")),
        "threads": int(status["Threads"]),
        "children": len(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()),
    }


def feed(client: Client, pid: int, minutes: float, rate: int, file: Path) -> list[dict[str, int]]:
    """Adds units at a rate, and gives what was noted meanwhile."""
    rows: list[dict[str, int]] = []
    began = time.monotonic()
    added = 0
    note_at = EVERY_S
    with file.open("w", newline="") as stream:
        table = csv.DictWriter(stream, COLUMNS)
        table.writeheader()
        while (passed := time.monotonic() - began) < 60 * minutes:
            until = int(passed * rate)
            client.add_many(work.unit(n) for n in range(added, until))
            added = until
            if passed >= note_at:
                note_at += EVERY_S
                left = sum(number for status, number in client.count(work).items() if status.name != "FINISHED")
                row = {"seconds": round(passed), "added": added, "left": left, **look(pid)}
                table.writerow(row)
                stream.flush()
                rows.append(row)
            time.sleep(0.1)
    return rows


def compare(rows: list[dict[str, int]]) -> None:
    """Prints the first quarter beside the last."""
    quarter = max(1, len(rows) // 4)
    for column in COLUMNS[2:]:
        parts = (rows[:quarter], rows[-quarter:])
        first, last = (statistics.median(row[column] for row in part) for part in parts)
        most = max(row[column] for row in rows)
        print(f"{column}: first quarter {first:,.0f}, last quarter {last:,.0f}, at most {most:,}")


def main() -> None:
    """Runs it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=int, default=300, help="units per second")
    parser.add_argument("--csv", type=Path, default=Path("soak.csv"))
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        Daemon(Path(folder) / "db", synchronous="full") as daemon,
        daemon.client() as client,
        open(Path(folder) / "log", "wb") as log,
    ):
        client.set_spec(work)
        command = [sys.executable, "-m", "coordinated.worker", "soak", "-p", "2", "--max-units", "20000"]
        worker = subprocess.Popen(
            [*command, "--server", daemon.server], cwd=Path(__file__).parent, stdout=log, stderr=log
        )
        try:
            rows = feed(client, worker.pid, options.minutes, options.rate, options.csv)
        finally:
            worker.terminate()
            worker.wait(60)
    compare(rows)


if __name__ == "__main__":
    main()
