from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from api import openapi
from api.app import create_app
from api.problems import STATUS, TYPE
from db.store import SqlStore
from tests.api.support import entry, new_store, run

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


@pytest.fixture(scope="module")
def api_schema(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The schema of a service with rows and runs."""
    with new_store(tmp_path_factory.mktemp("openapi")) as store:
        _fill(store)
        yield schemathesis.openapi.from_asgi("/openapi.json", create_app(store))


def _fill(store: SqlStore) -> None:
    sweep = store.start_sweep("plan", {}).id
    row = entry(224, sweep=sweep)
    store.put_runs([run(row, sweep)])
    store.put_many([row, entry(208, doubts=("noisy",)), entry(240, kind="predicted")])


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_every_endpoint_answers_as_it_is_described(api_schema: Any, endpoint: str) -> None:
    method, _, path = endpoint.partition(" ")

    @settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(case=api_schema[path][method].as_strategy())
    def play(case: Any) -> None:
        case.call_and_validate(checks=CHECKS)

    play()


def test_the_committed_copy_is_current() -> None:
    assert COPY.read_text() == openapi.text(), "run: python -m api.openapi > docs/openapi.json"


def test_every_endpoint_has_a_summary_examples_and_its_problems(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert len(operations) == len(ENDPOINTS) == 16
    for operation in operations:
        name = operation["operationId"]
        assert operation["summary"] and operation["description"], name
        assert operation["responses"]["200"]["content"]["application/json"]["example"], name
        assert "500" in operation["responses"], name
        for status, response in operation["responses"].items():
            if status != "200":
                assert list(response["content"]) == ["application/problem+json"], name


def test_every_example_is_what_would_be_answered(client: httpx.Client) -> None:
    """The example body of each POST and PUT is accepted as it stands."""
    document = client.get("/openapi.json").json()
    sent = 0
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if "requestBody" in operation:
                example = operation["requestBody"]["content"]["application/json"]["example"]
                assert client.request(method, path, json=example).status_code == 200, path
                sent += 1
    assert sent == 4


def test_every_problem_is_in_the_openapi(client: httpx.Client) -> None:
    types = client.get("/openapi.json").json()["components"]["schemas"]["Problem"]["properties"]["type"]["enum"]
    assert types == [TYPE + name for name in STATUS]
