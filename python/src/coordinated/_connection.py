"""A blocking connection to the daemon.

It connects again when it breaks, sends again what was not answered, and can have many requests in flight. It is for one
thread at a time; `Client` keeps several.
"""

from __future__ import annotations

import random
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from . import _methods, _wire
from ._address import Address, find_tls, find_token, parse_address
from ._methods import Request
from .errors import ServerUnreachable

if TYPE_CHECKING:
    from ._tls import Tls, TlsSocket

__all__ = ["Connection", "backoff", "configure", "outcome_unknown", "unreachable"]

T = TypeVar("T")

CONNECT_TIMEOUT_S: Final = 10.0
RECONNECT_FOR_S: Final = 30.0
# A peer that vanished without closing is noticed after about 30 + 3 * 10 s. There is no other time limit for an answer:
# calls on many units can take long, and the daemon always answers.
_KEEPALIVE: Final = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
# The bound of what is sent before answers are read. Above the daemon's own limit both would wait for each other.
_IN_FLIGHT_MOST: Final = 64
# More than this is allocated in another way, which costs more than it saves for short answers.
_RECEIVE_BYTES: Final = 64 * 1024


def configure(connected: socket.socket) -> None:
    """Sets the options of a connected socket."""
    if connected.family == socket.AF_UNIX:
        return
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        if hasattr(socket, name):
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def backoff() -> Iterator[float]:
    """Gives the pauses between attempts to connect: 0.05 s, doubled up to 2 s, each shortened by up to a half."""
    pause = 0.05
    while True:
        yield pause * random.uniform(0.5, 1)
        pause = min(2 * pause, 2.0)


def unreachable(address: Address, error: Exception) -> ServerUnreachable:
    """Gives the error for a daemon that does not answer."""
    return ServerUnreachable(
        f"no daemon answers at {address}: {error}. Start one with `coordinated`, "
        f"or set COORDINATED_SERVER to its address"
    )


def outcome_unknown(address: Address, method: str) -> ServerUnreachable:
    """Gives the error for a request that must not be sent again."""
    return ServerUnreachable(
        f"the connection to {address} broke before {method} was answered: it may have been done or not, "
        f"and was not sent again because that could do it twice"
    )


