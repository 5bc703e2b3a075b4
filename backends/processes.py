"""A program that speaks in lines, as a child process of this one: on this machine itself, or the near end of one elsewhere."""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO

from .base import Process

SEND_S = 30.0  # for a program that does not read what it is sent
CLOSE_S = 2.0  # to end by itself once its input is closed
LONGEST_LINE = 16 << 20  # bytes; a program that writes more without a line's end is taken for broken
LAST_WORDS = 4096  # bytes of its error output that are kept
CHUNK = 1 << 16


class LineProcess(Process):
    """A child process that is sent lines and answers in lines. Close it, or use it as a context manager.

    Its error output is read along with its answers and the end of it kept, so that it can neither fill a pipe nor the memory. It
    is in a session of its own: Ctrl-C in a terminal is for the parent, which closes it. `ended` is what send and read raise once
    it has ended; where a device may have gone away, a subclass says so there.
    """

    def __init__(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        """Start `argv` with `env` added to the environment; raise OSError where there is no such program."""
        self.argv = tuple(argv)
        self._buffer = bytearray()
        self._errors = bytearray()
        self._searched = 0  # bytes of the buffer that hold no line's end
        self._silent = False  # nothing more comes from it
        self._child = subprocess.Popen(
            self.argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(env or {})},
            start_new_session=True,
            bufsize=0,
        )
        assert self._child.stdin
        assert self._child.stdout
        assert self._child.stderr
        self._stdin: IO[bytes] = self._child.stdin
        self._outputs: dict[IO[bytes], bytearray] = {
            self._child.stdout: self._buffer,
            self._child.stderr: self._errors,
        }
        self._ready = selectors.DefaultSelector()
        for output in self._outputs:
            os.set_blocking(output.fileno(), False)
            self._ready.register(output, selectors.EVENT_READ)
        os.set_blocking(self._stdin.fileno(), False)

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._child.pid

    def send(self, line: str) -> None:
        """Write a line; raise what `ended` returns, TimeoutError where it is not read, ValueError for more than one line."""
        if "\n" in line:
            raise ValueError(f"one line, not {line.count(chr(10)) + 1}: {line[:80]!r}")
        if self._stdin.closed:
            raise self.ended()
        rest = memoryview(line.encode() + b"\n")
        until = time.monotonic() + SEND_S
        self._ready.register(self._stdin, selectors.EVENT_WRITE)
        try:
            while rest:
                ready = self._wait(until, f"{self.argv[0]} did not read {line[:80]!r} within {SEND_S:g} s")
                if self._stdin in ready:
                    rest = rest[os.write(self._stdin.fileno(), rest) :]
        except (BrokenPipeError, ConnectionResetError) as error:
            raise self.ended() from error
        finally:
            self._ready.unregister(self._stdin)

    def read(self, timeout_s: float) -> str:
        """Return the next line; raise TimeoutError, or what `ended` returns."""
        until = time.monotonic() + timeout_s
        while True:
            end = self._buffer.find(b"\n", self._searched)
            if end >= 0:
                line = self._buffer[:end].decode(errors="replace")
                del self._buffer[: end + 1]
                self._searched = 0
                return line.removesuffix("\r")
            self._searched = len(self._buffer)
            if len(self._buffer) > LONGEST_LINE:
                self.close()
                raise OSError(f"{self.argv[0]} wrote {LONGEST_LINE} bytes without a line's end and was ended")
            if self._silent:
                raise self.ended()
            self._wait(until, f"{self.argv[0]} did not answer within {timeout_s:g} s")

    def ended(self) -> Exception:
        """Return what is raised once it has ended: an OSError that says how, and what it said last."""
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(CLOSE_S)
        if self._child.poll() is None:
            self._child.kill()  # it closed its output, so nothing more comes from it
        code = self._child.wait()
        said = self.last_words()
        how = f"signal {-code}" if code < 0 else f"exit {code}"
        return OSError(f"{self.argv[0]} ended ({how}){': ' + said if said else ''}")

    def last_words(self) -> str:
        """Return the end of what it wrote as errors, and a line that it did not finish."""
        for output in self._outputs:
            with suppress(OSError, ValueError):
                self._drain(output)
        words = bytes(self._errors[-LAST_WORDS:]) + b" " + bytes(self._buffer[-LAST_WORDS:])
        return words.decode(errors="replace").strip()

    def close(self) -> None:
        """Close its input and wait until it ends; kill it where it does not."""
        with suppress(OSError):  # a line that was never read is lost
            self._stdin.close()
        try:
            self._child.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._silent = True
        self._ready.close()
        for output in self._outputs:
            output.close()

    def _wait(self, until: float, late: str) -> list[object]:
        """Wait until something is ready, take in what the child wrote, and return what is ready."""
        left = until - time.monotonic()
        ready = [key.fileobj for key, _ in self._ready.select(max(0.0, left))]
        if not ready and left <= 0:
            raise TimeoutError(late)
        for output in self._outputs:
            if output in ready and not self._drain(output):
                self._ready.unregister(output)
                self._silent |= output is self._child.stdout
        return list(ready)

    def _drain(self, output: IO[bytes]) -> bool:
        """Take in what there is of an output; return False at its end."""
        try:
            chunk = os.read(output.fileno(), CHUNK)
        except BlockingIOError:
            return True
        kept = self._outputs[output]
        kept += chunk
        if kept is self._errors:
            del kept[:-LAST_WORDS]
        return bool(chunk)

    def __enter__(self) -> LineProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
