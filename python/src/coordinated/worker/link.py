"""A connection to the daemon for a loop that never waits: it connects again by itself, and sends one list at a time.

What was in flight when it broke is told to the owner, who knows what of it can be sent again.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import selectors
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import _methods, _wire
from .._address import Address
from .._connection import backoff, configure
from ..errors import CoordinateError, RequestRefused
from . import _messages

if TYPE_CHECKING:
    from .._tls import Session, Tls

__all__ = ["Call", "Link"]

log = logging.getLogger("coordinated.worker")

CONNECT_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Call:
    """A request, and what to do with its result, or with the error that the daemon answered."""

    method: str
    params: bytes
    done: Callable[[Any], None]
    failed: Callable[[RequestRefused], None]


class Link:
    """A connection with at most one message in flight.

    `opened` is called when it is connected, `broken` when the connection is lost or can't be opened, or the daemon has
    rejected a whole message; nothing in flight was answered then.
    """

    def __init__(
        self,
        address: Address,
        selector: selectors.BaseSelector,
        opened: Callable[[], None],
        broken: Callable[[Exception], None],
        token: str | None = None,
        tls: Tls | None = None,
    ) -> None:
        self._address = address
        self._token = token
        self._tls = tls
        self._selector = selector
        self._opened = opened
        self._broken = broken
        self._socket: socket.socket | None = None
        self._session: Session | None = None
        self._is_connected = self._is_open = False
        # A host can have several addresses, which take turns.
        self._turn = 0
        self._connect_until = 0.0
        self._connect_at = 0.0
        self._pauses = backoff()
        self._reader = _wire.FrameReader()
        self._unsent = bytearray()
        self._calls: list[Call] = []
        self._is_list = True

    @property
    def is_open(self) -> bool:
        """Whether it is connected."""
        return self._is_open

    @property
    def is_free(self) -> bool:
        """Whether it is connected and has nothing in flight."""
        return self._is_open and not self._calls

    @property
    def is_busy(self) -> bool:
        """Whether an answer is to come."""
        return bool(self._calls)

    @property
    def connect_at(self) -> float | None:
        """When it has to be called next, None if it waits for the daemon alone."""
        if self._is_open:
            return None
        return self._connect_at if self._socket is None else self._connect_until

    def tick(self, now: float) -> None:
        """Connects, if it is not connected and its pause is over."""
        if self._is_open:
            return
        if self._socket is not None:
            if now >= self._connect_until:
                self.fail(TimeoutError(f"no answer within {CONNECT_TIMEOUT_S:g} s"))
        elif now >= self._connect_at:
            self._connect(now)

    def _connect(self, now: float) -> None:
        address = self._address
        try:
            target: Any
            if address.path:
                family, target = socket.AF_UNIX, address.path
            else:
                found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
                family, _, _, _, target = found[self._turn % len(found)]
            self._socket = socket.socket(family, socket.SOCK_STREAM)
            self._socket.setblocking(False)
            configure(self._socket)
            code = self._socket.connect_ex(target)
            if code not in (0, errno.EINPROGRESS):
                raise OSError(code, errno.errorcode.get(code, "error"))
        except OSError as error:
            self.fail(error)
            return
        self._connect_until = now + CONNECT_TIMEOUT_S
        self._selector.register(self._socket, selectors.EVENT_WRITE, self._on_events)

    def _on_events(self, events: int) -> None:
        assert self._socket is not None
        try:
            if not self._is_connected:
                code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code:
                    raise OSError(code, errno.errorcode.get(code, "error"))
                self._is_connected = True
                self._begin()
                return
            if events & selectors.EVENT_WRITE:
                self._send_unsent()
            if events & selectors.EVENT_READ:
                self._read()
        except (OSError, CoordinateError) as error:
            self.fail(error)

    def _begin(self) -> None:
        """Begins TLS, or the conversation if there is none."""
        if self._tls is None:
            self._open()
            return
        from .._tls import Session

        self._session = Session(self._tls, self._address)
        self._unsent += self._session.unsent()
        self._send_unsent()

    def _open(self) -> None:
        self._is_open = True
        self._send_unsent()
        self._introduce()

    def _introduce(self) -> None:
        """Shows the token, if there is one, before anything else is sent."""
        if self._token is None:
            self._opened()
            return
        request = _methods.authenticate(self._token)
        self.send([Call(request.method, request.params, lambda _: self._opened(), self.fail)], alone=True)

    def send(self, calls: Sequence[Call], *, alone: bool = False) -> None:
        """Sends calls as one list of requests, or one call `alone`: only then may it wait at the daemon."""
        assert self.is_free
        self._calls = list(calls)
        self._is_list = not alone
        bodies = [_wire.request_body(number, call.method, call.params) for number, call in enumerate(calls)]
        frame = _wire.frame(bodies[0] if alone else _wire.list_body(bodies))
        self._unsent += frame if self._session is None else self._session.seal(frame)
        try:
            self._send_unsent()
        except (OSError, CoordinateError) as error:
            self.fail(error)

    def _send_unsent(self) -> None:
        assert self._socket is not None
        try:
            while self._unsent:
                del self._unsent[: self._socket.send(self._unsent)]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            if self._session is not None:
                # A server that refuses this client says why, and closes the connection.
                with contextlib.suppress(BlockingIOError, ConnectionResetError):
                    self._session.feed(self._socket.recv(1 << 18))
            raise
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)
        if self._selector.get_key(self._socket).events != events:
            self._selector.modify(self._socket, events, self._on_events)

    def _read(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(1 << 18)
        except (BlockingIOError, InterruptedError):
            return
        if not data:
            raise ConnectionResetError("the daemon closed the connection")
        if self._session is not None:
            data = self._session.feed(data)
            self._unsent += self._session.unsent()
            if not self._is_open and self._session.is_established:
                self._open()
            elif self._unsent:
                self._send_unsent()
        self._reader.feed(data)
        while (body := self._reader.next()) is not None:
            self._on_answer(_messages.decode(body))

    def _on_answer(self, answer: Any) -> None:
        calls, answers = self._calls, answer if isinstance(answer, list) else [answer]
        is_whole = isinstance(answer, list) == self._is_list and len(answers) == len(calls)
        if not is_whole:
            # The message could not be read as a whole, which its only answer says.
            raise RequestRefused("list", str(_rejection(answers[0] if answers else None)))
        self._calls = []
        self._pauses = backoff()
        for call, one in zip(calls, answers, strict=True):
            try:
                result = _wire.result_of(call.method, one)
            except RequestRefused as error:
                call.failed(error)
            else:
                call.done(result)

    def hurry(self) -> None:
        """Lets the daemon answer a call that waits now. Nothing more can be sent on this connection."""
        if self._socket is not None and self._is_open:
            try:
                self._socket.shutdown(socket.SHUT_WR)
            except OSError as error:
                self.fail(error)

    def fail(self, error: Exception) -> None:
        """Ends the connection, tells the owner, and connects again after a pause."""
        if not self._is_open:
            self._turn += 1
        self.close()
        self._connect_at = time.monotonic() + next(self._pauses)
        self._broken(error)

    def close(self) -> None:
        """Ends the connection."""
        if self._socket is not None:
            with contextlib.suppress(KeyError):
                self._selector.unregister(self._socket)
            self._socket.close()
        self._socket = self._session = None
        self._is_connected = self._is_open = False
        self._calls = []
        self._unsent.clear()
        self._reader = _wire.FrameReader()


def _rejection(answer: Any) -> str:
    try:
        _wire.result_of("list", answer)
    except CoordinateError as error:
        return str(error)
    return "the daemon's answer does not fit the request"
