"""What a learner's code must not get away with. Each function gets the arena's context, and returns if it got through.

``@attack`` says how it has to fail, and whether it gets through outside of the sandbox, so that the test can show that
the attack itself is sound: for ``"anyone"``, for ``"root"``, or ``"nobody"`` where trying would do harm or depends on
the machine.
"""

import ctypes
import errno
import fcntl
import importlib
import mmap
import os
import platform
import posix
import resource
import signal
import socket
import struct
import subprocess
from multiprocessing import shared_memory
from pathlib import Path

REFUSED = ("EPERM", "EACCES", "ENOSYS")
ATTACKS = {}
_X86 = platform.machine() == "x86_64"
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def attack(sound_for="anyone", fails_with=REFUSED):
    def register(function):
        ATTACKS[function.__name__] = (sound_for, fails_with)
        return function

    return register


def system_call(numbers, *arguments):
    number = numbers if isinstance(numbers, int) else numbers[0 if _X86 else 1]
    packed = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = _libc.syscall(ctypes.c_long(number), *packed)
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def buffer(size=256, content=b""):
    return ctypes.create_string_buffer(content, size)


# --- reading ----------------------------------------------------------------------------------------------------------


def reader(name, path, sound_for="anyone", fails_with=REFUSED):
    def read(context):
        with Path(path(context)).open("rb") as file:
            file.read(1)
        return "read"

    read.__name__ = name
    globals()[name] = attack(sound_for, fails_with)(read)


reader("read_passwd", lambda context: "/etc/passwd")
reader("read_hostname", lambda context: "/etc/hostname", sound_for="nobody")
reader("read_shadow", lambda context: "/etc/shadow", sound_for="root")
reader("read_a_file_in_tmp", lambda context: context["secret"])
reader("read_a_hidden_file", lambda context: context["hidden"] + "/secret.py")
reader("read_a_hidden_file_by_a_link", lambda context: context["site_packages"] + "/link/secret.py")
reader("read_a_hidden_file_by_dots", lambda context: context["site_packages"] + "/neighbour/../hidden/secret.py")
reader("read_this_file", lambda context: __file__, sound_for="nobody")
reader("read_the_grader", lambda context: importlib.import_module("grader").__file__, sound_for="nobody")
reader("read_own_memory_map", lambda context: "/proc/self/maps")
reader("read_own_first_environment", lambda context: "/proc/self/environ")
reader("read_own_memory", lambda context: "/proc/self/mem", sound_for="nobody")
reader("read_memory_of_the_parent", lambda context: f"/proc/{os.getppid()}/mem", sound_for="nobody")
reader("read_environment_of_process_1", lambda context: "/proc/1/environ", sound_for="nobody")
reader("read_kernel_parameters", lambda context: "/proc/sys/kernel/hostname")
reader("read_sys", lambda context: "/sys/kernel/mm/transparent_hugepage/enabled", sound_for="nobody")
reader("open_the_terminal", lambda context: "/dev/tty", sound_for="nobody", fails_with=(*REFUSED, "ENXIO"))
reader("open_shared_memory_folder", lambda context: "/dev/shm/x", sound_for="nobody", fails_with=(*REFUSED, "ENOENT"))


def lister(name, path, sound_for="anyone"):
    def listing(context):
        return len(list(Path(path(context)).iterdir()))

    listing.__name__ = name
    globals()[name] = attack(sound_for)(listing)


lister("list_the_root", lambda context: "/")
lister("list_tmp", lambda context: "/tmp")
lister("list_the_hidden_folder", lambda context: context["hidden"])
lister("list_processes", lambda context: "/proc")
lister("list_descriptors", lambda context: "/proc/self/fd")
lister("list_dev", lambda context: "/dev")


@attack()
def import_a_hidden_module(context):
    return importlib.import_module("hidden.secret").ANSWER


