"""Where a build runs: its branch, commit and run, from GitHub's variables, from git, or as the caller says."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgelut.types import Params, digest

GIT_S = 10.0
LONGEST = 200  # characters of a label's value


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is known of a build. `run` names this try of it: the same step that runs again within it joins its own jobs."""

    branch: str = ""
    commit: str = ""
    run: str = ""
    pull_request: bool = False
    github: bool = False

    def labels(self, purpose: str, **more: str) -> Params:
        """Return what its jobs are labelled with."""
        given = {"branch": self.branch, "commit": self.commit, "purpose": purpose, **more}
        return Params({name: value[:LONGEST] for name, value in given.items() if value})

    def key(self, *parts: str) -> str:
        """Return an idempotency key of this build for what `parts` name; another one each time where no run is known."""
        return f"ci-{digest([self.run or uuid.uuid4().hex, *parts])}"

    def beside(self, *branches: str) -> Surroundings:
        """Return these surroundings, told apart from branches whose runs others are compared with.

        A pull request from a branch that is called `main` too, in a fork or not, must not become main's baseline.
        """
        if not self.pull_request or self.branch not in branches:
            return self
        return replace(self, branch=f"pull-request:{self.branch}")


def find(env: Mapping[str, str], folder: Path, *, branch: str = "", commit: str = "", run: str = "") -> Surroundings:
    """Return the surroundings of a build; what the caller names wins over GitHub's variables, and these over git's answers."""
    found = _of_github(env) if env.get("GITHUB_ACTIONS") == "true" else Surroundings()
    return replace(
        found,
        branch=branch
        or found.branch
        or ("" if found.github else _git(folder, "symbolic-ref", "--short", "-q", "HEAD")),
        commit=commit or found.commit or _git(folder, "rev-parse", "HEAD"),
        run=run or found.run,
    )


def _of_github(env: Mapping[str, str]) -> Surroundings:
    event = _event(env.get("GITHUB_EVENT_PATH", ""))
    head = env.get("GITHUB_HEAD_REF", "")
    pulled = event.get("pull_request")
    pull: Mapping[str, Any] = pulled if isinstance(pulled, dict) else {}
    branch = head or (env.get("GITHUB_REF_NAME", "") if env.get("GITHUB_REF_TYPE", "branch") == "branch" else "")
    owner = _text(pull, "head", "repo", "full_name")
    if owner and owner != env.get("GITHUB_REPOSITORY"):
        branch = f"{owner}:{branch}"
    commit = _text(pull, "head", "sha") or env.get("GITHUB_SHA", "")  # GITHUB_SHA of a pull request is a trial merge
    names = ("GITHUB_REPOSITORY", "GITHUB_RUN_ID", "GITHUB_RUN_ATTEMPT", "GITHUB_JOB")
    run = "/".join(env.get(name, "") for name in names) if env.get("GITHUB_RUN_ID") else ""
    is_pull = bool(head) or env.get("GITHUB_EVENT_NAME", "").startswith("pull_request")
    return Surroundings(branch, commit, run, is_pull, github=True)


def _event(path: str) -> Mapping[str, Any]:
    """Return what GitHub says of the event, or nothing where that cannot be read."""
    try:
        found = json.loads(Path(path).read_text()) if path else {}
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _text(found: Any, *names: str) -> str:
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, str) else ""


def _git(folder: Path, *argv: str) -> str:
    """Return what git says, or nothing where it is not there, has nothing to say, or takes too long."""
    try:
        done = subprocess.run(
            ["git", *argv],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=GIT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
