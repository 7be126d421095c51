"""Landlock: a process gives up the files it does not need (https://docs.kernel.org/userspace-api/landlock.html).

A ruleset is built once; every candidate puts itself under it. All that a ruleset handles is forbidden unless a rule
allows it, and rules only ever add: a folder inside an allowed one is kept out by allowing its neighbours one by one.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import BYTECODE_SUFFIXES, EXTENSION_SUFFIXES, SOURCE_SUFFIXES, ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

from grader.candidate import seccomp

_READ_FILE, _READ_DIR, _WRITE_FILE = 1 << 2, 1 << 3, 1 << 1
# How many of the access rights to files each version of the interface knows: REFER came with 2, TRUNCATE with 3,
# IOCTL_DEV with 5.
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_NET_RIGHTS = 0b11  # TCP bind and connect, from version 4
_SCOPES = 0b11  # abstract Unix sockets and signals, from version 6


_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64")
_SYSTEM = ("/etc/ld.so.cache", "/usr/share/zoneinfo", "/dev/zero", "/dev/urandom", "/dev/random")
_PACKAGES = ("site-packages", "dist-packages")
_SUFFIXES = (*EXTENSION_SUFFIXES, *SOURCE_SUFFIXES, *BYTECODE_SUFFIXES)  # in the order of Python's own finder


def version() -> int:
    """Return the version of the kernel's Landlock interface, 0 if there is none."""
    only_the_version = 1
    try:
        return seccomp.call("landlock_create_ruleset", 0, 0, only_the_version)
    except OSError:
        return 0


def libraries() -> Iterator[Path]:
    """Yield what a program reads to import modules and to load libraries: existing or not, resolved."""
    own = [Path(prefix, part) for prefix in (sys.base_prefix, sys.base_exec_prefix) for part in ("lib", "lib64")]
    own += [Path(os.__file__).parent]
    own += [path for path in map(Path, filter(None, sys.path)) if path.resolve().name in _PACKAGES]
    modules = (getattr(sys.modules.get(name), "__file__", None) for name in ("torch", "numpy"))
    own += [Path(file).parent for file in modules if file]  # built from a clone, they lie elsewhere
    yield from sorted({path.resolve() for path in (*own, *map(Path, _LIBRARIES), *map(Path, _SYSTEM))})


def paths_around(root: Path, hidden: Sequence[Path]) -> Iterator[Path]:
    """Yield what to allow so that all under ``root`` can be read but the ``hidden`` paths, all of them resolved.

    Symbolic links next to a hidden path are left out: what they lead to is allowed under its own name, or not at all.
    """
    inside = [path for path in hidden if path.is_relative_to(root)]
    if any(root.is_relative_to(path) for path in hidden):
        return
    if not inside:
        yield root
        return
    with suppress(OSError):  # a folder that cannot be listed has nothing to allow
        for child in sorted(root.iterdir()):
            if not child.is_symlink():
                yield from paths_around(child, inside)


def make_ruleset(readable: Iterable[Path], writable: Iterable[Path]) -> int:
    """Build a ruleset: read below ``readable``, write to the files ``writable``, nothing else.

    A path that does not exist, or that this user cannot reach, is left out. No rule grants EXECUTE: mapping a shared
    library does not need it, and no candidate starts a program.

    Returns:
        Descriptor of the ruleset.

    Raises:
        OSError: If the kernel has no Landlock or refuses.
    """
    abi = version()
    files = (1 << _FILE_RIGHTS.get(abi, 16)) - 1
    wanted = struct.pack("=QQQ", files, _NET_RIGHTS if abi >= 4 else 0, _SCOPES if abi >= 6 else 0)
    attributes = ctypes.create_string_buffer(wanted, len(wanted))
    # An older kernel takes a longer structure as long as what it does not know is zero.
    ruleset = seccomp.call("landlock_create_ruleset", ctypes.addressof(attributes), len(wanted), 0)
    try:
        for path in readable:
            _allow(ruleset, path, _READ_FILE | _READ_DIR)
        for path in writable:
            _allow(ruleset, path, _READ_FILE | _WRITE_FILE)
    except OSError:
        os.close(ruleset)
        raise
    return ruleset


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not path.is_dir():
            rights &= ~_READ_DIR
        rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, fd), 12)  # packed: no padding after the fd
        path_beneath = 1
        seccomp.call("landlock_add_rule", ruleset, path_beneath, ctypes.addressof(rule), 0)
    finally:
        os.close(fd)


def restrict(ruleset: int) -> None:
    """Put the calling thread, and the threads that it will start, under a ruleset for good.

    Raises:
        OSError: If the kernel refuses.
    """
    quiet = 1 if version() >= 7 else 0  # or each refusal would write a line to the machine's audit log
    seccomp.call("landlock_restrict_self", ruleset, quiet)


class FinderByName(MetaPathFinder):
    """Finds modules in folders that a rule opens in parts, and that can therefore not be listed.

    Python's own finder goes by a listing, and reads it anew when the folder has changed; this one asks for files.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return the spec of a module at the top; the parts of a package lie in a folder that can be listed."""
        for folder in self._folders if path is None else ():
            files = (folder / f"{name}{suffix}" for suffix in _SUFFIXES)
            for file in folder / name / "__init__.py", *files:
                if file.is_file():
                    return spec_from_file_location(name, file)
        return None
