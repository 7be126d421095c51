import importlib.util
import json
import os
import re
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from grader.candidate import landlock, sandbox, seccomp

HERE = Path(__file__).parent / "attacks"
LINUX = pytest.mark.skipif(seccomp.machine() is None, reason="needs Linux on x86-64 or aarch64")
pytestmark = pytest.mark.xdist_group("sandbox")


def load(name):
    spec = importlib.util.spec_from_file_location(f"sandbox_{name}", HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ATTACKS = load("attacks").ATTACKS if seccomp.machine() else {}
LOOKED_AT_BELOW = {"nothing", "compute_without_end", "write_to_the_terminal_in_vain"}


def needs():
    source = (HERE / "needs.py").read_text()
    names = [line.split("(")[0].removeprefix("def ") for line in source.splitlines() if line.startswith("def ")]
    return [name for name in names if not name.startswith("_") and name not in LOOKED_AT_BELOW]


@pytest.fixture(scope="module")
def folder():
    """A folder that everybody may change, with a secret, files to do harm to, and libraries that hide something."""
    path = Path(tempfile.mkdtemp(prefix="sandbox-"))  # pytest's own are closed to other users
    packages = path / "site-packages"
    for name in "empty", "site-packages/neighbour", "site-packages/hidden", "site-packages/neighbour/inner":
        (path / name).mkdir(parents=True, exist_ok=True)
    for name, text in {
        "secret": "secret",
        "victim": "kept",
        "emptied": "kept",
        "removable": "kept",
        "own": "kept",
        "site-packages/single.py": "VALUE = 44",
        "site-packages/another.py": "VALUE = 45",
        "site-packages/neighbour/__init__.py": "VALUE = 42",
        "site-packages/neighbour/inner/__init__.py": "VALUE = 43",
        "site-packages/hidden/__init__.py": "",
        "site-packages/hidden/secret.py": "ANSWER = 42",
    }.items():
        (path / name).write_text(text)
    (packages / "link").symlink_to(packages / "hidden")
    for item in [path, *path.rglob("*")]:
        if not item.is_symlink():
            item.chmod(0o777)
    yield path
    shutil.rmtree(path)


class Arena:
    """The program ``attacks/arena.py``, in which every request is one fork."""

    def __init__(self, folder, uid=0, namespaces=True):
        site_packages = folder / "site-packages"
        context = {"folder": str(folder), "secret": str(folder / "secret"), "site_packages": str(site_packages)}
        context["hidden"] = str(site_packages / "hidden")
        options = {"uid": uid, "namespaces": namespaces, "context": context}
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "arena.py"), json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "SECRET": "secret", "PYTHONDONTWRITEBYTECODE": "1"},
        )

    def run(
        self, module, name, sandboxed=True, limits=None, refuse=(), terminal_as_output=False, platform=None, threads=0
    ):
        request = {"module": module, "name": name, "sandboxed": sandboxed, "limits": limits or {}}
        request |= {"refuse": list(refuse), "terminal_as_output": terminal_as_output, "platform": platform}
        request["threads"] = threads
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(20)


@pytest.fixture(scope="module")
def arena(folder):
    arena = Arena(folder)
    yield arena
    arena.close()


@pytest.fixture(scope="module")
def open_arena(folder):
    arena = Arena(folder, namespaces=False)
    yield arena
    arena.close()


@pytest.fixture(scope="module")
def nobodys_arena(folder):
    """Whoever runs the tests as root also sees what an ordinary user gets."""
    if os.geteuid() != 0:
        pytest.skip("the tests run as an ordinary user already")
    arena = Arena(folder, uid=65534)
    yield arena
    arena.close()


def assert_failed(answer, fails_with):
    if fails_with == "SIGSYS":
        assert answer["status"] == -31, answer
        return
    assert answer["status"] == 0, answer
    assert "value" not in answer, f"it got through: {answer}"
    assert {answer["errno"], *answer["bases"]} & set(fails_with), answer


@LINUX
@pytest.mark.parametrize("name", ATTACKS)
def test_attack_fails(arena, name):
    answer = arena.run("attacks", name)

    assert_failed(answer, ATTACKS[name][1])