@attack()
def read_a_hidden_file_from_a_folder_descriptor(context):
    folder = os.open(context["hidden"], os.O_PATH)
    return os.read(os.open("secret.py", os.O_RDONLY, dir_fd=folder), 10).decode()


@attack("nobody", fails_with=("EBADF",))
def read_a_descriptor_of_the_zygote(context):
    return os.read(context["open_fd"], 10).decode()


@attack("anyone", fails_with=("KeyError",))
def read_the_environment(context):
    return os.environ["SECRET"]


@attack("anyone", fails_with=("KeyError",))
def read_the_environment_below_os(context):
    return posix.environ[b"SECRET"].decode()


@attack("anyone", fails_with=("LookupError",))
def read_the_environment_of_c(context):
    _libc.getenv.restype = ctypes.c_char_p
    value = _libc.getenv(b"SECRET")
    if value is None:
        raise LookupError("no such variable")
    return value.decode()


@attack("nobody")
def open_by_handle(context):
    return system_call((304, 265), -100, buffer(), 0)


@attack()
def make_a_file_handle(context):
    handle = buffer(content=struct.pack("Ii", 128, 0))
    return system_call((303, 264), -100, b"/etc/passwd\0", handle, buffer(), 0)


@attack()
def open_with_openat2(context):
    return system_call(437, -100, b"/etc/passwd\0", buffer(24, bytes(24)), 24)


# --- writing ----------------------------------------------------------------------------------------------------------


def writer(name, act, sound_for="anyone", fails_with=REFUSED):
    def write(context):
        act(Path(context["folder"]), f"{name}-{os.getpid()}")
        return "written"

    write.__name__ = name
    globals()[name] = attack(sound_for, fails_with)(write)


writer("create_a_file", lambda folder, name: (folder / name).write_text("x"))
writer("append_to_a_file", lambda folder, name: (folder / "victim").open("a").close())
writer("change_a_file", lambda folder, name: (folder / "victim").open("r+").close())
writer("empty_a_file_by_open", lambda folder, name: os.open(folder / "emptied", os.O_RDONLY | os.O_TRUNC))
writer("empty_a_file", lambda folder, name: os.truncate(folder / "emptied", 0))
writer("make_a_nameless_file", lambda folder, name: os.open(folder, os.O_TMPFILE | os.O_RDWR))
writer("remove_a_file", lambda folder, name: (folder / "removable").unlink(missing_ok=False), sound_for="nobody")
writer("rename_a_file", lambda folder, name: (folder / "victim").rename(folder / "victim"))
writer("make_a_folder", lambda folder, name: (folder / name).mkdir())
writer("remove_a_folder", lambda folder, name: (folder / "empty").rmdir(), sound_for="nobody")
writer("change_the_mode", lambda folder, name: (folder / "own").chmod(0o666))
writer("change_the_mode_newly", lambda f, n: system_call(452, -100, bytes(f / "own") + b"\0", 0o666, 0), "nobody")
writer("change_the_owner", lambda folder, name: os.chown(folder / "own", -1, -1))
writer("change_the_times", lambda folder, name: os.utime(folder / "own", (0, 0)))
writer("set_an_attribute", lambda folder, name: os.setxattr(folder / "own", "user.x", b"x"), sound_for="nobody")
writer("make_a_symbolic_link", lambda folder, name: (folder / name).symlink_to("/etc"))
writer("make_a_hard_link", lambda folder, name: os.link(folder / "own", folder / name))
writer("make_a_pipe_with_a_name", lambda folder, name: os.mkfifo(folder / name))
writer("make_a_device", lambda folder, name: os.mknod(folder / name, 0o020666, os.makedev(1, 3)), sound_for="nobody")
writer("write_into_shared_memory_folder", lambda f, n: Path(f"/dev/shm/{n}").write_text("x"), sound_for="nobody")
writer("write_into_site_packages", lambda folder, name: (folder / "site-packages" / name).write_text("x"))
writer("write_into_the_library", lambda f, n: Path(os.__file__).with_name("os.py").open("r+").close(), "nobody")
writer("write_to_dev_zero", lambda folder, name: Path("/dev/zero").open("r+b").close(), sound_for="nobody")
writer("set_the_umask", lambda folder, name: system_call((95, 166), 0))
writer("lock_a_library", lambda f, n: fcntl.flock(os.open(os.__file__, 0), fcntl.LOCK_SH), "nobody")


