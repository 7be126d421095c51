"""The sandbox of a candidate: it gives up its rights before it sees a line of the learner's code.

::

    enter_namespaces()   once, in the process whose child will be the zygote
    plan = prepare(…)    once, in the zygote: all that can be worked out beforehand
    lock_down(plan, …)   in every candidate, right after the fork

Each layer is asked for on its own, and what the kernel refuses is missing from the answer; nothing is taken on trust.
On systems other than Linux only the separate process and its limits are left.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import stat
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from grader.candidate import landlock, seccomp

if sys.platform != "win32":
    import resource

_NAMESPACES = {"user": 0x1000_0000, "net": 0x4000_0000, "ipc": 0x0800_0000, "pid": 0x2000_0000}  # CLONE_NEW…
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": "/", "USER": "candidate", "LANG": "C.UTF-8"}
_ENVIRONMENT["TORCHINDUCTOR_CACHE_DIR"] = "/"  # or an optimizer, which imports it, fails for want of a temporary folder
_PR_CAPBSET_DROP = 24
_PRCTL = ((1, 9), (4, 0), (38, 1))  # PR_SET_PDEATHSIG to SIGKILL, PR_SET_DUMPABLE to 0, PR_SET_NO_NEW_PRIVS to 1

_UNSHARE = (
    "Needs unprivileged user namespaces: see kernel.apparmor_restrict_unprivileged_userns or the container's rules."
)
# Layer: what it keeps out, and what to do when it is not in force.
_WORDS = {
    "process": (
        "Your code runs in a process of its own, with a clean environment; the hidden checks are in another one.",
        "Start the grader again; without a process of its own no code is run.",
    ),
    "limits": (
        "Processor time, memory, open files and file sizes are capped, so a runaway loop ends by itself.",
        "This system sets no such limits: only the deadline of each call ends a runaway loop. Use Linux or macOS.",
    ),
    "user": (
        "The code is nobody special: it holds no right over the rest of the machine.",
        f"The code runs with your own user id. {_UNSHARE}",
    ),
    "net": ("The code sees no network at all.", f"Only seccomp keeps the code off the network. {_UNSHARE}"),
    "ipc": (
        "The code shares no memory segments or message queues with other programs.",
        f"Only seccomp keeps the code off shared memory. {_UNSHARE}",
    ),
    "pid": (
        "The code cannot even name another process.",
        f"The code can see the numbers of other processes. {_UNSHARE}",
    ),
    "landlock": (
        "The code reads Python's and the libraries' folders alone: no file of yours, no answer key. It writes none.",
        "The code can read every file that you can. Needs Linux 5.13 or newer with landlock in the kernel's lsm= list.",
    ),
    "seccomp": (
        "The code starts no program, opens no connection and touches no other process.",
        "The code can start programs and open connections. Needs Linux on x86-64 or aarch64 with seccomp allowed.",
    ),
}


@dataclass(frozen=True)
class Limits:
    """What one candidate may use.

    Attributes:
        cpu_seconds: Processor time over all its threads.
        data_bytes: Memory on top of what the zygote holds already.
        file_bytes: Largest file it may write.
        open_files: Descriptors.
        threads: Of all candidates together, and only where a user namespace counts them apart from the user's own.
    """

    cpu_seconds: int = 300
    data_bytes: int = 2 << 30
    file_bytes: int = 0
    open_files: int = 64
    threads: int = 4096


@dataclass(frozen=True)
class Plan:
    """All that is the same for every candidate, worked out once.

    Attributes:
        ruleset: Descriptor of the Landlock ruleset, ``None`` if the kernel offers none.
        program: The seccomp filter, ``None`` if the kernel or the machine has none.
        namespaces: Those that the candidates are born in.
        unlisted: Folders of ``sys.path`` that hold something hidden: open in parts, so they cannot be listed.
    """

    ruleset: int | None
    program: seccomp.Program | None
    namespaces: tuple[str, ...]
    unlisted: tuple[Path, ...]
    limits: Limits


def enter_namespaces() -> tuple[str, ...]:
    """Move into namespaces of its own, and return the names of those that were granted.

    The process must have one thread (a fresh fork has). Its next child is process 1 of the process namespace; it can
    start no thread itself from then on.
    """
    if sys.platform != "linux":
        return ()
    granted = []
    uid, gid = os.geteuid(), os.getegid()
    for name, flag in _NAMESPACES.items():  # "user" comes first: it brings the right to the others
        with suppress(OSError):
            seccomp.call("unshare", flag)
            granted.append(name)
    if "user" in granted:
        for file, text in ("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1"):
            with suppress(OSError):  # refused, the ids read as nobody's; the namespace holds all the same
                Path("/proc/self", file).write_text(text)
    return tuple(granted)


def prepare(hidden: Sequence[str] = (), namespaces: Sequence[str] = (), limits: Limits | None = None) -> Plan:
    """Work out the plan that every candidate follows; call it in the zygote, after its last import.

    Args:
        hidden: Files and folders that stay unreadable even where they lie inside an allowed folder.
        namespaces: What ``enter_namespaces`` returned.
        limits: Other limits than the usual.
    """
    ruleset, program = None, None
    away = [Path(path).resolve() for path in hidden]
    folders = [Path(entry).resolve() for entry in sys.path if entry]
    unlisted = tuple(folder for folder in folders if any(path.is_relative_to(folder) for path in away))
    if landlock.version():
        readable = (path for root in landlock.libraries() for path in landlock.paths_around(root, away))
        with suppress(OSError):
            ruleset = landlock.make_ruleset(readable, [Path(os.devnull)])
    if seccomp.machine() is not None:
        program = seccomp.compile_filter(read_only=ruleset is None)
    return Plan(ruleset, program, tuple(namespaces), unlisted, limits or Limits())


def lock_down(plan: Plan, keep_fds: Sequence[int]) -> tuple[str, ...]:
    """Give up all rights for good, and return the layers in force.

    Standard input becomes ``/dev/null``, and so do standard output and error unless they are pipes or sockets; all
    other descriptors but ``keep_fds`` are closed. Sockets that stay must be stream or seqpacket, and connected.

    Raises:
        OSError: If something fails that every system can do; the process must end then.
    """
    layers = ["process"]
    with suppress(PermissionError, AttributeError):  # it leads a session already; Windows has none
        os.setsid()
    _close_descriptors({*keep_fds} if plan.ruleset is None else {*keep_fds, plan.ruleset})
    _clean_up()
    sys.meta_path.append(landlock.FinderByName(plan.unlisted))
    if _limit(plan.limits, apart="user" in plan.namespaces):
        layers.append("limits")
    layers += plan.namespaces
    if seccomp.machine() is None:
        return tuple(layers)
    _drop_privileges()
    program = plan.program
    if plan.ruleset is not None:
        if _restrict(plan.ruleset):
            layers.append("landlock")
        else:
            program = seccomp.compile_filter(read_only=True)
    if program is not None:
        with suppress(OSError):
            seccomp.install(program)
            layers.append("seccomp")
    return tuple(layers)


def _close_descriptors(keep: set[int]) -> None:
    """Close all but the standard three and ``keep``; let no terminal or file be among the three."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    for fd in 1, 2:
        if fd not in keep and not _is_pipe(fd):
            os.dup2(null, fd)
    edges = [*sorted({0, 1, 2} | keep), 2**32]
    try:
        for low, high in itertools.pairwise(edges):
            if high - low > 1:
                seccomp.call("close_range", low + 1, high - 1, 0)
    except OSError:  # Linux before 5.9, or not Linux
        for fd in _open_descriptors() - set(edges):
            with suppress(OSError):  # the listing's own
                os.close(fd)


