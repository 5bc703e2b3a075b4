"""Why a phone cannot be used, and what to do about it, in one sentence each."""

from __future__ import annotations

from .client import Transport

OLDEST_API = 24  # Android 7: adb keeps input, output and errors apart from there on
LEAST_FREE_BYTES = 32 << 20  # in /data/local/tmp: a runner and an artifact or two


def of_state(transport: Transport) -> str:
    """Return why a transport runs no commands; empty where it does."""
    state, serial = transport.state, transport.serial
    if state == "device":
        return ""
    if state == "unauthorized":
        return (
            "unauthorized: unlock the phone and confirm 'Allow USB debugging' on its screen; if it does not ask, revoke "
            "authorisations in its developer options and plug it in again"
        )
    if state in ("authorizing", "connecting"):
        return f"{state}: look at its screen, and try again in a few seconds"
    if state == "offline":
        again = f"'adb disconnect {serial}; adb connect {serial}'" if transport.network else "'adb reconnect offline'"
        return f"offline: unlock it, plug it in again, or run {again}"
    if state.startswith("no permissions"):
        return (
            "no permissions on the USB device: 'sudo apt-get install android-sdk-platform-tools-common' for its udev "
            "rules, join the group plugdev, and plug it in again"
        )
    if state in ("recovery", "rescue", "sideload", "bootloader", "host"):
        how = "fastboot reboot" if state == "bootloader" else f"adb -s {serial} reboot"
        return f"it is in {state}, not in Android: '{how}'"
    return f"adb calls it {state!r}: plug it in again"


def too_old(api: int, release: str) -> str:
    """Return why an Android is too old."""
    return f"too old: Android {release} (API {api}); Android 7 (API {OLDEST_API}) or newer is needed"


def no_space(free: int, serial: str) -> str:
    """Return why a phone holds no more files."""
    return (
        f"no space: {free / 2**20:.0f} MiB free in /data/local/tmp; free some, or remove our files by "
        f"'edgelut devices --clean {serial}'"
    )


def twins(serial: str) -> str:
    """Return why two phones of one serial cannot be told apart."""
    return f"two phones answer to {serial}, and rows could not be told apart: unplug one of them"


def second_way(serial: str, first: str) -> str:
    """Return why a transport is not used: the phone is there by another."""
    return f"the same phone as by {first}, which is used: nothing to do, or 'adb disconnect {serial}'"


def absent(which: str, others: list[str], unknown: list[str]) -> str:
    """Return what is said of a phone that is not attached, unless it is one that cannot be asked."""
    if unknown:
        return f"{which} is not attached, or it is one that cannot be asked: {'; '.join(unknown)}"
    there = f"attached: {', '.join(others)}" if others else "no phone is attached"
    return f"{which} is not attached ({there}): plug it in, switch on USB debugging, and see 'edgelut devices'"


def silent(name: str, timeout_s: float) -> str:
    """Return what is said of a phone that does not answer."""
    return f"{name} did not answer within {timeout_s:g} s: unlock it, or plug it in again"


def broke_off(name: str, now: str) -> str:
    """Return what is said where the connection ended in the middle of something."""
    rest = now or "it is back: the same command goes on where it stopped"
    return f"{name} went away in the middle of a command; {rest}"
