"""Job queues for Python: work specs are functions, units are their calls, and a daemon keeps them.

    from coordinated import Client, spec

    @spec(retries=3, timeout=60)
    def resize(path: str, width: int = 100) -> int: ...

    with Client() as client:
        unit = client.add(resize, "a.png", width=200)
        print(client.result(unit))

`coordinated-worker module` runs the functions. Importing this package connects to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .client import Client
from .context import Current, current
from .errors import (
    Cancelled,
    CoordinateError,
    InvalidArguments,
    LockHeld,
    LostLease,
    NoSuchSpec,
    NoSuchUnit,
    RequestRefused,
    Retry,
    ServerUnreachable,
    TlsError,
    UnitCancelled,
    UnitExists,
    UnitFailed,
    UnwritableValue,
    WaitTimeout,
)
from .spec import AsyncSpec, Backoff, HaltAfter, Spec, SyncSpec, Unit, spec
from .values import Added, Attempt, Failure, Progress, Reason, Status, UnitState

if TYPE_CHECKING:
    from ._tls import Tls
    from .aio import AsyncClient
    from .worker import Worker

__all__ = [
    "Added",
    "AsyncClient",
    "AsyncSpec",
    "Attempt",
    "Backoff",
    "Cancelled",
    "Client",
    "CoordinateError",
    "Current",
    "Failure",
    "HaltAfter",
    "InvalidArguments",
    "LockHeld",
    "LostLease",
    "NoSuchSpec",
    "NoSuchUnit",
    "Progress",
    "Reason",
    "RequestRefused",
    "Retry",
    "ServerUnreachable",
    "Spec",
    "Status",
    "SyncSpec",
    "Tls",
    "TlsError",
    "Unit",
    "UnitCancelled",
    "UnitExists",
    "UnitFailed",
    "UnitState",
    "UnwritableValue",
    "WaitTimeout",
    "Worker",
    "current",
    "spec",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Imports asyncio, TLS and the worker only when they are used: most programs need one of them, or none."""
    if name == "AsyncClient":
        from .aio import AsyncClient

        return AsyncClient
    if name == "Tls":
        from ._tls import Tls

        return Tls
    if name == "Worker":
        from .worker import Worker

        return Worker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
