"""What the tests share: a worker that is nothing but two requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from coordinated import Client, Status, _methods
from coordinated.values import Lease, Report


def take(client: Client, spec: str, worker: str = "w") -> Lease:
    """Leases a unit, waiting for it."""
    leases = client._call(_methods.get_work(worker, specs=[spec], runtimes=["", "python3"], lease_s=60, wait=30))
    assert leases, f"no unit of {spec} came in 30 s"
    return leases[0]


def report(client: Client, lease: Lease, status: Status, data: dict[Any, Any]) -> Report:
    """Reports on a unit."""
    options = _methods.report_options(status=status, data=data, attempt=lease.attempt, tell_retry=True)
    return client._call(_methods.update_work_unit(lease.spec, lease.key, options))


def finish(client: Client, spec: str, function: Callable[..., Any]) -> Lease:
    """Does one unit."""
    lease = take(client, spec)
    assert report(client, lease, Status.FINISHED, {**lease.data, "result": function(**lease.data)}).accepted
    return lease


def fail(client: Client, spec: str, traceback: str) -> Report:
    """Fails one unit."""
    lease = take(client, spec)
    return report(client, lease, Status.FAILED, {**lease.data, "traceback": traceback})
