"""Uses the client that openapi-python-client makes from GET /openapi.json: a test runs this."""

import os

from generated import Client
from generated.api.daemon import get_healthz
from generated.api.methods import (
    add_work_units, count_work_units, get_work, now, set_work_spec, update_work_unit)
from generated.models import (
    AddWorkUnitsBody, CountWorkUnitsBody, GetWorkBody, Problem, SetWorkSpecBody, UpdateWorkUnitBody)

client = Client(base_url=os.environ["COORDINATED_URL"])



def body(kind, **fields):
    return kind.from_dict(fields)


assert get_healthz.sync(client=client) == "ok\n"
assert now.sync(client=client) > 0
spec = body(SetWorkSpecBody, work_spec={"name": "s"})
assert set_work_spec.sync(client=client, body=spec) is True
units = body(AddWorkUnitsBody, work_spec_name="s", work_unit_key_vals=[["a", {"n": 1}]])
assert add_work_units.sync(client=client, body=units) is True
counts = count_work_units.sync(client=client, body=body(CountWorkUnitsBody, work_spec_name="s"))
assert counts.to_dict() == {"1": 1}, counts

request = body(GetWorkBody, worker_id="w", options={"attempts": True})
found, key, data, attempt = get_work.sync(client=client, body=request)
assert (found, key, data) == ("s", "a", {"n": 1})
report = body(
    UpdateWorkUnitBody, work_spec_name="s", work_unit_key="a",
    options={"status": 4, "attempt": attempt["attempt"]})
assert update_work_unit.sync(client=client, body=report) is True

problem = count_work_units.sync(client=client, body=body(CountWorkUnitsBody, work_spec_name="nope"))
assert isinstance(problem, Problem), problem
assert problem.status == 404
assert problem.type_.value == "urn:coordinated:problem:no-such-work-spec"
