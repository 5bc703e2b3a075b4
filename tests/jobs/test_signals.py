"""Whoever waits is woken at once, and what rings between looking and waiting is not lost."""

from __future__ import annotations

import asyncio
import threading
import time

from jobs.signals import Signal

LONG_S = 20.0


def later(function: object, *args: object) -> threading.Timer:
    timer = threading.Timer(0.05, function, args)  # type: ignore[arg-type]
    timer.start()
    return timer


def test_a_thread_wakes_a_coroutine_at_once() -> None:
    signal = Signal()

    async def wait() -> tuple[bool, float]:
        with signal.listen() as listener:
            later(signal.notify)
            started = time.perf_counter()
            return await listener.wait(LONG_S), time.perf_counter() - started

    rang, took_s = asyncio.run(wait())
    assert rang and took_s < 5


def test_a_ring_before_the_wait_is_heard_once() -> None:
    signal = Signal()

    async def wait() -> list[bool]:
        with signal.listen() as listener:
            signal.notify()
            return [await listener.wait(LONG_S), await listener.wait(0.01)]

    assert asyncio.run(wait()) == [True, False]


def test_a_ring_while_waiting_is_heard_once() -> None:
    signal = Signal()

    async def wait() -> list[bool]:
        with signal.listen() as listener:
            later(signal.notify)
            return [await listener.wait(LONG_S), await listener.wait(0.01)]

    assert asyncio.run(wait()) == [True, False]


def test_a_topic_wakes_its_listeners_and_those_of_all_topics_only() -> None:
    signal = Signal()
    with signal.listen("a") as one, signal.listen("b") as other, signal.listen() as everything:
        signal.notify("a")
        assert (one.block(0), other.block(0), everything.block(0)) == (True, False, True)
        signal.notify()
        assert (one.block(0), other.block(0), everything.block(0)) == (True, True, True)


def test_threads_wait_too() -> None:
    signal = Signal()
    with signal.listen("job") as listener:
        later(signal.notify, "job")
        assert listener.block(LONG_S)
        assert not listener.block(0.01)


def test_many_wait_for_one_topic() -> None:
    signal = Signal()

    async def one() -> bool:
        with signal.listen("job") as listener:
            return await listener.wait(LONG_S)

    async def wait() -> list[bool]:
        tasks = [asyncio.create_task(one()) for _ in range(100)]
        await asyncio.sleep(0.05)
        signal.notify("job")
        return await asyncio.gather(*tasks)

    assert all(asyncio.run(wait()))


def test_nothing_is_kept_of_those_who_left() -> None:
    signal = Signal()
    for number in range(100):
        with signal.listen(f"job{number}"):
            pass
    assert not signal._listeners
    signal.notify("job1")


def test_a_listener_whose_loop_ended_does_no_harm() -> None:
    signal = Signal()

    async def leave() -> None:
        listener = signal.listen()
        listener.__enter__()
        task = asyncio.create_task(listener.wait(LONG_S))
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(leave())
    signal.notify()
