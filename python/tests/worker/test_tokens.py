"""A worker shows its token on both of its connections, and needs no more than the scope for workers."""

from __future__ import annotations

from pathlib import Path

import pytest
import worker_jobs as jobs
from conftest import Start

from coordinated import Client, CoordinateError, Unit, Worker
from coordinated.testing import Daemon


@pytest.mark.parametrize("is_changed", [False, True])
def test_a_worker_needs_only_the_scope_for_workers(tmp_path: Path, start_worker: Start, is_changed: bool) -> None:
    with Daemon(tmp_path / "db") as daemon, daemon.client() as client:
        if "tokens" not in client.server_info()["features"]:
            pytest.skip("this daemon has no tokens")
        tokens = {
            scope: client.call("create_token", scope, {"scopes": [scope], "by": "test"})[0]["token"]
            for scope in ("admin", "work")
        }
    file = tmp_path / "token"
    file.write_text(tokens["work"])
    with (
        Daemon(tmp_path / "db", "--cborrpc-auth", "required") as daemon,
        Client(daemon.server, token=tokens["admin"]) as client,
    ):
        client.set_spec({**jobs.add.definition(), **({"weight": 5} if is_changed else {})})
        with pytest.raises(CoordinateError, match="the token is not known"):
            Worker(jobs.add, server=daemon.server, processes=0, token="cdt_wrong").run()
        worker = Worker(jobs.add, server=daemon.server, processes=1, token=tokens["work"])
        unit: Unit[int] = client.add(Unit("add", "u", {"a": 1}))
        assert worker.run(until_empty=True).finished == 1
        assert client.result(unit) == 2
        assert client.get_spec("add").get("weight") == (5 if is_changed else None)
