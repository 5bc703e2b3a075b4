"""The packets of adb's transport: a header of 24 bytes, little-endian, and a payload."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass

CNXN, AUTH, OPEN, OKAY, WRTE, CLSE = b"CNXN", b"AUTH", b"OPEN", b"OKAY", b"WRTE", b"CLSE"
COMMANDS = frozenset({CNXN, AUTH, OPEN, OKAY, WRTE, CLSE, b"SYNC", b"STLS"})
VERSION = 0x01000001  # from this one on nobody checks the sums of payloads
MAX_PAYLOAD = 256 * 1024
HEADER = struct.Struct("<4s4I")  # and the magic after it


class ProtocolError(ConnectionError):
    """What came is no adb: the connection cannot go on."""


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet; what `arg0` and `arg1` mean depends on the command."""

    command: bytes
    arg0: int = 0
    arg1: int = 0
    payload: bytes = b""

    def encode(self) -> bytes:
        """Return header and payload."""
        word = int.from_bytes(self.command, "little")
        total = sum(self.payload) & 0xFFFFFFFF if self.command in (CNXN, AUTH) else 0
        head = HEADER.pack(self.command, self.arg0, self.arg1, len(self.payload), total)
        return head + (word ^ 0xFFFFFFFF).to_bytes(4, "little") + self.payload


async def read_packet(reader: asyncio.StreamReader) -> Packet:
    """Read the next packet; raise ProtocolError, or IncompleteReadError at the end of the connection."""
    head = await reader.readexactly(HEADER.size + 4)
    command, arg0, arg1, length, _ = HEADER.unpack_from(head)
    magic = int.from_bytes(head[HEADER.size :], "little")
    if magic != int.from_bytes(command, "little") ^ 0xFFFFFFFF or command not in COMMANDS:
        raise ProtocolError(f"{command!r} is no packet of adb")
    if length > MAX_PAYLOAD:
        raise ProtocolError(f"a payload of {length} bytes; {MAX_PAYLOAD} were agreed on")
    return Packet(command, arg0, arg1, await reader.readexactly(length) if length else b"")
