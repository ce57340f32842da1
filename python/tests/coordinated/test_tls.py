"""Both clients at a `tls:` address: whom they trust, how they show who they are, and what they say if it fails."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from certificates import Authority, addresses, flags, tls_daemon
from helpers import finish

from coordinated import AsyncClient, Client, RequestRefused, ServerUnreachable, Tls, TlsError, Unit, spec
from coordinated._address import parse_address
from coordinated._tls import Session
from coordinated.testing import Daemon

LOCAL = ("127.0.0.1", "localhost")
SECURITY = Path(__file__).parents[3] / "docs" / "security.md"

Problem = Callable[[str, "Tls | None"], str]


@spec
def length(text: str) -> int:
    return len(text)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    """Another CA."""
    return Authority(tmp_path / "stranger")


@pytest.fixture
def server(authority: Authority) -> Iterator[str]:
    """The address of a daemon with a certificate for this machine."""
    with tls_daemon(authority.issue("server", *LOCAL)) as (_, address, _plain):
        yield address


def problem_of_a_call(server: str, tls: Tls | None) -> str:
    with Client(server, tls=tls) as client, pytest.raises(TlsError) as raised:
        client.server_info()
    return str(raised.value)


def problem_of_adding_many(server: str, tls: Tls | None) -> str:
    with Client(server, tls=tls) as client, pytest.raises(TlsError) as raised:
        client.add_many(Unit("s", str(number)) for number in range(20_000))
    return str(raised.value)


def problem_of_asyncio(server: str, tls: Tls | None) -> str:
    async def call() -> str:
        async with AsyncClient(server, tls=tls) as client:
            with pytest.raises(TlsError) as raised:
                await client.server_info()
            with pytest.raises(TlsError):
                await client.result(Unit("s", "k"))
        return str(raised.value)

    return asyncio.run(call())


@pytest.fixture(params=[problem_of_a_call, problem_of_adding_many, problem_of_asyncio])
def problem(request: pytest.FixtureRequest) -> Problem:
    """Gives what a client says about a server that it can't have TLS with."""
    found: Problem = request.param
    return found


@pytest.mark.parametrize("host", LOCAL)
def test_clients_that_trust_the_ca_connect_by_each_name_in_the_certificate(
    server: str, authority: Authority, host: str
) -> None:
    at = server.replace("127.0.0.1", host)

    async def result(unit: Unit[int]) -> int:
        async with AsyncClient(at, tls=authority.tls) as client:
            return await client.result(unit)

    with Client(at, tls=authority.tls) as client:
        assert repr(client) == f"Client({at!r})"
        unit = client.add(length, "four")
        finish(client, "length", length)
        assert client.result(unit) == 4
    assert asyncio.run(result(unit)) == 4


