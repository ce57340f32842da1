"""The connection to the daemon, and the calling of its methods."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import socket
import threading
import time
from collections.abc import Iterable, Mapping
from typing import IO, Any

from coordinated import _wire
from coordinated._address import Address, find_tls, find_token, parse_address
from coordinated._connection import configure
from coordinated.errors import RequestRefused, TlsError

from ._strings import received

logger = logging.getLogger(__name__)

CBOR_TAG_UUID = 37
DIFFEO_CBOR_TAG_TUPLE = 128

_RECEIVE_BYTES = 64 * 1024


class TagMapper:
    """Encodes and decodes CBOR with tuples (tag 128) and UUIDs (tag 37)."""

    def dumps(self, obj: Any) -> bytes:
        """Encodes a value."""
        return _wire.encode(obj)

    def dump(self, obj: Any, fp: IO[bytes]) -> None:
        """Encodes a value into a file."""
        fp.write(_wire.encode(obj))

    def loads(self, data: bytes) -> Any:
        """Decodes a value, which can be wrapped in tag 24."""
        frames = _wire.FrameReader()
        if data[:2] == b"\xd8\x18":
            frames.feed(data)
            data = frames.next() or data
        return _wire.decode(data)

    def load(self, fp: IO[bytes]) -> Any:
        """Decodes what a file has from here to its end."""
        return self.loads(fp.read())


def make_cbor_tagmapper() -> TagMapper:
    """The encoder and decoder of this package."""
    return TagMapper()


def cbor_return(tagmapper: TagMapper, obj: Any) -> bytes:
    """A value as a message: encoded, and wrapped in tag 24."""
    return _wire.frame(tagmapper.dumps(obj))


class SocketReader:
    """Reads from a socket as from a file."""

    def __init__(self, sock: Any) -> None:
        self.socket = sock
        self._unread = b""

    def read(self, num: int) -> bytes:
        """Reads exactly `num` bytes. Raises ConnectionResetError if the connection ends before."""
        data = self._take()
        while len(data) < num:
            data += self._take()
        self._unread = data[num:]
        return data[:num]

    def read_message(self) -> Any:
        """Reads the next message, and decodes it. The daemon sends no second one unasked."""
        data = self._take()
        if data[0] >> 5 == 5:
            # A bare map, without tag 24. No server sends one, but the old client could read it.
            while True:
                try:
                    return _wire.decode(data)
                except _wire.BadAnswer:
                    data += self._take()
        frames = _wire.FrameReader()
        frames.feed(data)
        while (body := frames.next()) is None:
            frames.feed(self._take())
        return _wire.decode(body)

    def _take(self) -> bytes:
        data, self._unread = self._unread, b""
        if not data:
            data = self.socket.recv(_RECEIVE_BYTES)
        if not data:
            raise ConnectionResetError("the daemon has closed the connection")
        return data


class CborRpcClient:
    """A client of the daemon. The first call connects.

    Keys of the configuration: `address` (`'host:port'`, `'tls:host:port'` or a pair), or
    `addresses`, one of which is taken at random; `retries` (5), how often a call is tried again when the
    connection fails, and `base_retry_seconds` (0.5), the wait before the first of these,
    which doubles each time; `python2_strings` (false), for queues that Python 2 fills.

    A token for the daemon is in the file that the variable COORDINATED_TOKEN_FILE names, or in
    COORDINATED_TOKEN; not in the configuration, which add_flow stores in work specs. For a `tls:`
    address, COORDINATED_TLS_CA, COORDINATED_TLS_CLIENT_CERT and COORDINATED_TLS_CLIENT_KEY name
    files, as for the commands of the daemon.

    Threads can share a client; their calls go one after the other.
    """

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        config = config or {}
        self._socket_family = config.get("addr_family", socket.AF_INET)
        self._socket_addr: Address | None = None
        if self._socket_family == socket.AF_INET:
            self._socket_addr = _parse_address(config.get("address") or _any_of(config.get("addresses")))
        self._tls = None if self._socket_addr is None else find_tls(self._socket_addr)
        # Any: tests put something of their own here.
        self._socket: Any = None
        self._rfile: SocketReader | None = None
        self._local_addr: Any = None
        self._message_count = 0
        self._retries = config.get("retries", 5)
        self._base_retry_seconds = float(config.get("base_retry_seconds", 0.5))
        self._token = find_token()
        self._python2_strings = bool(config.get("python2_strings", False))
        self._tagmapper = make_cbor_tagmapper()
        self._lock = threading.RLock()
        self._pid = os.getpid()

    def _conn(self) -> Any:
        if self._socket is None:
            if self._socket_addr is None:
                raise ValueError("the configuration has no address: set `address: 'host:port'`")
            try:
                self._socket = socket.create_connection((self._socket_addr.host, self._socket_addr.port))
                # A call waits without limit, so that a slow daemon is not asked twice.
                configure(self._socket)
                if self._tls is not None:
                    from coordinated._tls import TlsSocket

                    self._socket = TlsSocket(self._socket, self._tls, self._socket_addr)
                self._local_addr = self._socket.getsockname()
                if self._token is not None:
                    self._show_token(self._token)
            except OSError:
                logger.error("cannot connect to %s", self._socket_addr, exc_info=True)
                raise
        return self._socket

    def _show_token(self, token: str) -> None:
        _send(self._socket, _wire.frame(_wire.request_body(0, "authenticate", _wire.encode([token]))))
        try:
            _wire.result_of("authenticate", self.rfile.read_message())
        except RequestRefused as error:
            raise Exception(error.message) from None

    def close(self) -> None:
        """Closes the connection. The next call opens it again."""
        with self._lock:
            closed, self._socket, self._rfile = self._socket, None, None
            if closed is None:
                return
            with contextlib.suppress(OSError):  # it has ended already
                closed.shutdown(socket.SHUT_RDWR)
            closed.close()

    @property
    def rfile(self) -> SocketReader:
        """What the daemon sends, as a file."""
        if self._rfile is None:
            self._rfile = SocketReader(self._conn())
        return self._rfile

    def _rpc(self, method_name: str, params: Iterable[Any]) -> Any:
        """Calls a method of the daemon with positional parameters, and returns its result.

        Raises Exception with the daemon's message if it answers with an error, and OSError if
        no connection could be had in all tries. A call that is tried again can have been
        carried out before.
        """
        with self._lock:
            self._leave_parents_connection()
            self._message_count += 1
            number = self._message_count
            sent = [_wire.name_out(param) if type(param) is str else param for param in params]
            message = _wire.frame(_wire.request_body(number, method_name, _wire.encode(sent)))
            answer = self._exchange(method_name, message)
            if isinstance(answer, dict):
                answered = answer.get(b"id", answer.get("id"))
                if answered != number:
                    self.close()
                    raise AssertionError(f"the answer to call {number} is to call {answered!r}")
        try:
            result = _wire.result_of(method_name, answer)
        except RequestRefused as error:
            raise Exception(error.message) from None
        return received(method_name, result, self._python2_strings)

    def _exchange(self, method_name: str, message: bytes) -> Any:
        """Sends a message and reads the answer, over a new connection if the old one is lost."""
        delay = self._base_retry_seconds
        tries = 0
        while True:
            try:
                _send(self._conn(), message)
                return self.rfile.read_message()
            except TlsError:
                self.close()
                raise
            except OSError as error:
                self.close()
                if tries >= self._retries:
                    logger.error("call of %s failed", method_name, exc_info=True)
                    raise
                tries += 1
                logger.debug("%s: %s; try %d in %s s", method_name, error, tries, delay)
                time.sleep(delay)
                delay *= 2
            except BaseException:
                # The answer may still come, and must not be taken for that of the next call.
                self.close()
                raise

    def _leave_parents_connection(self) -> None:
        """After a fork the connection is the parent's."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            if self._socket is not None:
                self._socket.close()
                self._socket = self._rfile = None


def _send(connection: Any, message: bytes) -> None:
    if hasattr(connection, "sendall"):
        connection.sendall(message)
    else:
        connection.send(message)


def _any_of(addresses: Any) -> Any:
    return random.choice(addresses) if addresses else None


def _parse_address(address: Any) -> Address | None:
    if not address:
        return None
    if isinstance(address, str):
        if address.startswith("tls:"):
            return parse_address(address)
        host, colon, port = address.rpartition(":")
        if not colon or not port.isdecimal():
            raise ValueError(f"the address {address!r} is not 'host:port'")
        return Address(host.strip("[]"), int(port))
    if not isinstance(address, (tuple, list)) or len(address) != 2:
        raise ValueError(f"the address {address!r} is neither 'host:port' nor a pair of host and port")
    return Address(address[0], address[1])