class Connection:
    """A connection to one daemon. It is opened by the first call.

    Args:
        server: The address, as in `Client`.
        reconnect_for: For how many seconds to try when an open connection breaks. The first attempt to connect
            is not repeated.
        token, tls: As in `Client`.
    """

    def __init__(
        self,
        server: str | None = None,
        *,
        reconnect_for: float = RECONNECT_FOR_S,
        token: str | None = None,
        tls: Tls | None = None,
    ) -> None:
        self.address = parse_address(server)
        self._token = find_token(token)
        self._tls = find_tls(self.address, tls)
        self._reconnect_for = reconnect_for
        self._socket: socket.socket | TlsSocket | None = None
        self._frames = _wire.FrameReader()
        self._number = 0
        self._was_connected = False

    def close(self) -> None:
        """Closes the connection. A later call opens it again."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def call(self, request: Request[T]) -> T:
        """Sends a request and waits for its answer."""
        if self._socket is not None:
            # Nearly always this is all.
            try:
                self._send(request.body(self._next_number()))
                response = self._receive()
            except OSError:
                self.close()
                if not request.repeatable:
                    raise outcome_unknown(self.address, request.method) from None
            except BaseException:
                # Interrupted: the answer that comes would be taken for the next one's.
                self.close()
                raise
            else:
                return request.answer(response)
        return self._again([request.repeatable], [request.method], lambda: self._exchange(request))

    def call_list(self, requests: Sequence[Request[Any]]) -> list[Any]:
        """Sends requests as one list, which the daemon runs one after the other and answers together.

        An error of one is raised after all have run. Requests with `wait` are refused in a list.
        """
        outcomes = self.outcomes(requests)
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
        return outcomes

    def outcomes(self, requests: Sequence[Request[Any]]) -> list[Any]:
        """Sends requests as one list, and gives the answer or the exception of each."""

        def exchange() -> list[Any]:
            bodies = [request.body(self._next_number()) for request in requests]
            self._send(_wire.list_body(bodies))
            responses = self._receive()
            if not isinstance(responses, list):  # the daemon refused the whole list
                _wire.result_of("a list of requests", responses)
                raise _wire.BadAnswer("the server answered a list of requests with one answer")
            if len(responses) != len(requests):
                raise _wire.BadAnswer(f"the server answered {len(requests)} requests with {len(responses)} answers")
            return [_outcome(request, response) for request, response in zip(requests, responses, strict=True)]

        if not requests:
            return []
        return self._again([one.repeatable for one in requests], [one.method for one in requests], exchange)

    def pipeline(self, requests: Iterable[Request[T]], in_flight: int = 8) -> Iterator[T]:
        """Sends each request without waiting for the answers before it; gives the answers in order.

        At most `in_flight` requests are not yet answered at any time. It is meant for requests with short answers.
        After a broken connection, those without an answer are sent again.
        """
        waiting: deque[Request[T]] = deque()
        most = min(in_flight, _IN_FLIGHT_MOST)
        try:
            for request in requests:
                self._start(waiting, request)
                if len(waiting) >= most:
                    yield self._finish(waiting)
            while waiting:
                yield self._finish(waiting)
        finally:
            if waiting:  # their answers must not be taken for those of later requests
                self.close()

    def _start(self, waiting: deque[Request[T]], request: Request[T]) -> None:
        """Sends `request`, behind those that are waiting for their answers."""
        waiting.append(request)
        try:
            self._open()
            self._send(request.body(self._next_number()))
        except ServerUnreachable:
            raise
        except OSError:
            self._resend(waiting)

    def _finish(self, waiting: deque[Request[T]]) -> T:
        """Receives the answer of the first request that is waiting for one."""
        deadline: float | None = None
        pauses = backoff()
        while True:
            try:
                response = self._receive()
            except ServerUnreachable:
                self.close()
                raise
            except OSError as error:
                # A server may accept connections and answer nothing.
                if deadline is None:
                    deadline = time.monotonic() + self._reconnect_for
                elif (pause := next(pauses)) + time.monotonic() < deadline:
                    time.sleep(pause)
                else:
                    raise unreachable(self.address, error) from error
                self._resend(waiting)
            else:
                break
        return waiting.popleft().answer(response)

    def _resend(self, waiting: deque[Request[T]]) -> None:
        """Connects again, and sends all requests that are waiting for their answers."""

        def send() -> None:
            for request in waiting:
                self._send(request.body(self._next_number()))

        self.close()
        self._again([one.repeatable for one in waiting], [one.method for one in waiting], send, sent=True)

    def _exchange(self, request: Request[T]) -> T:
        self._send(request.body(self._next_number()))
        return request.answer(self._receive())

    def _again(
        self, repeatable: Sequence[bool], methods: Sequence[str], exchange: Callable[[], T], *, sent: bool = False
    ) -> T:
        """Does `exchange` on an open connection, again if the connection breaks and the requests allow it."""
        deadline: float | None = None
        pauses = backoff()
        while True:
            try:
                if sent and not all(repeatable):
                    raise outcome_unknown(self.address, methods[list(repeatable).index(False)])
                self._open()
                sent = True
                return exchange()
            except ServerUnreachable:
                self.close()
                raise
            except OSError as error:
                first = not self._was_connected
                self.close()
                now = time.monotonic()
                deadline = now + self._reconnect_for if deadline is None else deadline
                pause = next(pauses)
                if first or now + pause > deadline:
                    raise unreachable(self.address, error) from error
                if self._socket is None:
                    time.sleep(pause)
            except BaseException as error:
                # Interrupted in the middle of an exchange: the answer that comes would be taken for the next one's.
                if not isinstance(error, Exception) or isinstance(error, _wire.BadAnswer):
                    self.close()
                raise

    def _open(self) -> None:
        if self._socket is not None:
            return
        address = self.address
        opened: socket.socket | TlsSocket
        if address.path:
            opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                opened.settimeout(CONNECT_TIMEOUT_S)
                opened.connect(address.path)
            except BaseException:
                opened.close()
                raise
        else:
            opened = socket.create_connection((address.host, address.port), CONNECT_TIMEOUT_S)
            configure(opened)
        if self._tls is not None:
            from ._tls import TlsSocket

            opened = TlsSocket(opened, self._tls, address)
        opened.settimeout(None)
        self._socket, self._frames = opened, _wire.FrameReader()
        if self._token is not None:
            try:
                self._exchange(_methods.authenticate(self._token))
            except BaseException:
                self.close()
                raise
        self._was_connected = True

    def _next_number(self) -> int:
        self._number += 1
        return self._number

    def _send(self, body: bytes) -> None:
        assert self._socket is not None, "sending needs an open connection"
        self._socket.sendall(_wire.frame(body))

    def _receive(self) -> Any:
        """Receives and decodes the next response. Raises `ConnectionResetError` if the connection is closed."""
        if self._socket is None:
            raise ConnectionResetError("the connection was closed")
        while (body := self._frames.next()) is None:
            data = self._socket.recv(_RECEIVE_BYTES)
            if not data:
                raise ConnectionResetError("the daemon closed the connection")
            if (body := self._frames.whole(data)) is not None:
                break
            self._frames.feed(data)
        return _wire.decode(body)


def _outcome(request: Request[Any], response: Any) -> Any:
    try:
        return request.answer(response)
    except Exception as error:
        return error
