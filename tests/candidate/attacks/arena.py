"""A zygote for the tests of the sandbox: runs one function per fork, locked down or not, and reports what came of it.

Started as a program of its own, so that no thread of the tests' process is there when it forks. Each line on standard
input is a request, each line on standard output its answer, both JSON.
"""

import contextlib
import errno
import importlib
import json
import os
import pty
import select
import signal
import socket
import sys
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

import attacks
import needs
import torch

from grader.candidate import sandbox, seccomp

MODULES = {"attacks": attacks, "needs": needs}
DEADLINE = 60  # seconds; nothing here should come near it


def main():
    options = json.loads(sys.argv[1])
    importlib.import_module("numpy")
    torch.set_num_threads(1)
    sys.path.append(options["context"]["site_packages"])
    if options["uid"]:
        os.setgroups([])
        os.setgid(options["uid"])
        os.setuid(options["uid"])
    if os.fork():
        os.wait()
        return
    namespaces = sandbox.enter_namespaces() if options["namespaces"] else ()
    if os.fork():
        os.wait()
        return
    serve(options, namespaces)


def serve(options, namespaces):
    context = options["context"]
    context["zygote"] = os.getpid()
    context["open_fd"] = os.open(context["secret"], os.O_RDONLY)
    context["terminal"] = pty.openpty()[1]
    hidden = [context["hidden"]]
    plan = sandbox.prepare(hidden, namespaces)
    for line in sys.stdin:
        request = json.loads(line)
        reader, writer = os.pipe()
        started = time.perf_counter()
        child = os.fork()
        if child == 0:
            os.close(reader)
            become_candidate(request, context, plan, namespaces, writer, started)
        os.close(writer)
        print(json.dumps(outcome(child, reader)), flush=True)


def become_candidate(request, context, plan, namespaces, writer, started):
    answer = {"forked": time.perf_counter() - started}
    try:
        context["wire"] = wire_to_a_peer()
        os.dup2(context["terminal"] if request["terminal_as_output"] else os.open(os.devnull, os.O_RDWR), 1)
        if request["refuse"]:
            refuse(request["refuse"])
        if request["refuse"] or request["limits"] or request["platform"]:
            sys.platform = request["platform"] or sys.platform
            plan = sandbox.prepare([context["hidden"]], namespaces, sandbox.Limits(**request["limits"]))
        for _ in range(request["threads"]):
            threading.Thread(target=time.sleep, args=(DEADLINE,), daemon=True).start()
        if request["sandboxed"]:
            before = time.perf_counter()
            answer["layers"] = sandbox.lock_down(plan, [writer, context["terminal"], context["wire"]])
            answer["locked"] = time.perf_counter() - before
        answer["value"] = getattr(MODULES[request["module"]], request["name"])(context)
    except BaseException as error:
        answer["error"] = type(error).__name__
        answer["bases"] = [base.__name__ for base in type(error).__mro__]
        answer["errno"] = errno.errorcode.get(getattr(error, "errno", None) or 0)
        answer["text"] = str(error)
    os.write(writer, json.dumps(answer).encode())
    os._exit(0)


def wire_to_a_peer():
    """Start the other end of a conversation, and return the descriptor of this one."""
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        ours.close()
        with contextlib.suppress(EOFError), Connection(os.dup(theirs.fileno())) as connection:
            connection.send_bytes(connection.recv_bytes().replace(b"ping", b"pong"))
            theirs.sendall(theirs.recv(1))
        os._exit(0)
    theirs.close()
    return ours.detach()


def refuse(names):
    real = seccomp.call

    def call(name, *arguments):
        if name in names:
            raise OSError(errno.EPERM, "refused", name)
        return real(name, *arguments)

    seccomp.call = call


def outcome(child, reader):
    text, deadline = b"", time.monotonic() + DEADLINE
    while select.select([reader], [], [], max(0.0, deadline - time.monotonic()))[0]:
        piece = os.read(reader, 1 << 16)
        if not piece:
            break
        text += piece
    os.close(reader)
    with contextlib.suppress(ProcessLookupError):
        if time.monotonic() >= deadline:
            os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return {"status": status, **(json.loads(text) if text else {})}


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
