"""Whose keys a phone trusts: RSA of 2048 bits in Android's own form, PKCS #1 v1.5 over a token."""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import struct
from dataclasses import dataclass, field

TOKEN, SIGNATURE, PUBLIC_KEY = 1, 2, 3
TOKEN_BYTES = 20
WORDS = 64
KEY = struct.Struct(f"<II{4 * WORDS}s{4 * WORDS}sI")  # words, -1/n mod 2^32, n, R^2 mod n, exponent
SHA1 = bytes.fromhex("3021300906052b0e03021a05000414")  # the token stands where a SHA-1 digest would (RFC 8017, 9.2)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A host's public key."""

    modulus: int
    exponent: int

    @classmethod
    def parse(cls, payload: bytes) -> PublicKey:
        """Read what the host sends, `base64 name\\0`; raise ValueError."""
        text = payload.split(b"\0")[0].split(b" ")[0]
        try:
            words, _, modulus, _, exponent = KEY.unpack(base64.b64decode(text, validate=True))
        except (binascii.Error, struct.error) as error:
            raise ValueError(f"no public key of adb: {error}") from error
        if words != WORDS:
            raise ValueError(f"a key of {words * 32} bits, not {WORDS * 32}")
        return cls(int.from_bytes(modulus, "little"), exponent)

    def verifies(self, signature: bytes, token: bytes) -> bool:
        """Tell whether the key's owner signed the token."""
        size = 4 * WORDS
        if len(signature) != size:
            return False
        signed = pow(int.from_bytes(signature, "big"), self.exponent, self.modulus).to_bytes(size, "big")
        tail = b"\0" + SHA1 + token
        return hmac.compare_digest(signed, b"\0\1" + b"\xff" * (size - 2 - len(tail)) + tail)


@dataclass(slots=True)
class KeyRing:
    """The keys that were accepted; a phone accepts every key that it is offered, unless a fault says otherwise."""

    keys: set[PublicKey] = field(default_factory=set)

    def knows(self, signature: bytes, token: bytes) -> bool:
        """Tell whether one of the accepted keys signed the token."""
        return any(key.verifies(signature, token) for key in self.keys)


def new_token() -> bytes:
    """Return 20 random bytes for a host to sign."""
    return os.urandom(TOKEN_BYTES)