def _is_pipe(fd: int) -> bool:
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _open_descriptors() -> set[int]:
    if os.name == "nt":
        return set(range(2048))  # as many as its C library can have open
    return {int(path.name) for path in Path("/dev/fd").iterdir()}


def _clean_up() -> None:
    """Leave the environment and the working folder of whoever started the grader."""
    kept = {name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ}  # Windows needs it
    os.environ.clear()
    with suppress(AttributeError, TypeError):  # variables that were set behind Python's back; not on macOS, Windows
        ctypes.CDLL(None).clearenv()
    os.environ.update(_ENVIRONMENT | kept)
    os.chdir("/")
    sys.dont_write_bytecode = True


def _limit(limits: Limits, apart: bool) -> bool:
    """Set the limits, soft and hard alike, and say whether all of them hold."""
    if sys.platform == "win32":
        return False
    wanted = [
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, limits.cpu_seconds),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_STACK, 64 << 20),
    ]
    if sys.platform == "linux":
        try:
            fields = Path("/proc/self/statm").read_bytes().split()
        except OSError:
            return False
        size, data = (int(fields[i]) * resource.getpagesize() for i in (0, 5))
        wanted.append((resource.RLIMIT_DATA, data + limits.data_bytes))
        # Memory that is only read is no data, but its page tables are memory: 2 MiB for each GiB of addresses.
        wanted.append((resource.RLIMIT_AS, size + limits.data_bytes + (16 << 30)))
        if apart:
            wanted.append((resource.RLIMIT_NPROC, limits.threads))
    try:
        for kind, value in wanted:
            most = min([value, *(now for now in resource.getrlimit(kind) if now != resource.RLIM_INFINITY)])
            resource.setrlimit(kind, (most, most))
    except (OSError, ValueError):
        return False
    return True


def _drop_privileges() -> None:
    """Die with the zygote, be opaque to other processes, hold no capability and never gain one."""
    for option, value in _PRCTL:
        seccomp.call("prctl", option, value, 0, 0, 0)
    with suppress(OSError):  # not allowed to begin with, or past the last capability
        for capability in range(64):
            seccomp.call("prctl", _PR_CAPBSET_DROP, capability, 0, 0, 0)
    header = struct.pack("=Ii", 0x2008_0522, 0)  # _LINUX_CAPABILITY_VERSION_3, this thread
    none = bytes(24)  # effective, permitted and inheritable, twice 32 bits
    buffer = ctypes.create_string_buffer(header + none)
    seccomp.call("capset", ctypes.addressof(buffer), ctypes.addressof(buffer) + len(header))


def _restrict(ruleset: int) -> bool:
    """Put this process under the ruleset, and say whether that worked."""
    try:
        if len(list(Path("/proc/self/task").iterdir())) > 1:
            return False  # Landlock would hold this thread alone; a fresh fork has no other
        landlock.restrict(ruleset)
    except OSError:
        return False
    finally:
        os.close(ruleset)
    return True


def tier(layers: Sequence[str]) -> str:
    """Name the strength of the sandbox: ``full``, ``partial`` or ``process``."""
    return ("process", "partial", "full")[("landlock" in layers) + ("seccomp" in layers)]


def explain(layers: Sequence[str]) -> list[tuple[str, bool, str]]:
    """Say of every layer whether it is in force, and in a sentence what it keeps out or how to get it."""
    return [(name, name in layers, works if name in layers else missing) for name, (works, missing) in _WORDS.items()]
