"""What a learner's code does with good reason. Each function gets the arena's context and raises if it cannot do it."""

import _ctypes
import contextlib
import ctypes
import importlib
import linecache
import os
import random
import resource
import signal
import socket
import sys
import tempfile
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy
import torch
from torch import nn


def _fresh(name):
    """Import what nobody has imported yet, from its file."""
    for known in [known for known in sys.modules if known == name or known.startswith(f"{name}.")]:
        del sys.modules[known]
    return importlib.import_module(name)


def nothing(context):
    return None


def import_from_the_standard_library(context):
    assert "colorsys" not in sys.modules
    assert importlib.import_module("colorsys").rgb_to_hsv(0, 0, 1)[2] == 1


def import_an_extension_of_the_standard_library(context):
    for file in sorted(Path(_ctypes.__file__).parent.glob("*.so")):
        name = file.name.split(".")[0]
        if name not in sys.modules and not name.startswith("_test"):
            importlib.import_module(name)
            return
    raise AssertionError("no extension is left to try")


def import_next_to_a_hidden_folder(context):
    assert importlib.import_module("neighbour").VALUE == 42
    assert importlib.import_module("neighbour.inner").VALUE == 43
    assert importlib.import_module("single").VALUE == 44
    importlib.invalidate_caches()
    assert importlib.import_module("another").VALUE == 45
    try:
        importlib.import_module("no_such_module")
    except ModuleNotFoundError:
        return
    raise AssertionError("a module came from nowhere")


def import_random_and_linear_algebra_of_numpy(context):
    generator = _fresh("numpy.random").default_rng(0)
    assert numpy.linalg.svd(generator.standard_normal((50, 50)))[1].shape == (50,)
    assert importlib.import_module("numpy.polynomial").Polynomial([1, 2])(1) == 3


def import_parts_of_torch(context):
    importlib.import_module("torch.nn.utils.parametrize")
    importlib.import_module("torch.nn.utils.parametrizations").orthogonal(nn.Linear(4, 4))
    with importlib.import_module("torch.utils._python_dispatch").TorchDispatchMode():
        pass
    importlib.import_module("torch.func").vmap(torch.sin)(torch.ones(2))


def compute_with_torch(context):
    x = torch.randn(64, 64, requires_grad=True)
    (x @ x.T).softmax(-1).sum().backward()
    assert torch.linalg.svd(x.detach()).S.shape == (64,)
    assert torch.fft.rfft(x.detach()).shape == (64, 33)
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, dropout=0.0)
    assert layer(torch.randn(2, 5, 16)).isfinite().all()
    assert nn.Conv1d(4, 4, 3)(torch.randn(1, 4, 9)).shape == (1, 4, 7)
    half = torch.randn(32, 32, dtype=torch.bfloat16)
    assert (half @ half).isfinite().all()


def train_a_little(context):
    model = nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 1))
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(4, 8)).pow(2).mean().backward()
        optimizer.step()


def run_threads(context):
    found = []
    threads = [threading.Thread(target=lambda: found.append(torch.ones(3).sum().item())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [3.0] * 4


def compute_on_two_threads(context):
    torch.set_num_threads(2)
    x = torch.randn(700, 700)
    assert torch.allclose((x @ x)[0], x[0] @ x, atol=1e-3)
    assert (torch.rand(2_000_000) + 1).sum() > 0


def script_a_function(context):
    source = "def twice(x):\n    return x * 2\n"
    linecache.cache["<submission>"] = (len(source), None, source.splitlines(keepends=True), "<submission>")
    names = {"__name__": "submission"}
    exec(compile(source, "<submission>", "exec"), names)
    scripted = torch.jit.script(names["twice"])
    for _ in range(3):  # the profiling executor compiles on the second call
        assert scripted(torch.ones(2)).sum() == 4


def keep_time_and_draw_numbers(context):
    before = time.monotonic()
    time.sleep(0.01)
    assert time.monotonic() - before >= 0.01
    time.process_time(), time.thread_time(), time.localtime()
    assert len(os.urandom(8)) == 8
    assert 0 <= random.SystemRandom().random() < 1
    torch.seed()


def signal_itself(context):
    seen = []
    signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
    os.kill(os.getpid(), signal.SIGUSR1)
    signal.raise_signal(signal.SIGUSR1)
    assert len(seen) == 2


def throw_output_away(context):
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        print("hello")
    assert Path(os.devnull).read_text() == ""


def go_without_temporary_files(context):
    for make in tempfile.mkstemp, tempfile.mkdtemp, tempfile.gettempdir:
        try:
            make()
        except OSError:
            continue
        raise AssertionError("there is a place for temporary files")


def learn_little_about_the_machine(context):
    assert os.cpu_count() >= 1
    assert Path.cwd() == Path("/")
    assert "SECRET" not in os.environ
    assert os.environ["LANG"]
    assert not os.isatty(0) and sys.stdin is not None


def read_nothing_from_standard_input(context):
    assert os.read(0, 10) == b""


def write_to_the_terminal_in_vain(context):
    assert not os.isatty(1)
    os.write(1, b"\033[2Jhello")


def survive_running_out_of_memory(context):
    for take, error in (lambda: torch.ones(1 << 30), RuntimeError), (lambda: bytearray(4 << 30), MemoryError):
        try:
            take()
        except error:
            continue
        raise AssertionError("four gigabytes were granted")
    pieces = []
    try:
        while len(pieces) < 100:
            pieces.append(b"x" * (64 << 20))
    except MemoryError:
        count = len(pieces)
        pieces.clear()
        assert 8 <= count <= 33
        assert torch.ones(1000).sum() == 1000
        return
    raise AssertionError("memory had no end")


def use_the_memory_it_is_promised(context):
    assert torch.ones(1500 << 18).sum() > 0  # 1.5 GiB


def read_limits(context):
    assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] <= 64


def compute_without_end(context):
    while True:
        pass


def talk_over_a_connection(context):
    connection = Connection(os.dup(context["wire"]))
    connection.send_bytes(b"ping" * 10_000)
    assert connection.poll(5)
    assert connection.recv_bytes() == b"pong" * 10_000
    with socket.socket(fileno=os.dup(context["wire"])) as wire:
        assert wire.family == socket.AF_UNIX and wire.type == socket.SOCK_STREAM
        wire.settimeout(5)
        wire.sendall(b"!")
        assert wire.recv(1) == b"!"


def call_back_from_c(context):
    compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(lambda x: x + 1)
    assert compare(1) == 2