def test_the_files_are_named_by_the_environment(
    server: str, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COORDINATED_SERVER", server)
    monkeypatch.setenv("COORDINATED_TLS_CA", str(authority.path))
    with Client() as client:
        assert client.specs() == []


@pytest.mark.parametrize("is_system", [False, True])
def test_a_certificate_of_an_unknown_ca_is_refused(
    server: str, stranger: Authority, problem: Problem, is_system: bool
) -> None:
    said = problem(server, None if is_system else stranger.tls)
    assert re.search("no trusted CA has signed .* COORDINATED_TLS_CA", said)


def test_a_certificate_for_another_name_is_refused(authority: Authority, problem: Problem) -> None:
    with tls_daemon(authority.issue("other", "jobs.example.org", "192.0.2.7")) as (_, server, _plain):
        said = problem(server, authority.tls)
    assert "is not for 127.0.0.1" in said
    assert "subject alternative name" in said


def test_a_certificate_that_has_expired_is_refused(authority: Authority, problem: Problem) -> None:
    ended = datetime.now(timezone.utc) - timedelta(days=1)
    with tls_daemon(authority.issue("old", *LOCAL, ends=ended)) as (_, server, _plain):
        assert re.search("expired: renew it at the server.* SIGHUP", problem(server, authority.tls))


def test_a_client_shows_its_certificate_to_a_server_that_wants_one(
    authority: Authority, stranger: Authority, problem: Problem
) -> None:
    wanted = ("--tls-client-ca", str(authority.path))
    with tls_daemon(authority.issue("server", *LOCAL), *wanted) as (_, server, _plain):
        known = Tls(ca=authority.path, client_cert=authority.issue("client", "client"))
        with Client(server, tls=known) as client:
            client.add_many([length.unit("a")])
        assert re.search("requires a client cert.* COORDINATED_TLS_CLIENT_CERT", problem(server, authority.tls))
        foreign = Tls(ca=authority.path, client_cert=stranger.issue("client", "client"))
        assert re.search(r"does not accept the client certificate \(.*--tls-client-ca", problem(server, foreign))


def test_a_port_without_tls_says_so(authority: Authority, problem: Problem) -> None:
    with tls_daemon(authority.issue("server", *LOCAL)) as (_, _tls, plain):
        assert "does not speak TLS: write the address without tls:" in problem(f"tls:{plain}", authority.tls)


def test_a_port_with_tls_says_so_to_a_client_without(server: str) -> None:
    plain = server.removeprefix("tls:")

    async def call() -> None:
        async with AsyncClient(plain) as client:
            await client.specs()

    with Client(plain) as client, pytest.raises(RequestRefused, match="for TLS only: connect to it as tls:"):
        client.specs()
    with pytest.raises(RequestRefused, match="for TLS only: connect to it as tls:"):
        asyncio.run(call())


def test_a_server_that_never_answers_is_not_asked_forever() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            while True:
                try:
                    accepted, _ = listener.accept()
                except OSError:
                    return
                accepted.close()

        refusing = threading.Thread(target=refuse)
        refusing.start()
        with Client(f"127.0.0.1:{listener.getsockname()[1]}", reconnect_for=0.5) as client:
            with pytest.raises(ServerUnreachable):
                client.add_many(Unit("s", str(number)) for number in range(3))
            with pytest.raises(ServerUnreachable):
                client.specs()
        listener.shutdown(socket.SHUT_RDWR)
    refusing.join()


def test_files_that_cannot_be_used_are_named(tmp_path: Path, authority: Authority, stranger: Authority) -> None:
    server = "tls:127.0.0.1:1"
    nothing = tmp_path / "nothing.pem"
    text = tmp_path / "text.pem"
    text.write_text("no certificate\n")
    client, other = authority.issue("client", "client"), stranger.issue("client", "client")
    for tls, words in (
        (Tls(ca=nothing), f"can't read {nothing}: No such file"),
        (Tls(ca=text), f"{text} is not a PEM file with a certificate"),
        (Tls(client_cert=text), f"{text} is not a PEM file with a certificate and its key"),
        (Tls(client_cert=client, client_key=nothing), f"can't read {nothing}"),
        (Tls(client_cert=client, client_key=other), f"the key in {other} does not belong to the certificate in"),
        (Tls(client_key=other), "without its certificate: name that, too, for example by COORDINATED_TLS_CLIENT_CERT"),
    ):
        with pytest.raises(TlsError, match=re.escape(words)):
            Client(server, tls=tls)
        with pytest.raises(TlsError, match=re.escape(words)):
            AsyncClient(server, tls=tls)
    # Without TLS they are of no use, and not read.
    Client("127.0.0.1:1", tls=Tls(ca=nothing)).close()


def test_a_key_with_a_password_is_not_asked_for(tmp_path: Path, authority: Authority) -> None:
    locked = tmp_path / "locked.pem"
    client = authority.issue("client", "client")
    command = ["openssl", "pkey", "-in", str(client), "-aes256", "-passout", "pass:secret", "-out", str(locked)]
    subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(TlsError, match=re.escape(f"the key in {locked} has a password")):
        Client("tls:127.0.0.1:1", tls=Tls(client_cert=client, client_key=locked))


def test_a_host_that_no_certificate_can_name_is_refused(authority: Authority) -> None:
    with pytest.raises(TlsError, match="can't be the name of a certificate"):
        Session(authority.tls, parse_address("tls:.example.org:1"))


def test_certificates_made_as_the_documents_say_are_accepted(tmp_path: Path) -> None:
    block = re.search(r"A CA of your own.*?```sh\n(.*?)```", SECURITY.read_text(), re.DOTALL)
    assert block
    commands = block[1].replace("DNS:queue.example.org,IP:10.0.0.7", "DNS:localhost,IP:127.0.0.1")
    assert shutil.which("openssl"), "this needs the command openssl"
    subprocess.run(["bash", "-ec", commands], cwd=tmp_path, check=True, capture_output=True)
    shown = Tls(tmp_path / "ca.pem", tmp_path / "client.pem", tmp_path / "client.key")
    certificate = tmp_path / "both.pem"
    certificate.write_text((tmp_path / "server.pem").read_text() + (tmp_path / "server.key").read_text())
    with (
        tls_daemon(certificate, "--tls-client-ca", str(tmp_path / "ca.pem")) as (_, server, _plain),
        Client(server, tls=shown) as client,
    ):
        assert client.specs() == []


def test_clients_connect_again_with_tls(tmp_path: Path, authority: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    fixed = ("--listen", f"tls:127.0.0.1:{port}")

    async def use(daemon: Daemon, server: str) -> None:
        async with AsyncClient(server, tls=authority.tls) as client:
            unit = await client.add(Unit("length", "async", {"text": "a"}))
            waiting = asyncio.create_task(client.result(unit))
            await asyncio.sleep(0)
            await asyncio.to_thread(daemon.kill)
            await asyncio.to_thread(daemon.start)
            with daemon.client() as local:
                await asyncio.to_thread(finish, local, "length", length)
            assert await waiting == 1

    with Daemon(tmp_path / "db", *flags(authority.issue("server", *LOCAL)), *fixed) as daemon:
        server = f"tls:127.0.0.1:{port}"
        addresses(daemon)  # it listens everywhere now
        with Client(server, tls=authority.tls) as client:
            client.add(length, "before")
            finish(client, "length", length)
            daemon.kill()
            daemon.start()
            unit = client.add(length, "after")
            finish(client, "length", length)
            assert client.result(unit) == 5
        asyncio.run(use(daemon, server))


def test_large_data_and_many_threads_pass_through_tls(server: str, authority: Authority) -> None:
    with Client(server, tls=authority.tls) as client:
        client.set_spec({"name": "s"})

        def use(number: int) -> None:
            data = {"text": chr(65 + number) * (1 << 20)}
            unit: Unit[None] = Unit("s", f"large-{number}", data)
            client.add(unit)
            assert client.data(unit) == data
            assert client.add_many(Unit("s", f"{number}-{n}", {"n": n}) for n in range(2_000)).new == 2_000

        with ThreadPoolExecutor() as threads:
            list(threads.map(use, range(4)))
        assert sum(client.count("s").values()) == 4 * 2_001


def test_asyncio_passes_large_data_through_tls(server: str, authority: Authority) -> None:
    async def use() -> None:
        async with AsyncClient(server, tls=authority.tls) as client:
            await client.set_spec({"name": "s"})
            units = [Unit[None]("s", str(number), {"text": "x" * (1 << 20)}) for number in range(8)]
            await asyncio.gather(*(client.add(unit) for unit in units))
            for data in await asyncio.gather(*(client.data(unit) for unit in units)):
                assert len(data["text"]) == 1 << 20

    asyncio.run(use())


def test_a_token_is_shown_within_tls(tmp_path: Path, authority: Authority) -> None:
    with Daemon(tmp_path / "db") as daemon, daemon.client() as client:
        made = client.call("create_token", "admin", {"scopes": ["admin"], "by": "test"})[0]["token"]
    certificate = authority.issue("server", *LOCAL)
    with Daemon(tmp_path / "db", *flags(certificate, "--cborrpc-auth", "required")) as daemon:
        server, _ = addresses(daemon)
        with Client(server, tls=authority.tls, token=made) as client:
            assert client.specs() == []
