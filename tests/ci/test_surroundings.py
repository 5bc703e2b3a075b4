"""Where a build runs: GitHub's variables, git, and what keeps a stranger's branch from becoming a baseline."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from edgelut.ci.surroundings import Surroundings, find

PUSH = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_REPOSITORY": "us/lut",
    "GITHUB_REF_NAME": "main",
    "GITHUB_REF_TYPE": "branch",
    "GITHUB_SHA": "c0ffee",
    "GITHUB_RUN_ID": "17",
    "GITHUB_RUN_ATTEMPT": "1",
    "GITHUB_JOB": "gate",
    "GITHUB_EVENT_NAME": "push",
}


def pull(folder: Path, head: str, owner: str = "us/lut", sha: Any = "beef") -> dict[str, str]:
    """Return the variables of a pull request."""
    event = folder / "event.json"
    event.write_text(json.dumps({"pull_request": {"head": {"sha": sha, "ref": head, "repo": {"full_name": owner}}}}))
    names = {"GITHUB_EVENT_NAME": "pull_request", "GITHUB_REF_NAME": "12/merge", "GITHUB_HEAD_REF": head}
    return {**PUSH, **names, "GITHUB_EVENT_PATH": str(event)}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository with one commit on the branch `trunk`."""
    for argv in (
        ["init", "-q", "-b", "trunk"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "x"],
    ):
        subprocess.run(["git", *argv], cwd=tmp_path, check=True)
    return tmp_path


def test_a_push_is_of_its_branch(tmp_path: Path) -> None:
    assert find(PUSH, tmp_path) == Surroundings("main", "c0ffee", "us/lut/17/1/gate", pull_request=False, github=True)


def test_a_tag_is_no_branch(repository: Path) -> None:
    assert find({**PUSH, "GITHUB_REF_TYPE": "tag", "GITHUB_REF_NAME": "main"}, repository).branch == ""


def test_a_pull_request_is_of_its_head_and_not_of_the_trial_merge(tmp_path: Path) -> None:
    found = find(pull(tmp_path, "feature"), tmp_path)
    assert (found.branch, found.commit, found.pull_request) == ("feature", "beef", True)


def test_a_pull_request_from_a_fork_is_told_apart(tmp_path: Path) -> None:
    found = find(pull(tmp_path, "main", owner="them/lut"), tmp_path)
    assert found.branch == "them/lut:main" and found.pull_request


def test_a_pull_request_from_a_branch_of_the_baselines_name_is_told_apart(tmp_path: Path) -> None:
    found = find(pull(tmp_path, "main"), tmp_path)
    assert found.beside("main", "").branch == "pull-request:main"
    assert found.beside("trunk").branch == "main"
    assert find(PUSH, tmp_path).beside("main").branch == "main"


@pytest.mark.parametrize("content", ["", "[]", "no json", '{"pull_request": 3}', '{"pull_request": {"head": []}}'])
def test_an_event_that_cannot_be_read_is_no_error(content: str, tmp_path: Path) -> None:
    event = tmp_path / "event.json"
    event.write_text(content)
    found = find({**pull(tmp_path, "feature"), "GITHUB_EVENT_PATH": str(event)}, tmp_path)
    assert found.branch == "feature"
    assert find({**PUSH, "GITHUB_EVENT_PATH": "/nowhere"}, tmp_path).branch == "main"


def test_git_answers_elsewhere(repository: Path) -> None:
    found = find({}, repository)
    assert (found.branch, len(found.commit), found.run, found.github) == ("trunk", 40, "", False)


def test_nothing_is_known_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert find({}, tmp_path) == Surroundings()


def test_the_caller_has_the_last_word(tmp_path: Path) -> None:
    found = find(PUSH, tmp_path, branch="b", commit="c", run="r")
    assert (found.branch, found.commit, found.run) == ("b", "c", "r")


def test_a_key_is_the_same_within_a_run_and_attempt(tmp_path: Path) -> None:
    first, again = find(PUSH, tmp_path), find(PUSH, tmp_path)
    others = [find({**PUSH, name: "2"}, tmp_path) for name in ("GITHUB_RUN_ID", "GITHUB_RUN_ATTEMPT", "GITHUB_JOB")]
    assert first.key("a", "b") == again.key("a", "b")
    assert len({first.key("a"), first.key("b"), *(other.key("a") for other in others)}) == 5
    assert len(first.key("a")) < 200 and first.key("a").isprintable()


def test_a_key_is_another_each_time_where_no_run_is_known() -> None:
    assert Surroundings().key("a") != Surroundings().key("a")


def test_labels_leave_out_what_is_not_known() -> None:
    assert dict(Surroundings(branch="b" * 500).labels("compare")) == {"branch": "b" * 200, "purpose": "compare"}
