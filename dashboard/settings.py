"""What an operator may set of the dashboard."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from edgelut.errors import InvalidSpec
from edgelut.rest import checked_url

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Settings:
    """The dashboard's settings. `url` is where it reaches the service, `public_url` where people do, as pages show it."""

    url: str
    public_url: str = ""
    host: str = "127.0.0.1"
    allowed_hosts: tuple[str, ...] = ()  # names it may be called by, beside this machine's on a loopback address
    timeout_s: float = 10.0
    poll_s: float = 2.0  # between two readings of what a page shows, shared by all pages

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", checked_url(self.url))
        object.__setattr__(self, "public_url", checked_url(self.public_url) if self.public_url else self.url)
        if not 0.1 <= self.poll_s <= 3600:
            raise InvalidSpec(f"the dashboard asks every 0.1 to 3600 seconds, not {self.poll_s:g}")

    def allows(self, host: str) -> bool:
        """Say whether a request may name that host: on a loopback address any other name is another site's trick."""
        if not is_loopback(self.host):
            return not self.allowed_hosts or host in self.allowed_hosts
        return host in LOOPBACK_NAMES or host == self.host.strip("[]") or host in self.allowed_hosts


def is_loopback(host: str) -> bool:
    """Say whether an address is of this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
