"""Says while it is loaded that it could not be loaded, in a way that is no error."""

import json
import os
import stat
import struct

import safetensors.torch
import torch


def frame(message, tensors=(), data=None):
    header = json.dumps({"tensors": list(tensors), "message": message}).encode()
    body = safetensors.torch.save(data) if data else b""
    return struct.pack("<II", len(header) + len(body) + 4, len(header)) + header + body


def plain(**fields):
    return {"t": "dict", "v": [list(pair) for pair in fields.items()]}


def write(data):
    for fd in range(3, 64):
        try:
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                os.write(fd, data)
        except OSError:
            pass


write(frame(plain(error=5)))
write(frame(plain(error={"t": "list", "v": []})))
write(frame({"t": "list", "v": []}))


def double(x):
    return torch.zeros_like(x)


def halve(x):
    return torch.zeros_like(x)