@LINUX
@pytest.mark.parametrize("name", ATTACKS)
def test_attack_of_an_ordinary_user_fails(nobodys_arena, name):
    answer = nobodys_arena.run("attacks", name)

    assert_failed(answer, ATTACKS[name][1])


@LINUX
@pytest.mark.parametrize("name", [name for name, (sound_for, _) in ATTACKS.items() if sound_for != "nobody"])
def test_attack_gets_through_without_the_sandbox(open_arena, name):
    if ATTACKS[name][0] == "root" and os.geteuid() != 0:
        pytest.skip("only root could do that")

    answer = open_arena.run("attacks", name, sandboxed=False)

    assert "value" in answer, answer


@LINUX
@pytest.mark.parametrize("name", needs())
def test_honest_code_runs(arena, name):
    answer = arena.run("needs", name)

    assert "value" in answer, answer


@LINUX
@pytest.mark.parametrize("name", needs())
def test_honest_code_of_an_ordinary_user_runs(nobodys_arena, name):
    if not can_be_read_by_others(Path(os.__file__)) and ("import" in name or name == "train_a_little"):
        pytest.skip("other users cannot read this Python's libraries")

    answer = nobodys_arena.run("needs", name)

    assert "value" in answer, answer


def can_be_read_by_others(path):
    return all(parent.stat().st_mode & 0o001 for parent in path.resolve().parents)


# --- what is in force -------------------------------------------------------------------------------------------------


@LINUX
def test_layers_are_the_ones_that_the_kernel_grants(arena):
    layers = arena.run("needs", "nothing")["layers"]

    assert layers[:2] == ["process", "limits"]
    assert ("landlock" in layers) == (landlock.version() > 0)
    assert "seccomp" in layers


@LINUX
def test_ordinary_user_gets_the_full_sandbox(nobodys_arena):
    layers = nobodys_arena.run("needs", "nothing")["layers"]

    assert ("landlock" in layers) == (landlock.version() > 0)
    assert "seccomp" in layers


@LINUX
@pytest.mark.parametrize(
    ("refused", "tier", "missing"),
    [
        (["landlock_create_ruleset"], "partial", {"landlock"}),
        (["landlock_add_rule"], "partial", {"landlock"}),
        (["landlock_restrict_self"], "partial", {"landlock"}),
        (["seccomp"], "partial", {"seccomp"}),
        (["seccomp", "landlock_create_ruleset"], "process", {"landlock", "seccomp"}),
        (["close_range"], "full", set()),
    ],
)
def test_tier_falls_with_what_is_refused(arena, refused, tier, missing):
    layers = set(arena.run("needs", "nothing", refuse=refused)["layers"])

    assert sandbox.tier(layers) == tier
    assert layers == set(arena.run("needs", "nothing")["layers"]) - missing


@LINUX
@pytest.mark.parametrize("refused", ["capset", "prctl"])
def test_lock_down_fails_where_a_step_fails_that_always_works(arena, refused):
    answer = arena.run("needs", "nothing", refuse=[refused])

    assert answer["errno"] == "EPERM"
    assert "layers" not in answer


@LINUX
@pytest.mark.parametrize("refused", ["landlock_create_ruleset", "landlock_restrict_self"])
@pytest.mark.parametrize("name", ["create_a_file", "change_a_file", "empty_a_file_by_open", "make_a_nameless_file"])
def test_nothing_is_written_without_landlock_either(arena, refused, name):
    assert_failed(arena.run("attacks", name, refuse=[refused]), ["EPERM"])


@LINUX
@pytest.mark.parametrize(
    "name", ["read_passwd", "read_a_hidden_file", "list_the_hidden_folder", "create_a_file", "remove_a_file"]
)
def test_files_are_out_of_reach_without_seccomp_too(arena, name):
    assert_failed(arena.run("attacks", name, refuse=["seccomp"]), ["EACCES"])


@LINUX
def test_descriptors_are_closed_without_close_range_too(arena):
    assert_failed(arena.run("attacks", "read_a_descriptor_of_the_zygote", refuse=["close_range"]), ["EBADF"])


