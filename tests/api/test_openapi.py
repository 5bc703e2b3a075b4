from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from api import job_examples as examples
from api import openapi, search_bodies
from api.app import create_app
from api.problems import STATUS, TYPE
from api.settings import Settings
from db.store import SqlStore
from edgelut import wire
from edgelut.jobs import Agent, Announcement, Claim, FleetDevice, Job, JobPoint, Mark, NewToken, Standing, Welcome
from edgelut.searches import SearchRun
from edgelut.testing_searches import make_event, make_search
from jobs.service import Jobs
from tests.api.support import entry, new_store, run, tiny_agent
from tests.jobs.support import request_for

COPY = Path(__file__).parents[2] / "docs" / "openapi.json"
PATHS = json.loads(COPY.read_text())["paths"]
ENDPOINTS = [f"{method.upper()} {path}" for path, operations in PATHS.items() for method in operations]
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]

EXAMPLES: dict[Any, Any] = {
    examples.JOB: Job,
    examples.JOB_POINT: JobPoint,
    examples.ANNOUNCEMENT: Announcement,
    examples.WELCOME: Welcome,
    examples.AGENT: Agent,
    examples.FLEET_DEVICE: FleetDevice,
    examples.CLAIM: Claim,
    examples.STORED: Standing,
    examples.MARK: Mark,
    examples.NEW_TOKEN: NewToken,
}
TOKEN = "s3cret"  # so that tokens which the test makes do not shut it out
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


@dataclass(frozen=True)
class There:
    """What there is in the service: names and ids that a request made at random would never hit upon."""

    job_id: str
    ended_job_id: str
    batch_id: str
    lease: str
    session: str
    name: str
    search_id: str

    def put_into(self, case: Any) -> None:
        """Make a request one about what there is."""
        for name in case.path_parameters:
            if hasattr(self, name):
                case.path_parameters[name] = getattr(self, name)
        if case.path.startswith("/jobs") and case.path.endswith("/events"):
            case.path_parameters["job_id"] = self.ended_job_id  # another's stream would not end
        if isinstance(case.body, dict):
            case.body |= {name: getattr(self, name) for name in ("lease", "session") if name in case.body}
            case.body |= {"wait_s": 0} if "wait_s" in case.body else {}


@pytest.fixture(scope="module")
def filled_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlStore]:
    """A store with rows and runs."""
    with new_store(tmp_path_factory.mktemp("openapi")) as store:
        _fill(store)
        yield store


@pytest.fixture(scope="module")
def api_schema(filled_store: SqlStore) -> Any:
    """The schema of a service over it."""
    return schemathesis.openapi.from_asgi("/openapi.json", create_app(filled_store, Settings(token=TOKEN)))


def _fill(store: SqlStore) -> None:
    sweep = store.start_sweep("plan", {}).id
    row = entry(224, sweep=sweep)
    store.put_runs([run(row, sweep)])
    store.put_many([row, entry(208, doubts=("noisy",)), entry(240, kind="predicted")])


def _there(store: SqlStore) -> There:
    """Let another agent come, a job that it measures, and one that has ended."""
    jobs = Jobs(store)
    device = f"device-{len(store.agents())}"
    agent = tiny_agent(jobs, device, name=f"agent of {device}")
    ended = jobs.cancel(jobs.submit(request_for(device)).id)
    job = jobs.submit(request_for(device))
    claim = agent.claim()
    agent.jobs.put_runs(claim.batch, claim.lease, [agent.run(claim, claim.points[0])])
    agent.fail(claim, claim.points[1:2])
    store.put_mark(agent.name)
    store.create_token(agent.name, ["agent"])
    search = make_search(f"of.{device}")
    store.put_search(search)
    store.add_search_events(search.id, [make_event(0)])
    return There(job.id, ended.id, claim.batch, claim.lease, agent.session, agent.name, search.id)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_every_endpoint_answers_as_it_is_described(api_schema: Any, filled_store: SqlStore, endpoint: str) -> None:
    method, _, path = endpoint.partition(" ")
    there = _there(filled_store)

    @settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(case=api_schema[path][method].as_strategy(), known=st.booleans())
    def play(case: Any, known: bool) -> None:
        if known:
            there.put_into(case)
        elif isinstance(case.body, dict) and "wait_s" in case.body:
            case.body["wait_s"] = 0
        case.call_and_validate(checks=CHECKS, headers=HEADERS)

    play()


def test_the_committed_copy_is_current() -> None:
    assert COPY.read_text() == openapi.text(), "run: python -m api.openapi > docs/openapi.json"


def test_every_endpoint_has_a_summary_examples_and_its_problems(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert len(operations) == len(ENDPOINTS) == 54
    for operation in operations:
        name = operation["operationId"]
        assert operation["summary"] and operation["description"], name
        assert "500" in operation["responses"], name
        good = {status: response for status, response in operation["responses"].items() if status < "300"}
        assert good, name
        for status, response in operation["responses"].items():
            if status >= "300":
                assert list(response["content"]) == ["application/problem+json"], name
            elif status != "204" and name != "watch_job":
                assert response["content"]["application/json"]["example"] is not None, name


def test_every_example_is_what_would_be_answered(client: httpx.Client) -> None:
    """The example body of each POST and PUT is accepted as it stands, those about a batch by there being none of it."""
    document = client.get("/openapi.json").json()
    announcement = document["paths"]["/agents"]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert client.post("/agents", json=announcement).status_code == 200  # whose device a job names
    sent = 0
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if "requestBody" in operation and path != "/tokens":  # what comes after that would need one
                example = operation["requestBody"]["content"]["application/json"]["example"]
                asked = path.replace("{name}", announcement["name"]).replace("{batch_id}", "none")
                asked = asked.replace("{search_id}", search_bodies.SEARCH.id)
                response = client.request(method, asked, json=example, timeout=20)
                if "{batch_id}" in path:
                    assert response.json()["type"] == f"{TYPE}no-such-batch", (path, response.text)
                else:
                    assert response.is_success, (path, response.text)
                    assert str(response.status_code) in operation["responses"], path
                sent += 1
    example = document["paths"]["/tokens"]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert client.post("/tokens", json=example).status_code == 201
    assert sent == 18


def test_every_example_answer_is_one_of_its_type() -> None:
    for value, type_ in EXAMPLES.items():
        assert wire.load(type_, wire.dump(value)) == value


def test_the_example_of_a_search_is_one() -> None:
    assert wire.load(SearchRun, wire.dump(search_bodies.SEARCH)) == search_bodies.SEARCH


def test_every_operation_declares_the_scope_that_it_needs() -> None:
    found = {operation["operationId"]: operation["security"] for path in PATHS.values() for operation in path.values()}
    assert found["put_entries"] == [{"token": ["submit"]}, {}]
    assert found["claim_batch"] == [{"token": ["agent"]}, {}]
    assert found["get_health"] == [{}]


def test_every_problem_is_in_the_openapi(client: httpx.Client) -> None:
    types = client.get("/openapi.json").json()["components"]["schemas"]["Problem"]["properties"]["type"]["enum"]
    assert types == [TYPE + name for name in STATUS]
