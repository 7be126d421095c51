"""System calls: how to make one, and the filter that says which ones a candidate may still make.

The filter is an allow-list in classic BPF (https://docs.kernel.org/userspace-api/seccomp_filter.html): what CPython,
glibc and PyTorch on a CPU need, and no more. A call made for a foreign architecture (32-bit, x32) ends the process.
Everything else that is not listed fails with EPERM, or with ENOSYS if it is so new that its callers know how to do
without: that is what makes glibc turn from clone3, whose flags lie in memory out of the filter's sight, to clone.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

MACHINES = ("x86_64", "aarch64")  # the columns of NUMBERS
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

_X32 = 0x4000_0000  # the bit that marks a call of the x32 ABI on x86-64
_FIRST_NEW = 424  # from here on the numbers are the same on every machine (Linux 5.1, 2019)

# fmt: off
NUMBERS: dict[str, tuple[int | None, int | None]] = {
    # files that are open
    "read": (0, 63), "write": (1, 64), "readv": (19, 65), "writev": (20, 66), "pread64": (17, 67), "preadv": (295, 69),
    "lseek": (8, 62), "close": (3, 57), "dup": (32, 23), "dup2": (33, None), "dup3": (292, 24), "fcntl": (72, 25),
    "ioctl": (16, 29), "fstat": (5, 80), "getdents": (78, None), "getdents64": (217, 61), "close_range": (436, 436),
    # files by name
    "open": (2, None), "openat": (257, 56), "stat": (4, None), "lstat": (6, None), "newfstatat": (262, 79),
    "statx": (332, 291), "access": (21, None), "faccessat": (269, 48), "faccessat2": (439, 439),
    "readlink": (89, None), "readlinkat": (267, 78), "getcwd": (79, 17),
    # waiting, and the socket that is open already
    "poll": (7, None), "ppoll": (271, 73), "select": (23, None), "pselect6": (270, 72), "epoll_create": (213, None),
    "epoll_create1": (291, 20), "epoll_ctl": (233, 21), "epoll_wait": (232, None), "epoll_pwait": (281, 22),
    "sendto": (44, 206), "recvfrom": (45, 207), "sendmsg": (46, 211), "recvmsg": (47, 212), "shutdown": (48, 210),
    "getsockname": (51, 204), "getpeername": (52, 205), "getsockopt": (55, 209),
    # memory
    "brk": (12, 214), "mmap": (9, 222), "munmap": (11, 215), "mprotect": (10, 226), "mremap": (25, 216),
    "madvise": (28, 233),
    # threads
    "clone": (56, 220), "futex": (202, 98), "set_robust_list": (273, 99), "set_tid_address": (218, 96),
    "rseq": (334, 293), "exit": (60, 93), "exit_group": (231, 94), "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123), "sched_setaffinity": (203, 122), "sched_getparam": (143, 121),
    "sched_getscheduler": (145, 120), "sched_get_priority_max": (146, 125), "sched_get_priority_min": (147, 126),
    # signals
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "rt_sigpending": (127, 136),
    "rt_sigtimedwait": (128, 137), "rt_sigsuspend": (130, 133), "sigaltstack": (131, 132), "pause": (34, None),
    "restart_syscall": (219, 128), "kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131),
    # time
    "clock_gettime": (228, 113), "clock_getres": (229, 114), "clock_nanosleep": (230, 115), "nanosleep": (35, 101),
    "gettimeofday": (96, 169), "time": (201, None), "times": (100, 153), "getrusage": (98, 165),
    "getitimer": (36, 102), "setitimer": (38, 103), "alarm": (37, None),
    # who and where am I
    "getpid": (39, 172), "getppid": (110, 173), "gettid": (186, 178), "getuid": (102, 174), "geteuid": (107, 175),
    "getgid": (104, 176), "getegid": (108, 177), "getgroups": (115, 158), "getpgrp": (111, None),
    "getpgid": (121, 155), "getsid": (124, 156), "getpriority": (140, 141), "getcpu": (309, 168), "uname": (63, 160),
    "sysinfo": (99, 179), "getrandom": (318, 278), "getrlimit": (97, 163), "prlimit64": (302, 261),
    "prctl": (157, 167), "arch_prctl": (158, None),
    # made by the sandbox itself, never by a candidate
    "capset": (126, 91), "unshare": (272, 97), "seccomp": (317, 277), "landlock_create_ruleset": (444, 444),
    "landlock_add_rule": (445, 445), "landlock_restrict_self": (446, 446),
}
# fmt: on
_SANDBOX_ONLY = frozenset({"close_range", "capset", "unshare", "seccomp"} | {n for n in NUMBERS if "landlock" in n})


@dataclass(frozen=True)
class _Test:
    """Hold if ``argument & mask`` is one of ``values``; 32 bits are looked at, the upper ones if ``high``."""

    argument: int
    values: tuple[int, ...]
    mask: int = 0xFFFF_FFFF
    high: bool = False


_OWN_PID = -1  # stands in a test's values for the process that the filter is installed in


def _is_null(argument: int) -> tuple[_Test, _Test]:
    return _Test(argument, (0,)), _Test(argument, (0,), high=True)


# CLONE_VM, FS, FILES, SIGHAND, THREAD; and SYSVSEM, SETTLS, PARENT_SETTID, CHILD_CLEARTID, DETACHED, CHILD_SETTID
_THREAD_FLAGS, _THREAD_EXTRAS = 0x0001_0F00, 0x017C_0000

_CHECKED: dict[str, tuple[_Test, ...]] = {
    "clone": (_Test(0, (_THREAD_FLAGS,), mask=~_THREAD_EXTRAS & 0xFFFF_FFFF), _Test(0, (0,), high=True)),
    # F_DUPFD, GETFD, SETFD, GETFL, SETFL, DUPFD_CLOEXEC; not SETOWN and SETSIG, which send any signal to anybody
    "fcntl": (_Test(1, (0, 1, 2, 3, 4, 1030)),),
    # TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX, TCGETS2; not TIOCSTI, which types for the user
    "ioctl": (_Test(1, (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451, 0x802C542A)),),
    # SOL_SOCKET; SO_TYPE, SO_ERROR, SO_PROTOCOL, SO_DOMAIN: what Python asks to wrap a descriptor in a socket
    "getsockopt": (_Test(1, (1,)), _Test(2, (3, 4, 38, 39))),
    "sendto": _is_null(4),  # no address: only to where the socket is connected
    "kill": (_Test(0, (_OWN_PID,)),),
    "tkill": (_Test(0, (_OWN_PID,)),),
    "tgkill": (_Test(0, (_OWN_PID,)),),
    # MAP_PRIVATE and not MAP_GROWSDOWN: the others hold memory that RLIMIT_DATA does not count
    "mmap": (_Test(3, (0x02,), mask=0x10F),),
    # PR_GET_DUMPABLE, SET_NAME, GET_NAME, CAPBSET_READ, GET_NO_NEW_PRIVS, SET_VMA (names of mappings)
    "prctl": (_Test(0, (3, 15, 16, 23, 39, 0x53564D41)),),
    # ARCH_GET_XCOMP_SUPP, GET_XCOMP_PERM, REQ_XCOMP_PERM: oneDNN asks for the AMX registers
    "arch_prctl": (_Test(0, (0x1021, 0x1022, 0x1023)),),
    "prlimit64": (_Test(0, (0,)), *_is_null(2)),  # of this process, and no new limit
    "sched_setaffinity": (_Test(0, (0,)),),
}
# O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, O_TMPFILE
_WRITING = 0x0040_0243
_CHECKED_IF_READ_ONLY = {"open": (_Test(1, (0,), mask=_WRITING),), "openat": (_Test(2, (0,), mask=_WRITING),)}


def machine() -> str | None:
    """Return the column of ``NUMBERS`` that holds for this process, ``None`` where there is no filter for it."""
    return _machine() if sys.platform == "linux" and sys.maxsize > 2**32 else None


@cache
def _machine() -> str | None:
    name = os.uname().machine
    return name if name in MACHINES else None


def number(name: str) -> int | None:
    """Return the number of a system call on this machine, ``None`` if it does not exist here."""
    column = machine()
    return None if column is None else NUMBERS[name][MACHINES.index(column)]


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc


def call(name: str, *arguments: int) -> int:
    """Make a system call by name; a pointer is passed as its address.

    Raises:
        OSError: What the kernel answered, ENOSYS where the call does not exist.
    """
    which = number(name)
    if which is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), name)
    ctypes.set_errno(0)
    result = int(_libc().syscall(ctypes.c_long(which), *map(ctypes.c_long, arguments)))
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), name)
    return result


# A BPF instruction: code, how far to jump if true and if false, operand
_Instruction = tuple[int, int, int, int]
_LOAD, _AND, _RETURN, _IF_EQUAL, _IF_AT_LEAST = 0x20, 0x54, 0x06, 0x15, 0x35

_ALLOW: _Instruction = (_RETURN, 0, 0, 0x7FFF_0000)
_KILL: _Instruction = (_RETURN, 0, 0, 0x8000_0000)
_EPERM: _Instruction = (_RETURN, 0, 0, 0x0005_0000 | errno.EPERM)
_ENOSYS: _Instruction = (_RETURN, 0, 0, 0x0005_0000 | 38)  # Linux's, also where this module is merely imported


def _all_hold(tests: Iterable[_Test]) -> Iterator[_Instruction]:
    """Yield a block that allows the call if every test holds, and fails it otherwise."""
    for test in tests:
        yield (_LOAD, 0, 0, 16 + 8 * test.argument + 4 * test.high)  # little-endian: the lower half comes first
        yield (_AND, 0, 0, test.mask)
        for to_go, value in zip(range(len(test.values), 0, -1), test.values, strict=True):
            yield (_IF_EQUAL, to_go, 0, value)  # over the other values and the EPERM
        yield _EPERM
    yield _ALLOW


def _instructions(column: str, read_only: bool) -> Iterator[_Instruction]:
    """Yield the filter of one machine, in an order that has the frequent calls first."""
    checked = _CHECKED | (_CHECKED_IF_READ_ONLY if read_only else {})
    yield from ((_LOAD, 0, 0, 4), (_IF_EQUAL, 1, 0, _AUDIT_ARCH[column]), _KILL)
    yield from ((_LOAD, 0, 0, 0), (_IF_AT_LEAST, 0, 1, _X32), _KILL)
    for name, numbers in NUMBERS.items():
        which = numbers[MACHINES.index(column)]
        if which is None or name in _SANDBOX_ONLY:
            continue
        block = list(_all_hold(checked.get(name, ())))
        yield (_IF_EQUAL, 0, len(block), which)
        yield from block
    yield from ((_IF_AT_LEAST, 0, 1, _FIRST_NEW), _ENOSYS, _EPERM)


@dataclass(frozen=True)
class Program:
    """A compiled filter that lacks only the process it is for.

    Attributes:
        code: ``struct sock_filter`` after ``struct sock_filter``, 8 bytes each.
        pid_at: Where in ``code`` the own process id goes, 4 bytes each.
    """

    code: bytes
    pid_at: tuple[int, ...]


def compile_filter(read_only: bool, column: str | None = None) -> Program:
    """Compile the allow-list.

    Args:
        read_only: Whether the filter itself refuses to open files for writing, because no Landlock does.
        column: One of ``MACHINES``; by default the machine at hand, which must be one of them.
    """
    instructions = list(_instructions(column or machine() or "", read_only))
    code = b"".join(struct.pack("<HBBI", op, yes, no, operand & 0xFFFF_FFFF) for op, yes, no, operand in instructions)
    return Program(code, tuple(8 * i + 4 for i, found in enumerate(instructions) if found[3] == _OWN_PID))


def install(program: Program) -> None:
    """Put all threads of this process under the filter, for good.

    Raises:
        OSError: If the kernel refuses.
    """
    code = bytearray(program.code)
    for offset in program.pid_at:
        struct.pack_into("<I", code, offset, os.getpid())
    filter_ = (ctypes.c_char * len(code)).from_buffer(code)
    header = ctypes.create_string_buffer(struct.pack("@HP", len(code) // 8, ctypes.addressof(filter_)))
    set_mode_filter, tsync = 1, 1
    if call("seccomp", set_mode_filter, tsync, ctypes.addressof(header)):  # the id of a thread that is left out
        raise OSError(errno.EBUSY, "a thread cannot be put under the filter", "seccomp")
