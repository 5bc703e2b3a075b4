"""A build against the real routes without a network: what a service refuses is told, with its own words and without the token."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.app import create_app
from api.settings import Settings
from api.testing import InProcess
from db.store import SqlStore
from edgelut.ci.config import Config
from edgelut.ci.flow import Flow
from edgelut.ci.progress import Progress
from edgelut.ci.result import Result
from edgelut.job_client import HttpJobs
from jobs.service import Jobs
from tests.api.support import new_store, tiny_agent
from tests.ci.fakes import FEATURE, MAIN, configured
from tests.ci.test_flow import TEXT

OPERATOR = "operators-own-secret"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    """The service's store."""
    with new_store(tmp_path) as opened:
        yield opened


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return configured(tmp_path, TEXT.replace("devices: host", "devices: a, runtimes: 'null'"))


def build(store: SqlStore, config: Config, token: str | None, jobs: Jobs | None = None) -> Result:
    """Run a build with a token."""
    transport = InProcess(create_app(store, Settings(token=OPERATOR), jobs))
    with HttpJobs("http://service", token, transport=transport) as client:
        said = io.StringIO()
        result = Flow(client, config, MAIN if token == OPERATOR else FEATURE, Progress(said)).run()
        assert not token or token not in said.getvalue() + repr(result)
        return result


@pytest.mark.parametrize(
    ("token", "said"), [(None, "token"), ("wrong-token", "token")], ids=["without a token", "with a wrong one"]
)
def test_a_service_that_wants_a_token_is_told(token: str | None, said: str, store: SqlStore, config: Config) -> None:
    result = build(store, config, token)
    assert result.exit_code == 2 and said in result.reason


def test_a_token_that_may_only_read_is_told_what_it_lacks(store: SqlStore, config: Config) -> None:
    secret, _ = store.create_token("reader", ["read"], [], None)
    result = build(store, config, secret)
    assert result.exit_code == 2
    assert "needs a token with the scope submit; the token 'reader' has read" in result.reason


def test_a_token_that_may_submit_gets_as_far_as_the_fleet(store: SqlStore, config: Config) -> None:
    secret, _ = store.create_token("ci", ["submit"], [], None)
    assert "no device 'a'" in build(store, config, secret).reason


def test_no_baseline_yet_is_told_from_everything_else_that_is_not_there(store: SqlStore, config: Config) -> None:
    jobs = Jobs(store)
    tiny_agent(jobs, "a")
    secret, _ = store.create_token("ci", ["submit"], [], None)
    result = build(store, config, secret, jobs)
    assert result.exit_code == 2 and "a build of the branch 'main' must come first" in result.reason, result
