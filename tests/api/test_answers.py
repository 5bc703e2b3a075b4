from __future__ import annotations

import asyncio

import pytest

from api import answers
from api.answers import Answers, SharedReading


def test_a_reading_is_shared_by_those_who_wait_and_never_older_than_its_caller() -> None:
    async def play() -> None:
        started: list[asyncio.Event] = []

        async def read() -> object:
            number = len(started)
            started.append(asyncio.Event())
            await started[number].wait()
            return number

        shared = SharedReading(read)
        first = asyncio.create_task(shared.read())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        late = [asyncio.create_task(shared.read()) for _ in range(5)]
        await asyncio.sleep(0)
        assert len(started) == 1
        started[0].set()
        assert await first == 0
        while len(started) < 2:
            await asyncio.sleep(0)
        late[0].cancel()  # whoever goes away takes nobody's reading along
        started[1].set()
        assert await asyncio.gather(*late[1:]) == [1, 1, 1, 1]
        assert len(started) == 2

    asyncio.run(play())


def test_a_reading_that_fails_fails_for_those_who_waited_and_the_next_is_new() -> None:
    async def play() -> None:
        outcomes: list[object] = [OSError("gone"), 7]

        async def read() -> object:
            await asyncio.sleep(0)
            outcome = outcomes.pop(0)
            if isinstance(outcome, OSError):
                raise outcome
            return outcome

        shared = SharedReading(read)
        first = await asyncio.gather(shared.read(), shared.read(), return_exceptions=True)
        assert [type(one) for one in first] == [OSError, OSError]
        assert await shared.read() == 7

    asyncio.run(play())


def test_answers_are_kept_until_the_version_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "MOST_BYTES", 20)
    monkeypatch.setattr(answers, "LARGEST", 10)

    async def play() -> None:
        version = 1
        made: list[bytes] = []

        async def read() -> object:
            return version

        kept = Answers(read)

        async def ask(key: bytes) -> bytes:
            async def make() -> bytes:
                made.append(key)
                return key.upper()

            return await kept.get(key, make)

        assert [await ask(b"a"), await ask(b"a")] == [b"A", b"A"]
        assert made == [b"a"]
        version = 2
        await ask(b"a")
        assert made == [b"a", b"a"]
        await ask(b"too long to keep")
        await ask(b"too long to keep")
        assert len(made) == 4
        for number in range(50):
            await ask(b"key%d" % number)
            assert kept._bytes <= 20 + 10

    asyncio.run(play())