@LINUX
def test_landlock_is_not_claimed_where_it_would_leave_a_thread_out(arena):
    layers = arena.run("needs", "nothing", threads=1)["layers"]

    assert "landlock" not in layers
    assert "seccomp" in layers
    assert_failed(arena.run("attacks", "create_a_file", threads=1), ["EPERM"])
    assert_failed(arena.run("attacks", "open_a_socket_inet_sock_stream", threads=1), ["EPERM"])


@LINUX
@pytest.mark.parametrize(
    ("refused", "granted"),
    [
        ([], ("user", "net", "ipc", "pid")),
        ([0x1000_0000], ("net", "ipc", "pid")),
        ([0x4000_0000], ("user", "ipc", "pid")),
        ([0x4000_0000, 0x0800_0000, 0x2000_0000], ("user",)),
        ([0x1000_0000, 0x4000_0000, 0x0800_0000, 0x2000_0000], ()),
    ],
)
def test_one_refused_namespace_does_not_lose_the_others(monkeypatch, refused, granted):
    def call(name, flag):
        assert name == "unshare"
        if flag in refused:
            raise PermissionError(1, "refused")
        return 0

    monkeypatch.setattr(seccomp, "call", call)
    monkeypatch.setattr(Path, "write_text", lambda *_: None)  # the maps of ids are this process's own

    assert sandbox.enter_namespaces() == granted


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_other_systems_get_a_process(monkeypatch, platform):
    monkeypatch.setattr(sys, "platform", platform)

    plan = sandbox.prepare(["/"])

    assert (plan.ruleset, plan.program) == (None, None)
    assert sandbox.enter_namespaces() == ()


@LINUX
@pytest.mark.parametrize(("platform", "layers"), [("darwin", ["process", "limits"]), ("win32", ["process"])])
def test_other_systems_run_honest_code(open_arena, platform, layers):
    answer = open_arena.run("needs", "compute_with_torch", platform=platform)

    assert answer["layers"] == layers
    assert "value" in answer, answer
    assert sandbox.tier(layers) == "process"


def test_explain_has_a_sentence_for_every_layer():
    every = ["process", "limits", "user", "net", "ipc", "pid", "landlock", "seccomp"]

    told = sandbox.explain(["process", "limits", "landlock"])

    assert [name for name, _, _ in told] == every
    assert [name for name, held, _ in told if held] == ["process", "limits", "landlock"]
    assert all(sentence.endswith(".") for _, _, sentence in told + sandbox.explain(every))
    assert "lsm=" in sandbox.explain([])[6][2]


# --- limits, the terminal, the cost -----------------------------------------------------------------------------------


@LINUX
def test_endless_computing_is_killed_by_the_limit_on_processor_time(arena):
    answer = arena.run("needs", "compute_without_end", limits={"cpu_seconds": 1})

    assert answer["status"] == -9
    assert "value" not in answer


@LINUX
def test_memory_on_top_is_what_the_plan_says(arena):
    answer = arena.run("needs", "use_the_memory_it_is_promised", limits={"data_bytes": 1 << 30})

    assert answer["error"] == "RuntimeError"
    assert "memory" in answer["text"]


@LINUX
def test_terminal_does_not_stay_as_output(arena):
    answer = arena.run("needs", "write_to_the_terminal_in_vain", terminal_as_output=True)

    assert "value" in answer, answer


@LINUX
def test_locking_down_costs_no_more_than_a_few_forks(arena, capsys):
    answers = [arena.run("needs", "nothing") for _ in range(20)]

    fork, locked = (statistics.median(answer[key] for answer in answers) for key in ("forked", "locked"))
    with capsys.disabled():
        print(f"fork {1000 * fork:.1f} ms, lock_down {1000 * locked:.1f} ms", end=" ")
    assert locked < max(3 * fork, 0.02)


def test_module_needs_little_to_be_imported():
    code = "import sys; import grader.candidate.sandbox; print({'torch', 'numpy', 'pytest'} & set(sys.modules))"

    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert out == "set()\n"


