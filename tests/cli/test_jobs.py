"""The commands about jobs, the fleet, marks and tokens, against a service on a real connection."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from api.app import create_app
from api.settings import Settings
from db.engine import SqlStore, open_store
from edgelut import wire
from edgelut.cli_tokens import parse_span
from edgelut.errors import InvalidSpec
from edgelut.job_tables import ago, duration
from edgelut.jobs import DeviceInfo, Job, JobRequest, NewToken, RuntimeInfo, TokenInfo
from edgelut.types import Params
from jobs.service import Jobs
from tests.api.support import new_store, served, tiny_agent
from tests.cli.conftest import Command
from tests.jobs.support import TinyAgent, request_for

TOKEN = "s3cret-token"
WIDTH = 80


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    """An empty store."""
    with new_store(tmp_path) as opened:
        yield opened


@pytest.fixture
def jobs(store: SqlStore) -> Jobs:
    return Jobs(store)


@pytest.fixture
def service(store: SqlStore, jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a service with a token, which the environment has too."""
    monkeypatch.setenv("EDGELUT_TOKEN", TOKEN)
    with served(create_app(store, Settings(token=TOKEN), jobs)) as url:
        monkeypatch.setenv("EDGELUT_URL", url)
        yield url


@pytest.fixture
def agent(jobs: Jobs) -> TinyAgent:
    """An agent with the devices a and b."""
    return tiny_agent(jobs, "a", "b")


SUBMIT = ("jobs", "submit", "--block", "MB3D", "--width", "64,128", "--resolution", "7", "--runtime", "null", "--alone")


def narrow(text: str) -> str:
    """Return what was printed after checking that tables fit the terminal."""
    assert all(len(line.rstrip()) <= WIDTH for line in text.splitlines() if " " * 2 in line.strip()), text
    return text


def test_nothing_is_said_with_what_to_type(edgelut: Command, service: str) -> None:
    assert "edgelut jobs submit" in edgelut("jobs").out
    assert "edgelut agent" in edgelut("fleet").out
    assert "edgelut mark NAME" in edgelut("marks").out
    assert "edgelut token create" in edgelut("token", "list").out
    assert edgelut("jobs", "--json").json == []


def test_a_job_is_submitted_with_all_that_was_asked(edgelut: Command, service: str, agent: TinyAgent) -> None:
    asked = (*SUBMIT, "--device", "a", "--selector", "model=null", "--priority", "7", "--name", "nightly", "--again")
    asked = (*asked, "--label", "branch=main", "--max-rounds", "5", "--seed", "3", "--key", "build-17", "--json")
    job = wire.load(Job, edgelut(*asked).json)
    assert job.devices == ("a", "b") and job.points.total == 4
    assert job.request == JobRequest(
        blocks=("MB3D",),
        widths=(64, 128),
        resolutions=(7,),
        alone=True,
        devices=("a",),
        selector=Params({"model": "null"}),
        runtimes=("null",),
        max_rounds=5,
        seed=3,
        again=True,
        priority=7,
        name="nightly",
        labels=Params({"branch": "main"}),
    )
    assert wire.load(Job, edgelut(*asked).json).id == job.id


def test_a_preset_is_submitted_with_its_whole_network(edgelut: Command, service: str, agent: TinyAgent) -> None:
    done = edgelut("jobs", "submit", "efficientformer-l1", "--whole", "--device", "a", "--runtime", "null", "--json")
    request = wire.load(Job, done.json).request
    assert (request.presets, request.networks) == (("efficientformer-l1",), ("efficientformer-l1",))