@attack("nobody")
def write_a_gigabyte(context):
    path = Path(context["folder"]) / "large"
    with path.open("wb") as file:
        for _ in range(1024):
            file.write(bytes(1 << 20))
    return "written"


@attack("nobody", fails_with=("EMFILE",))
def open_ten_thousand_files(context):
    return len([os.open(os.devnull, os.O_RDONLY) for _ in range(10_000)])


# --- the network ------------------------------------------------------------------------------------------------------


def family(name, sound_for="nobody", kind=socket.SOCK_STREAM):
    def connect(context):
        socket.socket(
            getattr(socket, f"AF_{name}"), kind, socket.IPPROTO_ICMP if kind == socket.SOCK_RAW else 0
        ).close()
        return "opened"

    connect.__name__ = f"open_a_socket_{name.lower()}_{kind.name.lower()}"
    globals()[connect.__name__] = attack(sound_for)(connect)


for _name in "INET", "INET6", "UNIX", "NETLINK", "PACKET", "VSOCK", "ALG", "BLUETOOTH", "CAN", "TIPC", "RDS", "QIPCRTR":
    if hasattr(socket, f"AF_{_name}"):
        family(_name, "anyone" if _name in ("INET", "UNIX") else "nobody")
family("INET", "anyone", socket.SOCK_DGRAM)
family("UNIX", "anyone", socket.SOCK_DGRAM)
family("INET", "root", socket.SOCK_RAW)
family("NETLINK", "nobody", socket.SOCK_RAW)


@attack()
def make_a_pair_of_sockets(context):
    return len(socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM))


# --- processes --------------------------------------------------------------------------------------------------------


@attack()
def start_a_program(context):
    return subprocess.run(["/bin/true"], check=True).returncode


@attack()
def start_a_shell(context):
    if os.system("true") != 0:
        raise PermissionError(errno.EPERM, "no shell")
    return "ran"


@attack()
def spawn(context):
    return os.posix_spawn("/bin/true", ["true"], {})


@attack()
def fork(context):
    if os.fork() == 0:
        os._exit(0)
    return "forked"


def _raw_fork(numbers, *arguments):
    if system_call(numbers, *arguments) == 0:
        os._exit(0)
    return "forked"


@attack()
def fork_by_clone(context):
    return _raw_fork((56, 220), signal.SIGCHLD, 0, 0, 0, 0)


@attack()
def fork_by_clone3(context):
    return _raw_fork(435, buffer(64, struct.pack("8Q", 0, 0, 0, 0, signal.SIGCHLD, 0, 0, 0)), 64)


@attack("nobody")
def start_a_thread_by_clone3(context):
    return system_call(435, buffer(64, struct.pack("8Q", 0x10F00, 0, 0, 0, 0, 0, 0, 0)), 64)


@attack("nobody")
def fork_with_high_bits(context):
    return _raw_fork((56, 220), (1 << 32) | 0x10F00, 0, 0, 0, 0)


@attack("nobody")
def clone_into_a_new_user_namespace(context):
    return _raw_fork((56, 220), 0x1000_0000 | 0x10F00, 0, 0, 0, 0)


@attack("nobody")
def clone_sharing_memory_alone(context):
    return system_call((56, 220), 0x100 | signal.SIGCHLD, 0, 0, 0, 0)


if _X86:

    @attack()
    def fork_by_its_old_number(context):
        return _raw_fork((57, None))

    @attack("nobody")
    def vfork_by_its_number(context):
        return system_call((58, None))


@attack("nobody")
def execute(context):
    os.execv("/bin/true", ["true"])


