"""Sends a reply of its own before each real one."""

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


def halve(x):
    write(frame(plain(value=None, changed={"t": "list", "v": []}, ran={"t": "dict", "v": []})))
    return torch.zeros_like(x)


def double(x):
    shape = list(x.shape)
    reply = plain(value={"t": "tensor", "v": 0}, changed={"t": "list", "v": []}, id=0)
    write(frame(reply, [{"dtype": "F32", "shape": shape, "grad": False}], {"0": torch.zeros(shape)}))
    return torch.zeros_like(x)
