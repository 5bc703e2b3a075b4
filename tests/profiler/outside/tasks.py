"""Tasks of a worker that behave badly."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from typing import Any

from edgelut.errors import EdgelutError, InvalidSpec


class PluginError(EdgelutError):
    """One of our errors that pickle cannot make again: it takes two arguments and hands on one."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what} because {why}")


class LibraryError(Exception):
    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"code {code}: {reason}")


def echo(value: Any) -> Any:
    return value


def pid() -> int:
    return os.getpid()


def environment(name: str) -> str | None:
    return os.environ.get(name)


def kill(number: int) -> None:
    sys.stderr.write("last words")
    sys.stderr.flush()
    os.kill(os.getpid(), number)


def segfault() -> None:
    ctypes.string_at(0)


def leave(code: int) -> None:
    os._exit(code)


def stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def hang() -> None:
    time.sleep(600)


def refuse() -> None:
    raise InvalidSpec("cannot be")


def break_library() -> None:
    raise LibraryError(3, "inside")


def break_plugin() -> None:
    raise PluginError("plugin", "reasons")


def unpicklable() -> Any:
    return lambda: None


class _Elsewhere:
    """What only the process that made it can build."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _build, (os.getpid(),)


def _build(maker: int) -> None:
    if os.getpid() != maker:
        raise ModuleNotFoundError("No module named 'elsewhere'")


def unreadable() -> Any:
    return _Elsewhere()


def interrupted(number: int) -> str:
    os.kill(os.getpid(), number)
    return "alive"


def chatter(megabytes: int) -> str:
    line = b"x" * 65535 + b"\n"
    for stream in (1, 2):
        for _ in range(16 * megabytes):
            os.write(stream, line)
    sys.stdout.write("and through Python\n")
    sys.stderr.write("and through Python\n")
    return "done"
