"""A service on this machine is found while it lives, by its own user alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgelut.local_service import announce, find

SERVER = """
import sys
from pathlib import Path
from edgelut.local_service import announce
with announce(Path(sys.argv[1]), "http://127.0.0.1:1", "secret") as told:
    print(told, flush=True)
    sys.stdin.read()
"""


def test_a_service_is_found_while_it_lives(tmp_path: Path) -> None:
    home = tmp_path / "new"
    assert find(home) is None
    with announce(home, "http://127.0.0.1:8321", "edl_secret") as told:
        assert told and find(home) == ("http://127.0.0.1:8321", "edl_secret")
    assert find(home) is None and not (home / "service.json").exists()


def test_a_service_without_a_token_is_found_without_one(tmp_path: Path) -> None:
    with announce(tmp_path, "http://127.0.0.1:8321", None):
        assert find(tmp_path) == ("http://127.0.0.1:8321", None)


def test_nobody_else_may_read_the_token(tmp_path: Path) -> None:
    with announce(tmp_path, "http://127.0.0.1:8321", "edl_secret"):
        assert (tmp_path / "service.json").stat().st_mode & 0o777 == 0o600


def test_what_a_killed_service_left_behind_is_no_service(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", SERVER, str(tmp_path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None and server.stdout.readline() == "True\n"
        assert find(tmp_path) == ("http://127.0.0.1:1", "secret")
        with announce(tmp_path, "http://127.0.0.1:2", None) as told:
            assert not told and find(tmp_path) == ("http://127.0.0.1:1", "secret")
        server.kill()
        server.wait()
        assert (tmp_path / "service.json").exists() and find(tmp_path) is None
    with announce(tmp_path, "http://127.0.0.1:2", None) as told:
        assert told and find(tmp_path) == ("http://127.0.0.1:2", None)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"url": "http://127.0.0.1:1"}'])
def test_a_damaged_file_is_no_service(tmp_path: Path, text: str) -> None:
    with announce(tmp_path, "http://127.0.0.1:1", None):
        (tmp_path / "service.json").write_text(text)
        assert find(tmp_path) is None