# --- Landlock: what lies around a hidden folder -----------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path):
    for name in "a/b/hidden/deep", "a/b/c", "a/d", "e":
        (tmp_path / name).mkdir(parents=True)
    for name in "a/one.py", "a/b/two.py", "a/b/hidden/secret.py":
        (tmp_path / name).touch()
    (tmp_path / "a/b/link").symlink_to(tmp_path / "a/b/hidden")
    return tmp_path.resolve()


@pytest.mark.parametrize(
    ("root", "hidden", "allowed"),
    [
        (".", [], ["."]),
        (".", ["a/b/hidden"], ["a/b/c", "a/b/two.py", "a/d", "a/one.py", "e"]),
        (".", ["a/b/hidden/secret.py"], ["a/b/c", "a/b/hidden/deep", "a/b/two.py", "a/d", "a/one.py", "e"]),
        (".", ["a/b/hidden", "e"], ["a/b/c", "a/b/two.py", "a/d", "a/one.py"]),
        ("a/d", ["a/b"], ["a/d"]),
        ("a/d", ["a"], []),
        ("a", ["a"], []),
    ],
)
def test_allowed_is_all_around_what_is_hidden(tree, root, hidden, allowed):
    found = landlock.paths_around((tree / root).resolve(), [tree / path for path in hidden])

    assert sorted(found) == sorted((tree / path).resolve() for path in allowed)


# --- seccomp: the filter, run by a small interpreter, for machines that the tests do not run on -----------------------

ALLOW, EPERM, ENOSYS, KILL = 0x7FFF_0000, 0x0005_0001, 0x0005_0026, 0x8000_0000
ARCHES = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}
PID = 4711


def judge_call(column, number, *arguments, arch=None, read_only=False):
    """Return the filter's decision on one system call."""
    program = seccomp.compile_filter(read_only, column)
    code = bytearray(program.code)
    for offset in program.pid_at:
        struct.pack_into("<I", code, offset, PID)
    arguments = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("<IIQ6Q", number, arch or ARCHES[column], 0, *(a & (1 << 64) - 1 for a in arguments))
    accumulator, at = 0, 0
    while True:
        op, if_true, if_false, operand = struct.unpack_from("<HBBI", code, 8 * at)
        at += 1
        match op:
            case 0x20:
                accumulator = struct.unpack_from("<I", data, operand)[0]
            case 0x54:
                accumulator &= operand
            case 0x15:
                at += if_true if accumulator == operand else if_false
            case 0x35:
                at += if_true if accumulator >= operand else if_false
            case 0x06:
                return operand