@attack("nobody")
def execute_by_descriptor(context):
    return system_call((322, 281), os.open(os.__file__, os.O_RDONLY), b"\0", 0, 0, 0x1000)


@attack("nobody")
def execute_an_allowed_library(context):
    os.execv(importlib.import_module("_ctypes").__file__, ["x"])


@attack("nobody")
def execute_the_loader(context):
    os.execv("/lib64/ld-linux-x86-64.so.2" if _X86 else "/lib/ld-linux-aarch64.so.1", ["ld", "/bin/true"])


# --- other processes; signal 0 asks whether a signal could be sent ----------------------------------------------------


def signaller(name, act, sound_for="anyone"):
    def send(context):
        act(context)
        return "could be sent"

    send.__name__ = name
    globals()[name] = attack(sound_for)(send)


signaller("signal_the_parent", lambda context: os.kill(context["zygote"], 0))
signaller("signal_everybody", lambda context: os.kill(-1, 0))
signaller("signal_process_1", lambda context: os.kill(1, 0), sound_for="root")
signaller("signal_the_own_group", lambda context: os.kill(0, 0))
signaller("signal_another_group", lambda context: os.killpg(os.getppid(), 0), sound_for="nobody")
signaller("signal_a_thread_by_tkill", lambda context: system_call((200, 130), context["zygote"], 0))
signaller("signal_a_thread_by_tgkill", lambda c: system_call((234, 131), c["zygote"], c["zygote"], 0))
signaller("signal_with_high_bits", lambda c: system_call((62, 129), (7 << 32) | c["zygote"], 0))
signaller("queue_a_signal", lambda c: system_call((129, 138), c["zygote"], 0, buffer()), sound_for="nobody")
signaller("open_a_process", lambda context: system_call(434, context["zygote"], 0))
signaller("open_itself_as_a_process", lambda context: system_call(434, os.getpid(), 0))
signaller("signal_by_process_descriptor", lambda c: system_call(424, 0, 0, 0, 0), sound_for="nobody")
signaller("take_a_descriptor_of_a_process", lambda c: system_call(438, 0, 0, 0), sound_for="nobody")
signaller("own_the_signals_of_a_pipe", lambda c: fcntl.fcntl(c["terminal"], fcntl.F_SETOWN, c["zygote"]))
signaller("choose_the_signal_of_a_pipe", lambda c: fcntl.fcntl(c["terminal"], fcntl.F_SETSIG, 9))
signaller("own_the_signals_by_ioctl", lambda c: fcntl.ioctl(0, 0x8901, struct.pack("i", 1)), sound_for="nobody")
signaller("be_told_of_changes", lambda c: fcntl.fcntl(os.open(os.__file__, 0), fcntl.F_NOTIFY, 1), sound_for="nobody")
signaller("trace_the_parent", lambda context: system_call((101, 117), 16, context["zygote"], 0, 0), "nobody")
signaller("ask_to_be_traced", lambda context: system_call((101, 117), 0, 0, 0, 0), "nobody")
signaller("compare_with_the_parent", lambda c: system_call((312, 272), os.getpid(), c["zygote"], 0, 0, 0), "nobody")
signaller("slow_the_parent_down", lambda c: os.setpriority(os.PRIO_PROCESS, c["zygote"], 19))
signaller("pin_the_parent", lambda c: os.sched_setaffinity(c["zygote"], os.sched_getaffinity(c["zygote"])))
signaller("schedule_itself_first", lambda c: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)), "root")
signaller("limit_the_parent", lambda c: resource.prlimit(c["zygote"], resource.RLIMIT_CPU, (1000, 1000)))
signaller("read_limits_of_the_parent", lambda c: resource.prlimit(c["zygote"], resource.RLIMIT_CPU))
signaller("join_another_session", lambda context: os.setpgid(0, 0))


