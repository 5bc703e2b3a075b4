"""What an operator may set of the service: read from EDGELUT_* in the environment, never at import."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from edgelut.errors import InvalidSpec


@dataclass(frozen=True, slots=True)
class Settings:
    """The service's settings. `token` is a secret: it is in no repr and in no answer."""

    token: str | None = field(default=None, repr=False)
    body_bytes: int = 16 * 2**20  # 10,000 entries are about 8 MB
    batch: int = 10_000  # specs or entries in one request
    threads: int = 4  # that talk to the database; more only wait for each other

    def __post_init__(self) -> None:
        if self.token is not None and not (self.token.isascii() and self.token.isprintable() and " " not in self.token):
            raise InvalidSpec(
                "EDGELUT_TOKEN holds a space, a line end or a letter that no header carries; make another"
            )


def from_environment(environment: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings that the environment gives; an empty EDGELUT_TOKEN is none."""
    return Settings(token=environment.get("EDGELUT_TOKEN") or None)


def require_token_off_loopback(host: str, settings: Settings) -> None:
    """Raise InvalidSpec for an address that others can reach where no token guards the table."""
    if settings.token is None and not is_loopback(host):
        raise InvalidSpec(
            f"{host} can be reached by others and no token is set; "
            "type EDGELUT_TOKEN=$(openssl rand -hex 32) before the command, or keep --host 127.0.0.1"
        )


def is_loopback(host: str) -> bool:
    """Say whether an address is of this machine alone. A name other than localhost may be anything, so it is not."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