HIGH = 1 << 32
CALLS = [  # number on x86-64, on aarch64, arguments, decision
    ((0, 63), (3, 0, 10), ALLOW),  # read
    ((257, 56), (-100, 0, 0), ALLOW),  # openat
    ((257, 56), (-100, 0, 0o1), ALLOW),  # … for writing: Landlock decides
    ((41, 198), (2, 1, 0), EPERM),  # socket
    ((435, 435), (), ENOSYS),  # clone3
    ((434, 434), (PID, 0), ENOSYS),  # pidfd_open
    ((56, 220), (0x003D_0F00,), ALLOW),  # clone as glibc starts a thread
    ((56, 220), (0x007D_0F00,), ALLOW),  # … as musl does
    ((56, 220), (17,), EPERM),  # … as fork does
    ((56, 220), (0x013D_0F00 | 17,), EPERM),
    ((56, 220), (0x003D_0F00 | HIGH,), EPERM),
    ((56, 220), (0x103D_0F00,), EPERM),  # … into a new user namespace
    ((56, 220), (0x003C_0F00,), EPERM),  # … without CLONE_THREAD
    ((62, 129), (PID, 9), ALLOW),  # kill
    ((62, 129), (1, 9), EPERM),
    ((62, 129), (0, 9), EPERM),
    ((62, 129), (-1, 9), EPERM),
    ((234, 131), (PID, PID + 1, 10), ALLOW),  # tgkill of an own thread
    ((234, 131), (1, PID, 10), EPERM),
    ((9, 222), (0, 4096, 3, 0x22), ALLOW),  # mmap private
    ((9, 222), (0, 4096, 5, 0x802), ALLOW),  # … of a library
    ((9, 222), (0, 4096, 3, 0x21), EPERM),  # … shared
    ((9, 222), (0, 4096, 3, 0x23), EPERM),  # … shared and validated
    ((9, 222), (0, 4096, 3, 0x122), EPERM),  # … growing downwards
    ((302, 261), (0, 7, 0, 1), ALLOW),  # prlimit64 to read
    ((302, 261), (0, 7, 1, 1), EPERM),  # … to set
    ((302, 261), (0, 7, HIGH, 1), EPERM),
    ((302, 261), (1, 7, 0, 1), EPERM),  # … of another
    ((44, 206), (3, 1, 1, 0, 0, 0), ALLOW),  # sendto where it is connected to
    ((44, 206), (3, 1, 1, 0, HIGH, 16), EPERM),  # … elsewhere
    ((16, 29), (0, 0x5401), ALLOW),  # ioctl TCGETS
    ((16, 29), (0, 0x5412), EPERM),  # TIOCSTI
    ((16, 29), (0, 0x5412 | HIGH), EPERM),
    ((72, 25), (3, 3), ALLOW),  # fcntl F_GETFL
    ((72, 25), (3, 8, 1), EPERM),  # F_SETOWN
    ((157, 167), (15, 1), ALLOW),  # prctl PR_SET_NAME
    ((157, 167), (4, 1), EPERM),  # PR_SET_DUMPABLE
    ((221, 221), (), EPERM),  # fadvise64; execve
    ((446, 446), (), ENOSYS),  # landlock_restrict_self: the candidate is under it already
]


@pytest.mark.parametrize("column", seccomp.MACHINES)
@pytest.mark.parametrize(("numbers", "arguments", "decision"), CALLS)
def test_filter_decides(column, numbers, arguments, decision):
    assert judge_call(column, numbers[seccomp.MACHINES.index(column)], *arguments) == decision


@pytest.mark.parametrize("column", seccomp.MACHINES)
@pytest.mark.parametrize("flags", [0o1, 0o2, 0o100, 0o1000, 0o20200000 | 0o1, 0o2000000 | 0o1])
def test_filter_alone_refuses_to_open_for_writing(column, flags):
    number = {"x86_64": 257, "aarch64": 56}[column]

    assert judge_call(column, number, -100, 0, flags, read_only=True) == EPERM
    assert judge_call(column, number, -100, 0, 0o2000000, read_only=True) == ALLOW  # O_CLOEXEC


@pytest.mark.parametrize("column", seccomp.MACHINES)
@pytest.mark.parametrize("arch", [0x4000_0003, 0x4000_0028, 0])
def test_filter_kills_foreign_architectures(column, arch):
    assert judge_call(column, 0, arch=arch or next(a for name, a in ARCHES.items() if name != column)) == KILL


@pytest.mark.parametrize("column", seccomp.MACHINES)
def test_filter_kills_the_x32_interface(column):
    assert judge_call(column, 0x4000_0000) == KILL
    assert judge_call(column, 0x4000_0000 + 39) == KILL


@pytest.mark.parametrize(
    ("column", "header"),
    [
        ("x86_64", "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
        ("x86_64", "/usr/include/asm/unistd_64.h"),
        ("aarch64", "/usr/include/asm-generic/unistd.h"),
    ],
)
def test_numbers_are_those_of_the_kernel(column, header):
    if not Path(header).exists():
        pytest.skip("the kernel's headers are not installed here")
    text = Path(header).read_text()
    known = {name: int(value) for name, value in re.findall(r"#define __NR(?:3264)?_(\w+) (\d+)", text)}
    if column == "aarch64":
        known["newfstatat"] = known["fstatat"]

    ours = {name: numbers[seccomp.MACHINES.index(column)] for name, numbers in seccomp.NUMBERS.items()}

    assert {name: known[name] for name in ours if name in known} == {n: v for n, v in ours.items() if n in known}
    assert not [name for name, value in ours.items() if value is not None and value < 440 and name not in known]