def _process_memory(numbers):
    def access(context):
        local, remote = buffer(16), ctypes.create_string_buffer(b"0123456789abcdef")
        here = buffer(16, struct.pack("PN", ctypes.addressof(local), 16))
        there = buffer(16, struct.pack("PN", ctypes.addressof(remote), 16))
        return system_call(numbers, context["zygote"], here, 1, there, 1, 0)

    return access


signaller("read_memory_by_process_vm_readv", _process_memory((310, 270)), sound_for="nobody")
signaller("write_memory_by_process_vm_writev", _process_memory((311, 271)), sound_for="nobody")


# --- the kernel -------------------------------------------------------------------------------------------------------


def caller(name, numbers, *arguments, sound_for="nobody", fails_with=REFUSED):
    def make(context):
        return system_call(numbers, *arguments)

    make.__name__ = name
    globals()[name] = attack(sound_for, fails_with)(make)


caller("enter_a_user_namespace", (272, 97), 0x1000_0000)
caller("enter_a_mount_namespace", (272, 97), 0x0002_0000, sound_for="root")
caller("join_a_namespace", (308, 268), 0, 0)
caller("mount_something", (165, 40), b"x\0", b"/mnt\0", b"tmpfs\0", 0, 0)
caller("mount_newly", 430, b"tmpfs\0", 0)
caller("clone_a_mount", 428, -100, b"/\0", 1)
caller("unmount", (166, 39), b"/mnt\0", 0)
caller("change_the_root", (161, 51), b"/tmp\0", sound_for="root")
caller("pivot_the_root", (155, 41), b"/tmp\0", b"/tmp\0")
caller("change_the_folder", (80, 49), b"/tmp\0", sound_for="anyone")
caller("make_a_file_in_memory", (319, 279), b"x\0", 0, sound_for="anyone")
caller("make_a_secret_file_in_memory", 447, 0)
caller("set_up_io_uring", 425, 4, buffer(256))
caller("load_a_bpf_program", (321, 280), 0, buffer(128), 128)
caller("watch_by_perf", (298, 241), buffer(128, struct.pack("II", 1, 128)), 0, -1, -1, 0)
caller("handle_page_faults", (323, 282), 0)
caller("list_keys", (250, 219), 0, -3, 0, sound_for="anyone")
caller("add_a_key", (248, 217), b"user\0", b"x\0", b"y\0", 1, -3)
caller("change_personality", (135, 92), 0x0040_0000)
caller("install_a_filter", (317, 277), 0, 0, 0)
caller("become_root", (105, 146), 0)
caller("set_groups", (116, 159), 0, 0)
caller("set_capabilities", (126, 91), buffer(8, struct.pack("Ii", 0x2008_0522, 0)), buffer(24, b"\xff" * 24))
caller("raise_an_ambient_capability", (157, 167), 47, 2, 21, 0, 0)
caller("become_dumpable", (157, 167), 4, 1, 0, 0, 0, sound_for="anyone")
caller("outlive_the_parent", (157, 167), 1, 0, 0, 0, 0, sound_for="anyone")
caller("keep_orphans", (157, 167), 36, 1, 0, 0, 0, sound_for="anyone")
caller("move_own_memory_map", (157, 167), 35, 1, 0, 0, 0)
caller("set_the_host_name", (170, 161), b"x\0", 1)
caller("read_the_kernel_log", (103, 116), 3, buffer(), 256)
caller("load_a_module", (175, 105), buffer(), 0, b"\0")
caller("watch_files", (294, 26), 0, sound_for="anyone")
caller("watch_files_by_fanotify", (300, 262), 0, 0)
caller("lock_memory", (151, 230), 1)
caller("make_a_message_queue", (240, 180), b"x\0", os.O_CREAT | os.O_RDWR, 0o600, 0)
caller("get_shared_memory", (29, 194), 0, 4096, 0o1600)
caller("get_semaphores", (64, 190), 0, 1, 0o1600)
caller("get_a_message_queue", (68, 186), 0, 0o1600)
caller("attach_shared_memory", (30, 196), 0, 0, 0)
caller("splice_pipes", (275, 76), 0, 0, 1, 0, 1, 0)
caller("make_a_timer", (222, 107), 1, 0, buffer(), sound_for="anyone")
caller("make_many_pipes", (293, 59), buffer(), 0, sound_for="anyone")
caller("advise_another_process", 440, 0, 0, 0, 0, 0)
caller("set_the_clock", (227, 112), 0, buffer(16))
caller("call_what_does_not_exist", 1000)
if _X86:
    caller("get_io_ports", (172, None), 3)
    caller("change_descriptor_table", (154, None), 0, buffer(), 16)
    caller("move_thread_local_storage", (158, None), 0x1001, 0)
    caller("read_old_sysctl", (156, None), 0)
    caller("create_by_its_old_number", (85, None), b"/tmp/x\0", 0o600)
    caller("change_the_mode_by_its_old_number", (90, None), b"/tmp/x\0", 0o600)
    caller("use_the_x32_interface", (0x4000_0000 + 39, None), fails_with="SIGSYS")
    caller("use_the_x32_interface_for_reading", (0x4000_0000, None), 0, 0, 0, fails_with="SIGSYS")

    @attack("nobody", fails_with="SIGSYS")
    def use_the_interface_of_32_bits(context):
        code = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ | mmap.PROT_WRITE | 4)
        code.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")  # mov eax, getpid; int 0x80; ret
        address = ctypes.addressof(ctypes.c_char.from_buffer(code))
        return ctypes.CFUNCTYPE(ctypes.c_int)(address)()


