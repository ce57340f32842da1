"""TLS with a daemon at a `tls:` address: whom to trust, how to show who we are, and a session without a socket.

The session is fed with what comes, and gives what is to be sent. So a socket can be read for the server's last words
after sending has failed, and one that never waits needs nothing else.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NoReturn

from ._address import Address
from .errors import TlsError

__all__ = ["Session", "Tls", "TlsSocket", "explain"]

CA: Final = "COORDINATED_TLS_CA"
CLIENT_CERT: Final = "COORDINATED_TLS_CLIENT_CERT"
CLIENT_KEY: Final = "COORDINATED_TLS_CLIENT_KEY"

_RECEIVE_BYTES: Final = 64 * 1024
# The alerts by which a server refuses a client's certificate, as OpenSSL names them.
_CLIENT_REFUSED: Final = frozenset(
    [
        "SSLV3_ALERT_BAD_CERTIFICATE",
        "SSLV3_ALERT_CERTIFICATE_EXPIRED",
        "SSLV3_ALERT_CERTIFICATE_REVOKED",
        "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
        "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
        "TLSV1_ALERT_DECRYPT_ERROR",
        "TLSV1_ALERT_UNKNOWN_CA",
    ]
)
# What OpenSSL says, by version, about bytes that are not TLS.
_NOT_TLS: Final = frozenset(["WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST"])
# Codes of OpenSSL for a certificate: X509_V_ERR_*.
_UNKNOWN_CA: Final = frozenset([2, 7, 18, 19, 20, 21])
_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
_OTHER_NAME: Final = frozenset([62, 64])


@dataclass(frozen=True)
class Tls:
    """How a client checks the server at a `tls:` address, and how it shows who it is: files in PEM format.

    The server's certificate always has to be valid, of a CA that is trusted, and for the host in the address.

    Attributes:
        ca: The certificates of the CAs to trust; by default those in the file COORDINATED_TLS_CA, or else the system's.
        client_cert: The certificate to show the server; by default that in the file COORDINATED_TLS_CLIENT_CERT, if
            that is set.
        client_key: Its key; by default that in the file COORDINATED_TLS_CLIENT_KEY, or else that in the same file.
    """

    ca: str | os.PathLike[str] | None = None
    client_cert: str | os.PathLike[str] | None = None
    client_key: str | os.PathLike[str] | None = None

    @cached_property
    def context(self) -> ssl.SSLContext:
        """The files, as read at the first use. Raises `TlsError` if they can't be used."""
        ca = self.ca or os.environ.get(CA)
        certificate = self.client_cert or os.environ.get(CLIENT_CERT)
        key = self.client_key or os.environ.get(CLIENT_KEY)
        # Not that of `ssl.create_default_context`: by version, it refuses CAs that the daemon's own commands take.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.hostname_checks_common_name = False
        if ca is None:
            context.load_default_certs()
        else:
            _check_readable(ca)
            try:
                context.load_verify_locations(os.fspath(ca))
            except ssl.SSLError as error:
                raise _not_pem(ca, "a certificate", error) from None
        if certificate is not None:
            _load_client(context, certificate, key)
        elif key is not None:
            raise TlsError(
                f"a client's key was given without its certificate: name that, too, for example by {CLIENT_CERT}"
            )
        return context


