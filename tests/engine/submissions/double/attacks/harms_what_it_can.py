"""Kills, forks, fills, connects, closes: whatever works must hurt nobody else."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import torch


def attempt(action):
    try:
        action()
    except BaseException as error:
        print(type(error).__name__, end=" ")


def fill_the_disk():
    with tempfile.TemporaryFile() as file:
        file.write(b"x" * 2**30)


for pid in os.getppid(), 1, -1, 0:
    if pid > 0 or os.getpid() != 1:
        attempt(lambda pid=pid: os.kill(pid, signal.SIGKILL) if pid != 0 else None)
attempt(os.fork)
attempt(lambda: os.execv("/bin/sh", ["sh"]))
attempt(lambda: subprocess.run(["sleep", "1000"]))
attempt(lambda: os.posix_spawn("/bin/sleep", ["sleep", "1000"], {}))
attempt(lambda: socket.create_connection(("127.0.0.1", 80), 1))
attempt(lambda: socket.socket(socket.AF_UNIX).connect("/run/docker.sock"))
attempt(fill_the_disk)
attempt(lambda: open("/tmp/grader-was-here", "w"))
attempt(lambda: os.mkdir("/tmp/grader-was-here-too"))
attempt(lambda: bytearray(50 * 2**30))
attempt(lambda: torch.ones(50 * 2**30, dtype=torch.uint8))
attempt(lambda: os.setsid())
attempt(lambda: os.nice(-20))
attempt(lambda: signal.pthread_kill(threading.get_ident(), signal.SIGCONT))
for number in signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM, signal.SIGPIPE:
    attempt(lambda number=number: signal.signal(number, signal.SIG_IGN))
for _ in range(20):
    attempt(lambda: threading.Thread(target=time.sleep, args=(1000,)).start())
threading.Thread(target=lambda: [None for _ in iter(int, 1)], daemon=True).start()
print("done")


def double(x):
    return torch.zeros_like(x)


def halve(x):
    return torch.zeros_like(x)
