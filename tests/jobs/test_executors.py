"""Each process has a name of its own, the same after a restart, and it is known which names live."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator

import psycopg
import pytest
import sqlalchemy as sa

from db.engine import SqlStore
from edgelut.errors import InvalidSpec, StorageError
from jobs.executors import MOST, Executors, executors_on
from tests.jobs.support import BOTH

Make = Callable[[], Executors]


@pytest.fixture
def make(make_store: Callable[[], SqlStore]) -> Iterator[Make]:
    """What another process would hold."""
    made: list[Executors] = []

    def one() -> Executors:
        made.append(executors_on(make_store().engine))
        return made[-1]

    yield one
    for executors in made:
        executors.release()


def base_of(url: str) -> str:
    return "embedded" if url.startswith("sqlite") else socket.gethostname()


@BOTH
def test_processes_have_names_of_their_own(make: Make, url: str) -> None:
    base = base_of(url)
    assert [make().take() for _ in range(3)] == [base, f"{base}-2", f"{base}-3"]


@BOTH
def test_a_process_that_comes_back_has_its_name_again(make: Make) -> None:
    first, second = make(), make()
    names = first.take(), second.take()
    first.release()
    assert make().take() == names[0]


def test_a_name_may_be_given(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGELUT_EXECUTOR", "api-1")
    assert [make().take(), make().take()] == ["api-1", "api-1-2"]


@pytest.mark.parametrize("name", ["a b", "../x", "x" * 101, "a/b"])
def test_a_name_that_no_file_could_have_is_refused(make: Make, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("EDGELUT_EXECUTOR", name)
    with pytest.raises(InvalidSpec, match="EDGELUT_EXECUTOR must be"):
        make().take()


@BOTH
def test_it_is_known_who_lives(make: Make) -> None:
    mine, other = make(), make()
    names = {mine.take(), other.take()}
    assert mine.alive([*names, "nobody"]) == other.alive([*names, "nobody"]) == names
    other.release()
    assert mine.alive(names) == {mine.name}


@BOTH
def test_the_dead_are_known_as_soon_as_they_are_dead(make: Make, url: str) -> None:
    program = f"""
import time
from db.engine import create
from jobs.executors import executors_on
held = executors_on(create({url!r}))
print(held.take(), flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            name = child.stdout.readline().strip()
            mine = make()
            assert name and mine.take() != name
            assert mine.alive([name]) == {name}
        finally:
            child.kill()
            child.wait()
    for _ in range(100):  # a server notices a closed connection within milliseconds
        if not mine.alive([name]):
            break
    assert mine.alive([name]) == set()


@BOTH
def test_releasing_twice_is_once(make: Make) -> None:
    held = make()
    held.take()
    held.release()
    held.release()


def test_too_many_processes_of_one_name_are_refused(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    held = make()
    monkeypatch.setattr(type(held), "_lock", lambda *_: False)
    with pytest.raises(StorageError, match=f"{MOST} processes named"):
        held.take()


def test_a_lock_whose_connection_was_cut_is_taken_again(postgres_url: str) -> None:
    from db.engine import create

    engine = create(postgres_url)
    held, other = executors_on(engine), executors_on(engine)
    name = held.take()
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
    assert other.alive([name]) == set()
    held.keep()
    held.keep()
    assert other.alive([name]) == {name}
    held.release()
    engine.dispose()


def test_a_server_that_is_away_is_a_storage_error() -> None:
    engine = sa.create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none", connect_args={"connect_timeout": 2})
    held = executors_on(engine)
    with pytest.raises(StorageError, match="did not say"):
        held.take()
    with pytest.raises(StorageError, match="did not say"):
        held.alive(["a"])
    engine.dispose()