def _load_client(
    context: ssl.SSLContext, certificate: str | os.PathLike[str], key: str | os.PathLike[str] | None
) -> None:
    key = certificate if key is None else key
    _check_readable(certificate)
    _check_readable(key)

    def no_password() -> NoReturn:
        raise TlsError(f"the key in {os.fspath(key)} has a password: give one without, such as `openssl pkey` writes")

    try:
        context.load_cert_chain(certificate, key, no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise TlsError(
                f"the key in {os.fspath(key)} does not belong to the certificate in {os.fspath(certificate)}: "
                f"give the file of the key that this certificate was made with"
            ) from None
        # OpenSSL does not tell which file it is.
        files = " or ".join(dict.fromkeys((os.fspath(certificate), os.fspath(key))))
        raise _not_pem(files, "a certificate and its key", error) from None


def _check_readable(path: str | os.PathLike[str]) -> None:
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise TlsError(f"can't read {os.fspath(path)}: {error.strerror}; check the path and its permissions") from None


def _not_pem(path: str | os.PathLike[str], what: str, error: ssl.SSLError) -> TlsError:
    problem = (error.reason or str(error)).replace("_", " ").lower()
    return TlsError(f"{os.fspath(path)} is not a PEM file with {what} ({problem}): check whether it is the right file")


def explain(error: ssl.SSLError, address: Address) -> TlsError:
    """Says what is wrong with a connection, and what to do about it."""
    return TlsError(f"cannot connect to {address}: {_problem(error, address.host)}")


def _problem(error: ssl.SSLError, host: str) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _problem_of_certificate(error, host)
    reason = error.reason or ""
    if reason in _NOT_TLS:
        return (
            "the server there does not speak TLS: write the address without tls:, or use the port at which the server "
            "has TLS"
        )
    if reason == "TLSV13_ALERT_CERTIFICATE_REQUIRED":
        return (
            f"the server requires a client certificate: name its file by {CLIENT_CERT}, --tls-client-cert or "
            f"Tls(client_cert=...)"
        )
    if reason in _CLIENT_REFUSED:
        alert = reason.partition("_ALERT_")[2].replace("_", " ").lower()
        return (
            f"the server does not accept the client certificate ({alert}): use one that has not expired and that a CA "
            f"of the server's --tls-client-ca has signed"
        )
    return f"TLS failed: {error}"


def _problem_of_certificate(error: ssl.SSLCertVerificationError, host: str) -> str:
    if error.verify_code in _UNKNOWN_CA:
        return (
            f"no trusted CA has signed the certificate of {host}: name the file with the CA's certificate by {CA}, "
            f"--tls-ca or Tls(ca=...)"
        )
    if error.verify_code in _OTHER_NAME:
        return (
            f"the server's certificate is not for {host}: connect by a name that it has, or give the server one that "
            f"has {host} as a subject alternative name"
        )
    if error.verify_code == _EXPIRED:
        return (
            f"the certificate of {host} has expired: renew it at the server, and send the daemon SIGHUP; if it has not "
            f"expired, check the clock of this machine"
        )
    if error.verify_code == _NOT_YET_VALID:
        return f"the certificate of {host} is not valid yet: check the clock of this machine"
    return f"the certificate of {host} can't be accepted: {error.verify_message}"


class Session:
    """TLS with the server at an address, without a socket.

    The first bytes to send are there from the start; more can be after each call of `feed`.
    """

    def __init__(self, tls: Tls, address: Address) -> None:
        self._address = address
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        try:
            self._object = tls.context.wrap_bio(self._incoming, self._outgoing, server_hostname=address.host)
        except ValueError:
            raise TlsError(f"{address.host!r} can't be the name of a certificate: check the address") from None
        self.is_established = False
        self._is_ended = False
        self.feed(b"")

    def unsent(self) -> bytes:
        """Takes what is to be sent."""
        return self._outgoing.read()

    def seal(self, data: bytes | bytearray) -> bytes:
        """Encrypts data, after the handshake; gives what is to be sent."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._object.write(rest) :]
        return self._outgoing.read()

    def feed(self, sealed: bytes) -> bytes:
        """Takes bytes that have come, and gives those in them that are plain: none during the handshake, for example.

        Raises `TlsError` if there is no TLS with this server, and `ConnectionResetError` if the server has ended it.
        """
        self._incoming.write(sealed)
        plain: list[bytes] = []
        try:
            if not self.is_established:
                self._object.do_handshake()
                self.is_established = True
            while not self._is_ended:
                data = self._object.read(_RECEIVE_BYTES)
                self._is_ended = not data
                plain.append(data)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._is_ended = True
        except ssl.SSLError as error:
            raise explain(error, self._address) from None
        got = b"".join(plain)
        if self._is_ended and not got:
            raise ConnectionResetError("the daemon closed the connection")
        return got


class TlsSocket:
    """A connected socket that waits, with TLS on it: what clients use of a socket.

    It takes the socket over, and does the handshake within the socket's time limit.
    """

    def __init__(self, connected: socket.socket, tls: Tls, address: Address) -> None:
        self._socket = connected
        self._plain = b""
        try:
            self._session = Session(tls, address)
            while True:
                self._flush()
                if self._session.is_established:
                    break
                self._plain = self._receive()
        except BaseException:
            connected.close()
            raise

    def sendall(self, data: bytes) -> None:
        """Sends all of it."""
        try:
            self._socket.sendall(self._session.seal(data))
        except OSError:
            # A server that refuses this client says why, and closes the connection.
            with contextlib.suppress(BlockingIOError, ConnectionResetError):
                self._session.feed(self._socket.recv(_RECEIVE_BYTES, socket.MSG_DONTWAIT))
            raise

    def recv(self, _most: int) -> bytes:
        """Waits for data; gives some, of any length."""
        data, self._plain = self._plain, b""
        while not data:
            data = self._receive()
            self._flush()
        return data

    def _receive(self) -> bytes:
        sealed = self._socket.recv(_RECEIVE_BYTES)
        if not sealed:
            raise ConnectionResetError("the daemon closed the connection")
        return self._session.feed(sealed)

    def _flush(self) -> None:
        unsent = self._session.unsent()
        if unsent:
            self._socket.sendall(unsent)

    def settimeout(self, seconds: float | None) -> None:
        """Sets for how long to wait for the system; None for no limit."""
        self._socket.settimeout(seconds)

    def getsockname(self) -> object:
        """Gives its own address."""
        return self._socket.getsockname()

    def shutdown(self, how: int) -> None:
        """Ends one direction of the connection, or both."""
        self._socket.shutdown(how)

    def close(self) -> None:
        """Closes it."""
        self._socket.close()
