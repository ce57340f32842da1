"""The drop-in at a `tls:` address."""

from __future__ import annotations

from pathlib import Path

import pytest
from certificates import Authority, tls_daemon

from coordinate.constants import FINISHED
from coordinate.job_client import TaskMaster
from coordinated import TlsError


def test_an_old_program_uses_tls_if_its_address_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path / "authority")
    certificate = authority.issue("server", "127.0.0.1")
    with tls_daemon(certificate, "--tls-client-ca", str(authority.path)) as (_, server, _plain):
        monkeypatch.setenv("COORDINATED_TLS_CA", str(authority.path))
        with pytest.raises(TlsError, match="requires a client certificate"):
            TaskMaster({"address": server}).list_work_specs()
        monkeypatch.setenv("COORDINATED_TLS_CLIENT_CERT", str(authority.issue("client", "client")))
        client = TaskMaster({"addresses": [server]})
        client.set_work_spec({"name": "spec", "min_gb": 1, "module": "os.path", "run_function": "id"})
        client.add_work_units("spec", {"key": {"text": "x" * (1 << 20)}})
        unit = client.get_work("worker", available_gb=1)
        assert len(unit.data["text"]) == 1 << 20
        unit.finish()
        client.close()
        assert client.count_work_units("spec") == {FINISHED: 1}
        client.close()


def test_an_old_program_that_does_not_trust_the_daemon_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, stranger = Authority(tmp_path / "authority"), Authority(tmp_path / "stranger")
    monkeypatch.setenv("COORDINATED_TLS_CA", str(stranger.path))
    with (
        tls_daemon(authority.issue("server", "127.0.0.1")) as (_, server, _plain),
        pytest.raises(TlsError, match=r"no trusted CA has signed .* COORDINATED_TLS_CA"),
    ):
        TaskMaster({"address": server}).list_work_specs()
    with pytest.raises(ValueError, match="tls:HOST:PORT"):
        TaskMaster({"address": "tls:host"})
