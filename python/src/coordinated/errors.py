"""Everything that this package raises.

All of these are a `CoordinateError`, except `Cancelled`, which must get past `except Exception`, and `Retry`,
which a function raises itself. Many are also the built-in exception of that kind (`TimeoutError`, `LookupError`).
"""

from __future__ import annotations

__all__ = [
    "Cancelled",
    "CoordinateError",
    "InvalidArguments",
    "LockHeld",
    "LostLease",
    "NoSuchSpec",
    "NoSuchUnit",
    "RequestRefused",
    "Retry",
    "ServerUnreachable",
    "TlsError",
    "UnitCancelled",
    "UnitExists",
    "UnitFailed",
    "UnwritableValue",
    "WaitTimeout",
]


class CoordinateError(Exception):
    """The base of all errors of this package."""


class ServerUnreachable(CoordinateError, ConnectionError):
    """No daemon answers, or the connection broke and could not be opened again in time."""


class TlsError(ServerUnreachable):
    """There can't be TLS with the server at a `tls:` address: one of the two does not trust the other, for example.

    It is also raised if the files of the certificates can't be used. The message says what to do.
    """


class RequestRefused(CoordinateError):
    """The daemon answered a request with an error; nothing was changed.

    `method` is the method that was called, `message` what the daemon said.
    """

    def __init__(self, method: str, message: str) -> None:
        super().__init__(message)
        self.method = method
        self.message = message


class NoSuchSpec(CoordinateError, LookupError):
    """The daemon has no work spec of this name."""


class NoSuchUnit(CoordinateError, LookupError):
    """The work spec has no unit with this key: it was never added, or it was deleted or archived."""


class UnitExists(CoordinateError):
    """A unit was to be added with `if_exists="error"`, and there is one with this key."""


class UnitFailed(CoordinateError):
    """The unit whose result was awaited has failed, and is not tried again.

    `spec` and `key` name the unit. `traceback` is what its last attempt left, or an empty string.
    """

    def __init__(self, message: str, spec: str, key: str, traceback: str) -> None:
        super().__init__(message)
        self.spec = spec
        self.key = key
        self.traceback = traceback


class UnitCancelled(UnitFailed):
    """The unit whose result was awaited was cancelled. The traceback ends with the reason."""


class WaitTimeout(CoordinateError, TimeoutError):
    """What was waited for did not happen within the timeout."""


class LostLease(CoordinateError):
    """The daemon has taken the unit from this worker, so its report is not accepted."""


class LockHeld(CoordinateError):
    """Another owner holds the lock, or one above or below it."""


class UnwritableValue(CoordinateError, TypeError):
    """A value can't be sent, because CBOR has no such thing. The message has the path to it."""


class InvalidArguments(CoordinateError, TypeError):
    """The arguments of a unit do not fit its function."""


class Retry(Exception):
    """Raised by a function that can't do its unit now: gives it back, to be tried again after `delay` seconds.

    It is not a failure, and does not count against `retries`.
    """

    def __init__(self, delay: float = 0.0) -> None:
        super().__init__(f"retry in {delay:g} s")
        self.delay = delay


class Cancelled(BaseException):
    """Raised in a running function that has to stop: its unit was cancelled, its lease is lost, or it took too long.

    It is a `BaseException`, so that `except Exception` does not catch it. Clean up, and let it pass.
    """
