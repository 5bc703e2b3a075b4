"""What outlives a killed emulator for a moment: a small process that ends what ran and removes the folder when its input ends."""

from __future__ import annotations

import asyncio
import os
import shutil
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from edgelut.errors import DeviceUnusable

START_S, STOP_S = 20.0, 15.0
PACKAGES = {
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "chroot": "coreutils",
    "qemu-aarch64": "qemu-user",
    "gcc": "gcc libc6-dev",
    "ldd": "libc-bin",
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
}

# Runs its arguments with the emulator's pipe as their input; the pipe ends when the emulator does, however it does.
_REMOVE_AFTER = """
"$@"
if [ -n "$PHONE_FOLDER" ]; then chmod -R u+rwX "$PHONE_FOLDER"; rm -rf -- "$PHONE_FOLDER"; fi
"""

# Arguments: the root folder, a file to show as /proc/cpuinfo or nothing, a line for binfmt_misc or nothing; then three for each
# file or folder of the machine: it, where the phone has it, and how it is mounted. `cat` is the first process of the namespace:
# with it everything in there ends, and with the last process the mounts do.
_SETUP = """
set -e
read -r pid rest < /proc/self/stat
root=$1 cpuinfo=$2 program=$3
shift 3
while [ $# -gt 2 ]; do
    mount --rbind "$1" "$root$2"
    mount -o "remount,bind,$3" "$root$2" 2>/dev/null || true
    shift 3
done
for node in null zero full random urandom tty; do
    test -e "$root/dev/$node" || : > "$root/dev/$node"
    mount --bind "/dev/$node" "$root/dev/$node"
done
mount -t proc proc "$root/proc" 2>/dev/null || mount --rbind /proc "$root/proc"
if [ -n "$cpuinfo" ]; then mount --bind "$cpuinfo" "$root/proc/cpuinfo"; fi
if [ -n "$program" ]; then
    mount -t binfmt_misc binfmt_misc "$root/.host/binfmt" || { echo "linux 6.7 or newer is needed for binfmt_misc" >&2; exit 1; }
    printf '%s' "$program" > "$root/.host/binfmt/register"
fi
echo "ready $pid"
exec cat >/dev/null
"""

# Without namespaces: told `+ GROUP` and `- GROUP`, it kills the process groups that are left.
_GROUPS = """
groups=
echo "ready $$"
while read -r sign group; do
    case $sign in
        +) groups="$groups $group " ;;
        -) groups="${groups%% $group *}${groups#* $group }" ;;
    esac
done
for group in $groups; do kill -KILL "-$group" 2>/dev/null || true; done
"""


class Keeper:
    """Holds a phone's namespaces, or its process groups. `remove` is the folder that goes with it."""

    def __init__(self, remove: Path | None) -> None:
        self._remove = remove
        self._process: Process | None = None
        self.pid = 0  # of the first process of the namespaces, as this machine counts

    async def hold_namespaces(
        self, root: Path, show: Sequence[tuple[str, str]], cpuinfo: Path | None = None, program: str = ""
    ) -> None:
        """Make user, mount and process namespaces around a root folder; raise DeviceUnusable where that is not allowed.

        `show` has pairs of what this machine has and where the phone has it; `program` is how the kernel starts foreign programs.
        """
        unshare = [tool("unshare"), "--user", "--map-root-user", "--mount", "--pid", "--fork"]
        shown = [word for here, there in show for word in (here, there, _read_only(here))]
        await self._start([*unshare, "/bin/sh", "-c", _SETUP, "phone", str(root), str(cpuinfo or ""), program, *shown])

    async def hold_groups(self) -> None:
        """Hold process groups."""
        await self._start(["/bin/sh", "-c", _GROUPS])

    def note(self, sign: str, group: int) -> None:
        """Tell of a process group that began (`+`) or is over (`-`)."""
        if self._process is not None and self._process.stdin is not None:
            with suppress(ConnectionError, RuntimeError):
                self._process.stdin.write(f"{sign} {group}\n".encode())

    async def stop(self) -> None:
        """End everything."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), STOP_S)
        except TimeoutError:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            await process.wait()

    async def _start(self, argv: Sequence[str]) -> None:
        environment = {**os.environ, "PHONE_FOLDER": str(self._remove or "")}
        process = self._process = await asyncio.create_subprocess_exec(
            "/bin/sh", "-c", _REMOVE_AFTER, "keeper", *argv,
            stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment, cwd="/", start_new_session=True,
        )  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        try:
            first = await asyncio.wait_for(process.stdout.readline(), START_S)
        except TimeoutError:
            first = b"too late"
        if not first.startswith(b"ready "):
            self._process = None
            assert process.stdin is not None
            process.stdin.close()
            said = (await process.stderr.read()).decode(errors="replace").strip()
            await process.wait()
            raise DeviceUnusable(f"the phone's namespaces cannot be made: {said or first.decode().strip()}")
        self.pid = int(first.split()[1])

    def enter(self, root: Path) -> list[str]:
        """Return what runs a command, given as further arguments, inside the namespaces with that folder as its root."""
        inside = ["--user", "--mount", "--pid", "--preserve-credentials", "--"]
        return [tool("nsenter"), f"--target={self.pid}", *inside, tool("chroot"), str(root)]


def _read_only(path: str) -> str:
    """Return the options that a place is mounted by again to be read only: those that it has, which may not be taken off."""
    flags = os.statvfs(path).f_flag
    known = {"nosuid": os.ST_NOSUID, "nodev": os.ST_NODEV, "noexec": os.ST_NOEXEC, "noatime": os.ST_NOATIME}
    return ",".join(["ro", *(name for name, flag in known.items() if flags & flag)])


def tool(name: str) -> str:
    """Return where a program of this machine lies; raise DeviceUnusable, with what to install."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin")
    if found is None:
        raise DeviceUnusable(f"an emulated phone needs {name}: apt-get install {PACKAGES.get(name, name)}")
    return found
