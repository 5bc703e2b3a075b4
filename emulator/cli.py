"""`edgelut emulate phone`: a phone that is none, for adb to connect to."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgelut.errors import EdgelutError

if TYPE_CHECKING:
    from .phone import Phone

app = typer.Typer()
emulate = typer.Typer(help="Devices that are none: what a phone does, without a phone.", no_args_is_help=True)
app.add_typer(emulate, name="emulate")


@emulate.callback()
def _group() -> None:
    """Keep `phone` a command of its own though it is the only one."""


@emulate.command()
def phone(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on this machine; 0 takes a free one.")] = 0,
    userland: Annotated[
        str, typer.Option(help="arm64: arm64 programs under qemu; host: this machine's own commands.")
    ] = "arm64",
    fault: Annotated[list[str] | None, typer.Option(metavar="NAME[:N]", help="What is wrong; may be repeated.")] = None,
    serial: Annotated[str, typer.Option(help="Its ro.serialno.  [default: emulated-USERLAND]")] = "",
    home: Annotated[Path | None, typer.Option(help="Keep the phone's files there.  [default: none are kept]")] = None,
) -> None:
    """Switch on an emulated phone until Ctrl-C: `edgelut emulate phone`, then `adb connect` to what it prints.

    Lines on its input switch faults: `fault NAME`, `heal NAME`, `heal`.
    """
    from .phone import Phone, userland_of

    asyncio.run(_serve(Phone(userland_of(userland, home), serial=serial, port=port, faults=fault or ())))


async def _serve(phone: Phone) -> None:
    """Serve until a signal."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    await phone.start()
    try:
        typer.echo(f"adb connect {phone.address}")
        typer.echo(f"edgelut profile --device android:{phone.serial} --runtime onnxruntime-native")
        sys.stdout.flush()
        reading = threading.Thread(target=_read_lines, args=(phone, loop), daemon=True)
        reading.start()
        await ended.wait()
    finally:
        await phone.stop()


def _read_lines(phone: Phone, loop: asyncio.AbstractEventLoop) -> None:
    """Obey lines of the standard input; its end changes nothing."""

    def obey(line: str) -> None:
        try:
            phone.control(line)
        except EdgelutError as error:
            typer.echo(f"error: {error}", err=True)

    with os.fdopen(os.dup(0), closefd=True) as lines:
        for line in lines:
            loop.call_soon_threadsafe(obey, line)
