from __future__ import annotations

import subprocess
import sys

import httpx
import pytest

from api.settings import Settings, from_environment, is_loopback, require_token_off_loopback
from db.store import SqlStore
from edgelut import __version__, wire
from edgelut.coverage import Coverage
from edgelut.errors import InvalidSpec
from edgelut.types import Target
from tests.api.support import OTHER, TARGET, entry, new_client
from tests.api.test_latency import problem


def test_the_index_links_only_to_what_answers(client: httpx.Client) -> None:
    index = client.get("/").json()
    assert index["version"] == __version__
    for link in index["links"].values():
        assert client.get(link).status_code in (200, 405), link  # 405: a path for POST or PUT


def test_the_catalogue_lists_blocks_devices_and_targets(client: httpx.Client) -> None:
    (block,) = client.get("/blocks").json()["blocks"]
    assert block["kind"] == "MB3D"
    assert block["widths"] == [208, 224, 240]
    assert block["resolutions"] == [7, 14]
    assert client.get("/devices").json() == {"devices": ["host", "null"]}
    assert wire.load(list[Target], client.get("/targets").json()["targets"]) == [TARGET, OTHER]


def test_the_coverage_counts_rows_by_target_and_kind_and_those_in_doubt(client: httpx.Client, filled: SqlStore) -> None:
    def counts() -> list[tuple[str, str, str, int, int]]:
        listed = wire.load(list[Coverage], client.get("/coverage").json()["coverage"])
        return [(one.target.device, one.block, one.kind, one.rows, one.doubtful) for one in listed]

    estimated, measured, other = counts()
    assert estimated == ("host", "MB3D", "interpolated", 1, 0)
    assert measured == ("host", "MB3D", "measured", 3, 1)
    assert other == ("null", "MB3D", "measured", 1, 0)
    filled.put(entry(256))
    assert counts()[1] == ("host", "MB3D", "measured", 4, 1)


def test_a_row_that_is_measured_again_changes_the_newest_of_its_coverage(filled: SqlStore) -> None:
    before = {(one.target, one.kind): one for one in filled.coverage()}
    filled.put(entry(224, ms=2.5))
    after = {(one.target, one.kind): one for one in filled.coverage()}
    (changed,) = [key for key in before if before[key].newest != after[key].newest]
    assert changed == (TARGET, "measured") and before[changed].rows == after[changed].rows
    assert after[changed].newest_at > before[changed].newest_at


def test_a_targets_rows_can_be_read_as_columns(client: httpx.Client) -> None:
    page = client.get("/table", params={"device": "host", "runtime": TARGET.runtime, "limit": 3}).json()
    assert len(page["columns"]) == len(page["names"]) and {len(column) for column in page["columns"]} == {3}
    rest = {"device": "host", "runtime": TARGET.runtime, "cursor": page["next_cursor"]}
    assert len(client.get("/table", params=rest).json()["columns"][0]) == 1
    assert client.get("/table", params={"device": "none", "runtime": "none"}).json()["columns"][0] == []
    problem(client.get("/table", params={"device": "host"}), 422, "invalid")
    problem(client.get("/table", params={**rest, "cursor": "next"}), 422, "invalid")


def test_a_caller_is_told_who_it_is_and_what_it_may(filled: SqlStore) -> None:
    with new_client(filled) as client:
        anybody = client.get("/caller").json()
    assert anybody == {"name": "", "scopes": ["admin", "agent", "read", "submit"], "devices": [], "guarded": False}
    secret, _ = filled.create_token("lab", ("agent",), ("lab-1",), None)
    with new_client(filled) as client:
        problem(client.get("/caller"), 401, "unauthorized")
        told = client.get("/caller", headers={"Authorization": f"Bearer {secret}"}).json()
    assert told == {"name": "lab", "scopes": ["agent", "read"], "devices": ["lab-1"], "guarded": True}


def test_health_is_ok_where_the_database_answers(client: httpx.Client) -> None:
    assert client.get("/healthz").json() == {"status": "ok", "version": __version__}


def test_an_unknown_path_and_method_are_problems(client: httpx.Client) -> None:
    problem(client.get("/latencies"), 404, "no-such-path")
    assert "GET" in problem(client.delete("/latency"), 405, "method")["detail"]
    problem(client.delete("/entries/1"), 405, "method")


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_over_the_limit_is_refused_before_it_is_read_whole(store: SqlStore, declared: bool) -> None:
    body = wire.encode([entry(width) for width in range(1, 20)])
    with new_client(store, Settings(body_bytes=1000)) as client:
        content = body if declared else iter([body[:900], body[900:]])
        assert problem(client.put("/entries", content=content), 413, "too-large")["limit_bytes"] == 1000
        assert store.targets() == []


def test_a_token_guards_every_path_but_health_and_the_openapi(filled: SqlStore) -> None:
    token = "s3cret-token"
    with new_client(filled, Settings(token=token)) as client:
        assert client.get("/healthz").status_code == 200
        assert client.get("/openapi.json").status_code == 200
        for path in ("/", "/latency", "/entries/1", "/nowhere"):
            for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": token}):
                response = client.get(path, headers=header)
                problem(response, 401, "unauthorized")
                assert response.headers["www-authenticate"].startswith("Bearer")
                assert token not in response.text
        for scheme in ("Bearer", "bearer"):
            assert client.get("/latency", headers={"Authorization": f"{scheme} {token}"}).status_code == 200


def test_a_token_is_in_no_repr_and_a_bad_one_is_refused() -> None:
    settings = from_environment({"EDGELUT_TOKEN": "s3cret"})
    assert settings.token == "s3cret"
    assert "s3cret" not in repr(settings)
    assert from_environment({"EDGELUT_TOKEN": ""}).token is None
    with pytest.raises(InvalidSpec) as caught:
        from_environment({"EDGELUT_TOKEN": "s3cret\n"})
    assert "s3cret" not in str(caught.value)


def test_only_loopback_may_be_served_without_a_token() -> None:
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost"))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "example.org", ""))
    assert require_token_off_loopback("127.0.0.1", Settings(), lambda: False) == Settings()
    assert require_token_off_loopback("0.0.0.0", Settings(token="s3cret"), lambda: False).guarded
    assert require_token_off_loopback("0.0.0.0", Settings(), lambda: True).guarded
    with pytest.raises(InvalidSpec, match="EDGELUT_TOKEN="):
        require_token_off_loopback("0.0.0.0", Settings(), lambda: False)


def test_the_app_reaches_no_toolchain_and_importing_it_opens_nothing() -> None:
    code = "import sys, api.app, api.cli; print([m for m in ('torch', 'onnx', 'profiler', 'backends') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