def test_a_submitted_job_is_described_with_what_to_type_next(
    edgelut: Command, service: str, agent: TinyAgent, jobs: Jobs
) -> None:
    out = edgelut(*SUBMIT, "--device", "a").out
    (job,) = jobs.jobs()
    assert f"job {job.id} is queued: 2 points: 2 open" in out
    assert f"$ edgelut jobs watch {job.id[:8]}" in out


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (SUBMIT, 2, "edgelut fleet"),
        ((*SUBMIT, "--device", "c"), 2, "there are a, b"),
        ((*SUBMIT, "--device", "a", "--width", "wide"), 2, "208..240:16"),
        (("jobs", "show", "nothing"), 5, "edgelut jobs"),
        (("jobs", "watch", "f" * 32), 5, "GET /jobs"),
        (("jobs", "list"), 2, "list"),
        (("mark", "v1", "--delete"), 5, "v1"),
        (("token", "revoke", "ci"), 5, "ci"),
        (("token", "create", "ci", "--scope", "root"), 2, "root"),
        (("token", "create", "ci", "--scope", "read", "--expires-in", "soon"), 2, "90d"),
        (("jobs", "--url", "http://127.0.0.1:1"), 4, "edgelut serve"),
    ],
)
def test_what_cannot_be_is_one_line_with_what_there_is(
    edgelut: Command,
    service: str,
    agent: TinyAgent,
    monkeypatch: pytest.MonkeyPatch,
    argv: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    monkeypatch.setattr("edgelut.rest._wait_s", lambda *_: 0.0)
    done = edgelut(*argv)
    assert done.code == code and said in done.error


def test_jobs_are_listed_shown_cancelled_and_retried(
    edgelut: Command, service: str, agent: TinyAgent, jobs: Jobs
) -> None:
    first = jobs.submit(request_for("a", name="a series with a name that is far longer than its column can be"))
    jobs.submit(request_for("b", name="other"))
    listed = narrow(edgelut("jobs").out)
    assert first.id[:8] in listed and "0/4" in listed and "queued" in listed
    assert "other" not in edgelut("jobs", "--state", "done").out
    assert [
        job["name"] for job in map(lambda job: job["request"], edgelut("jobs", "--name", "other", "--json").json)
    ] == ["other"]
    assert len(edgelut("jobs", "--limit", "1", "--json").json) == 1
    assert "4 cancelled" in edgelut("jobs", "cancel", first.id[:8]).out
    assert "4 open" in edgelut("jobs", "retry", first.id[:8]).out
    shown = edgelut("jobs", "show", first.id[:8], "--points").out
    assert "cancelled with 4 points open" in shown and "MB3D 64 @7" in shown
    assert edgelut("jobs", "show", first.id, "--json").json["job"]["id"] == first.id


def test_a_job_is_shown_with_why_points_failed_and_the_end_of_its_log(
    edgelut: Command, service: str, agent: TinyAgent, jobs: Jobs, store: SqlStore
) -> None:
    job = jobs.submit(request_for("a"))
    claim = agent.claim()
    agent.fail(claim, claim.points[:1], "Unsupported: no int8\non this unit")
    agent.measure(claim, claim.points[1:])
    for number in range(20):
        store.log_job(job.id, "error", f"line {number}")
    out = edgelut("jobs", "show", job.id[:8]).out
    assert "3 measured, 1 failed" in out
    assert "failed: MB3D 64 @7 on a null fp32: Unsupported: no int8 on this unit" in out
    assert "error: line 19" in out and "line 3" not in out and "lines of the log before these" in out
    assert "line 3" in edgelut("jobs", "show", job.id[:8], "--log").out


def test_the_beginning_of_an_id_must_tell_one_job_apart(
    edgelut: Command, service: str, agent: TinyAgent, jobs: Jobs
) -> None:
    made = [jobs.submit(request_for("a")) for _ in range(17)]
    begins = [job.id[0] for job in made]
    twice = next(letter for letter in begins if begins.count(letter) > 1)
    assert "jobs begin with" in edgelut("jobs", "show", twice).error


@pytest.mark.parametrize("failing", [False, True])
def test_a_watch_shows_progress_and_exits_as_the_job_ended(
    edgelut: Command, service: str, agent: TinyAgent, jobs: Jobs, failing: bool
) -> None:
    job = jobs.submit(request_for("a"))

    def work() -> None:
        claim = agent.claim()
        if failing:
            agent.fail(claim, claim.points[:1], "no such operator")
        agent.measure(claim, claim.points[1:] if failing else claim.points)

    working = threading.Timer(0.4, work)
    working.start()
    done = edgelut("jobs", "watch", job.id[:8])
    working.join()
    assert done.code == int(failing)
    assert f"job {job.id} is done" in done.out and "4/4" in done.err
    assert "taken by agent lab" in done.err
    assert ("failed: MB3D 64 @7 on a null fp32: no such operator" in done.out) == failing


def test_a_submit_that_waits_prints_the_ended_job(edgelut: Command, service: str, agent: TinyAgent) -> None:
    working = threading.Timer(0.5, agent.work)
    working.start()
    done = edgelut(*SUBMIT, "--device", "a", "--wait", "--json")
    working.join()
    assert done.code == 0 and wire.load(Job, done.json).state == "done" and done.err == ""


def test_a_cancelled_job_is_no_success(edgelut: Command, service: str, agent: TinyAgent, jobs: Jobs) -> None:
    job = jobs.cancel(jobs.submit(request_for("a")).id)
    assert edgelut("jobs", "watch", job.id).code == 1


def test_the_fleet_is_listed_with_what_cannot_be_used_and_why(edgelut: Command, service: str, jobs: Jobs) -> None:
    agent = TinyAgent(jobs, "a-lab-in-the-cellar", ("pixel-8-in-the-rack", "b"))
    null = RuntimeInfo("onnxruntime-cpu", "1", ("onnx",), ("fp32",))
    broken = DeviceInfo("b", Params(), (), False, "it is hot: let it rest")
    devices = (DeviceInfo("pixel-8-in-the-rack", Params({"device_model": "Pixel 8"}), (null,)), broken)
    agent.announce(devices=devices)
    jobs.submit(request_for("pixel-8-in-the-rack", runtimes=("onnxruntime-cpu",)))
    agent.claim()
    out = narrow(edgelut("fleet").out)
    assert "measuring" in out and "unusable" in out and "b: it is hot: let it rest" in out
    told = edgelut("fleet", "--json").json
    assert [one["info"]["name"] for one in told["devices"]] == ["b", "pixel-8-in-the-rack"]
    assert told["agents"][0]["name"] == "a-lab-in-the-cellar"


def test_marks_are_made_listed_and_deleted(edgelut: Command, service: str) -> None:
    assert "mark v1: entries up to 0" in edgelut("mark", "v1").out
    assert "v1" in narrow(edgelut("marks").out)
    assert edgelut("marks", "--json").json[0]["name"] == "v1"
    assert "deleted mark v1" in edgelut("mark", "v1", "--delete").out
    assert edgelut("marks", "--json").json == []


def test_a_token_is_printed_alone_once_and_then_listed_and_revoked(
    edgelut: Command, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("token", "create", "lab", "--scope", "agent", "--device", "lab-1", "--expires-in", "90d")
    made = edgelut(*asked)
    secret = made.out.strip()
    assert secret.startswith("edl_") and made.out == f"{secret}\n"  # so that TOKEN=$(edgelut token create ...) holds it
    assert "told this once" in made.err and secret not in made.err
    assert "revoke it" in edgelut(*asked).error
    listed = narrow(edgelut("token", "list").out)
    assert "lab-1" in listed and "until 20" in listed and secret not in listed
    (info,) = wire.load(list[TokenInfo], edgelut("token", "list", "--json").json)
    assert info.expires_at is not None
    assert timedelta(days=89) < info.expires_at - datetime.now(UTC) <= timedelta(days=90)
    monkeypatch.setenv("EDGELUT_TOKEN", secret)
    assert edgelut("fleet", "--json").code == 0
    refused = edgelut("token", "list")
    assert refused.code == 2 and "scope admin; the token 'lab' has agent" in refused.error
    monkeypatch.setenv("EDGELUT_TOKEN", TOKEN)
    assert "revoked" in edgelut("token", "revoke", "lab").out
    assert "revoked" in edgelut("token", "list").out
    monkeypatch.setenv("EDGELUT_TOKEN", secret)
    assert edgelut("fleet").code == 4


def test_the_first_token_is_made_in_the_database_itself(edgelut: Command, home: Path) -> None:
    secret = edgelut("db", "token", "me", "--scope", "admin").out.strip()
    with open_store(f"sqlite:///{home / 'edgelut.db'}") as store:
        found = store.find_token(secret)
        assert found is not None and (found.name, found.scopes) == ("me", ("admin",))
    assert "revoke it" in edgelut("db", "token", "me", "--scope", "read").error
    made = wire.load(NewToken, edgelut("db", "token", "you", "--scope", "read", "--expires-in", "1y", "--json").json)
    assert made.info.expires_at is not None
    assert edgelut("db", "token", "them", "--scope", "root").code == 2


def test_no_command_takes_a_token_as_an_argument(edgelut: Command) -> None:
    for command in ("jobs", "fleet", "marks", "token"):
        assert "--token" not in edgelut(command, "--help").out


@pytest.mark.parametrize(
    ("text", "seconds"), [("30min", 1800), ("12h", 43200), ("90d", 7776000), ("4w", 2419200), ("1y", 31536000)]
)
def test_a_length_of_time_is_read(text: str, seconds: float) -> None:
    assert parse_span(text) == seconds


@pytest.mark.parametrize("text", ["", "0d", "-1d", "90", "d", "1.5h", "90 d", "9999999d"])
def test_what_is_no_length_of_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpec, match="90d"):
        parse_span(text)


def test_durations_are_told_in_two_units() -> None:
    assert [duration(s) for s in (0, 59.6, 61, 3660, 90000)] == [
        "0 s",
        "1 min",
        "1 min 1 s",
        "1 h 1 min",
        "1 d 1 h",
    ]
    now = datetime(2026, 1, 5, tzinfo=UTC)
    assert [ago(now - timedelta(seconds=s), now) for s in (-5, 3, 61, 7300, 200000)] == [
        "0 s ago",
        "3 s ago",
        "1 min ago",
        "2 h ago",
        "2 d ago",
    ]


def test_json_is_one_line(edgelut: Command, service: str, agent: TinyAgent) -> None:
    out = edgelut(*SUBMIT, "--device", "a", "--json").out
    assert out.count("\n") == 1 and json.loads(out)["state"] == "queued"
