"""docker-compose.yml and the Dockerfile: what is written there holds together, and its commands work together."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.compose.composed import SECRET, Composed, MissingVariable, Server, free_port, load, wait_job
from tests.fakes import ROOT

TOKEN = "admin-of-the-test"
GIVEN = {"POSTGRES_PASSWORD": SECRET, "EDGELUT_TOKEN": TOKEN}
ASKED = {
    "blocks": ["identity"],
    "widths": [8, 16],
    "resolutions": [4],
    "alone": True,
    "devices": ["compose"],
    "max_rounds": 4,
}


@pytest.mark.parametrize("name", sorted(GIVEN))
def test_nothing_starts_without_a_secret_that_is_required(name: str) -> None:
    with pytest.raises(MissingVariable, match=f"set {name}"):
        load({other: value for other, value in GIVEN.items() if other != name})


def test_nothing_is_open_but_the_api_and_the_dashboard() -> None:
    services = load(GIVEN)["services"]
    assert [name for name, service in services.items() if "ports" in service] == ["api", "dashboard"]
    assert services["dashboard"]["ports"] == ["8330:8322"]
    assert services["api"]["deploy"]["replicas"] == 2
    (ports,) = services["api"]["ports"]
    first, last = map(int, re.fullmatch(r"(\d+)-(\d+):8321", ports).groups())  # type: ignore[union-attr]
    assert last - first + 1 == services["api"]["deploy"]["replicas"]


def test_what_services_refer_to_exists() -> None:
    composed = load(GIVEN)
    services = composed["services"]
    stages = re.findall(r"^FROM \S+ AS (\w+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    for service in services.values():
        assert ("image" in service) != ("build" in service)
        if "build" in service:
            assert service["build"]["target"] in stages
        for other, how in service.get("depends_on", {}).items():
            assert how["condition"] != "service_healthy" or "healthcheck" in services[other]
        for volume in service.get("volumes", ()):
            assert volume.split(":")[0] in composed["volumes"]


def test_secrets_are_in_no_command_and_in_no_url() -> None:
    for service in load(GIVEN)["services"].values():
        assert SECRET not in str(service.get("command")) and TOKEN not in str(service.get("command"))
        assert SECRET not in service.get("environment", {}).get("EDGELUT_DATABASE_URL", "")


def test_the_dashboard_has_no_secret_and_the_api_starts_none_of_its_own() -> None:
    services = load(GIVEN)["services"]
    assert "environment" not in services["dashboard"] and "volumes" not in services["dashboard"]
    assert "--no-dashboard" in services["api"]["command"]


def test_the_dashboards_command_asks_for_a_token_as_the_api_does(tmp_path: Path) -> None:
    port, own = free_port(), free_port()
    services = load(GIVEN)["services"]
    running = Composed(services, {"http://api:8321": f"http://127.0.0.1:{port}"}, tmp_path)
    places = {"EDGELUT_DATABASE_URL": f"sqlite:///{tmp_path / 'edgelut.db'}", "EDGELUT_TOKEN": TOKEN}
    services["api"]["environment"] = places
    try:
        api = running.start("api", port=port)
        running.wait_healthy("api", port, api)
        running.wait_healthy("dashboard", own, running.start("dashboard", port=own))
        with httpx.Client(base_url=f"http://127.0.0.1:{own}", timeout=30) as client:
            assert client.get("/").headers["location"] == "/login"
            assert client.post("/login", data={"token": TOKEN}).headers["location"] == "/"
            assert client.get("/").status_code == 200
        assert TOKEN not in running.log("dashboard")
    finally:
        running.close()


def test_the_image_copies_every_package_and_nothing_that_is_missing() -> None:
    copied = set(re.findall(r"^COPY (.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    names = {name for line in copied for name in line.split()}
    assert all((ROOT / name).exists() for name in names)
    packages = re.search(r"^packages = \[(.+)\]$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert packages is not None
    assert set(re.findall(r'"(\w+)"', packages.group(1))) <= names


@pytest.fixture
def composed(database: Server, tmp_path: Path) -> Iterator[Composed]:
    """The file's services, with the database running."""
    services = load({**GIVEN, "EDGELUT_AGENT_TOKEN": "put in later"})["services"]
    running = Composed(services, {"@db:5432": f"@127.0.0.1:{database.port}"}, tmp_path)
    own = {"PATH": f"{database.programs}:/usr/bin:/bin", "PGHOST": "127.0.0.1", "PGPORT": str(database.port)}
    assert running.is_healthy("db", extra=own)
    yield running
    running.close()


def has_torch(pid: int) -> bool:
    return "torch" in Path(f"/proc/{pid}/maps").read_text()


@pytest.mark.slow
def test_the_services_work_together_and_two_api_processes_share_the_work(composed: Composed) -> None:
    migrate = composed.start("migrate")
    assert migrate.wait(60) == 0, composed.log("migrate")
    ports = [free_port(), free_port()]
    replicas = [composed.start("api", number, port) for number, port in enumerate(ports)]
    for port, replica in zip(ports, replicas, strict=True):
        composed.wait_healthy("api", port, replica)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    first, second = (httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=20) for port in ports)
    with first, second:
        assert httpx.get(f"{first.base_url}/latency?block=identity", timeout=10).status_code == 401
        made = first.post("/tokens", json={"name": "agent", "scopes": ["agent"], "devices": ["compose"]})
        secret = made.raise_for_status().json()["token"]
        composed.services["agent"]["environment"]["EDGELUT_TOKEN"] = secret
        composed.places = {**composed.places, "http://api:8321": str(first.base_url).rstrip("/")}
        agent = composed.start("agent")
        _wait_for_device(second)
        job = second.post("/jobs", json=ASKED).raise_for_status().json()
        done = wait_job(first, job["id"], composed.logs)
        assert done["points"]["measured"] == 2 and done["points"]["open"] == 0, composed.log("agent")
        found = second.get("/latency?block=identity&device=compose").raise_for_status().json()["entries"]
        assert sorted(entry["spec"]["width_in"] for entry in found) == [8, 16]
        assert not any(has_torch(replica.pid) for replica in replicas)

        replicas[1].kill()  # for good: what it had begun is the other's now
        again = first.post("/jobs", json={**ASKED, "again": True}).raise_for_status().json()
        assert wait_job(first, again["id"], composed.logs)["points"]["measured"] == 2
        for process in (agent, replicas[0]):
            process.send_signal(signal.SIGTERM)
        assert replicas[0].wait(30) == 0, composed.log("api")
        assert agent.wait(30) in (0, 130), composed.log("agent")
    said = composed.logs()
    assert not [one for one in (SECRET, TOKEN, secret) if one in said]


def _wait_for_device(client: httpx.Client) -> None:
    import time

    deadline = time.monotonic() + 60
    while True:
        devices: list[dict[str, Any]] = client.get("/fleet").raise_for_status().json()["devices"]
        if any(device["info"]["name"] == "compose" and device["info"]["usable"] for device in devices):
            return
        assert time.monotonic() < deadline, devices
        time.sleep(0.2)
