"""What an operator may set of the service: read from EDGELUT_* in the environment, never at import."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from edgelut.errors import InvalidSpec


@dataclass(frozen=True, slots=True)
class Settings:
    """The service's settings. `token` is a secret: it is in no repr and in no answer."""

    token: str | None = field(default=None, repr=False)
    body_bytes: int = 16 * 2**20  # 10,000 entries are about 8 MB
    batch: int = 10_000  # specs or entries in one request
    threads: int = 4  # that talk to the database; more only wait for each other
    job_threads: int = 8  # that do so for agents and jobs: writers, who wait for each other
    local_token: str | None = field(default=None, repr=False)  # of the agent and the commands on this very machine
    guarded: bool = False  # a token is needed even where none is known, as on an address that others can reach

    def __post_init__(self) -> None:
        if self.token is not None and not (self.token.isascii() and self.token.isprintable() and " " not in self.token):
            raise InvalidSpec(
                "EDGELUT_TOKEN holds a space, a line end or a letter that no header carries; make another"
            )


def from_environment(environment: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings that the environment gives; an empty EDGELUT_TOKEN is none."""
    return Settings(token=environment.get("EDGELUT_TOKEN") or None)


def require_token_off_loopback(host: str, settings: Settings, has_tokens: Callable[[], bool]) -> Settings:
    """Return the settings, guarded for an address that others can reach; raise InvalidSpec where no token guards that.

    `has_tokens` says whether the database has any, and is asked only where the environment has none.
    """
    if is_loopback(host):
        return settings
    if settings.token is None and not has_tokens():
        raise InvalidSpec(
            f"{host} can be reached by others and no token is set; type EDGELUT_TOKEN=$(openssl rand -hex 32) before the "
            "command, make one that is stored ('edgelut db token NAME --scope admin'), or keep --host 127.0.0.1"
        )
    return replace(settings, guarded=True)


def is_loopback(host: str) -> bool:
    """Say whether an address is of this machine alone. A name other than localhost may be anything, so it is not."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