# --- memory and limits ------------------------------------------------------------------------------------------------


@attack("nobody")
def share_memory_by_name(context):
    return shared_memory.SharedMemory(create=True, size=4096).name


@attack()
def map_memory_to_share(context):
    return len(mmap.mmap(-1, 4096))


@attack()
def map_memory_that_grows_downwards(context):
    return len(mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x100))


@attack("nobody", fails_with=("MemoryError", "ENOMEM"))
def take_too_much_memory(context):
    return len(bytearray(3 << 30))


@attack("nobody", fails_with=("ENOMEM",))
def take_too_many_addresses(context):
    return len(mmap.mmap(-1, 1 << 40, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ))


@attack("nobody", fails_with=("ENOMEM", "MemoryError"))
def make_read_only_memory_writable(context):
    size = 3 << 30
    memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ)
    _libc.mmap.restype = ctypes.c_void_p
    address = _libc.mmap(None, ctypes.c_size_t(size), 1, 0x22, -1, ctypes.c_long(0))
    return memory, system_call((10, 226), address, size, 3)


def limiter(name, kind):
    def raise_limit(context):
        limit = getattr(resource, kind)
        _, hard = resource.getrlimit(limit)
        resource.setrlimit(limit, (hard + 1, hard + 1))
        return "raised"

    raise_limit.__name__ = name
    globals()[name] = attack("nobody", (*REFUSED, "ValueError"))(raise_limit)


for _kind in "DATA", "AS", "CPU", "FSIZE", "NOFILE", "CORE", "STACK":
    limiter(f"raise_the_limit_{_kind.lower()}", f"RLIMIT_{_kind}")


# --- the terminal -----------------------------------------------------------------------------------------------------


@attack("nobody", fails_with=("EPERM",))
def type_into_the_terminal(context):
    return fcntl.ioctl(context["terminal"], 0x5412, b"x")


@attack("nobody", fails_with=("EPERM",))
def type_into_the_terminal_with_high_bits(context):
    return system_call((16, 29), context["terminal"], (1 << 32) | 0x5412, b"x")


@attack("nobody", fails_with=("EPERM",))
def paste_into_the_console(context):
    return fcntl.ioctl(context["terminal"], 0x541C, b"\x02")


@attack("nobody", fails_with=("EPERM",))
def take_the_terminal_over(context):
    return fcntl.ioctl(context["terminal"], 0x540E, 1)
