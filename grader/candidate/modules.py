"""What a learner's module has registered, and whether it does with it what every module does."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from grader.candidate.elsewhere import Elsewhere

MAX_DEPTH = 100  # of modules in modules; one that holds itself has no end
MAX_COMPARED = 2**14  # numbers of a parameter that are compared before and after a call
_USUAL = (
    "train",
    "eval",
    "children",
    "__setattr__",
    "load_state_dict",
    "_load_from_state_dict",
    "set_extra_state",
    "get_extra_state",
)
_HOOKS = ("_load_state_dict_pre_hooks", "_load_state_dict_post_hooks")


def parameters_of(module: nn.Module) -> dict[str, Tensor]:
    """Return name → parameter, each once, as ``named_parameters`` does in five times the time."""
    return names_of(module)[0]


def names_of(module: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return name → parameter, each once, and other name → name of those that are registered in several places."""
    if type(module).named_parameters is not nn.Module.named_parameters or isinstance(module, torch.jit.ScriptModule):
        parameters: dict[str, Tensor] = dict(module.named_parameters())
        names = {id(parameter): name for name, parameter in parameters.items()}
        everywhere = module.named_parameters(remove_duplicate=False)
        return parameters, {name: names[id(p)] for name, p in everywhere if name not in parameters}
    parameters, names, aliases = {}, {}, {}
    for prefix, part in _walk(module):
        for name, parameter in part._parameters.items():
            if parameter is None:
                continue
            first = names.setdefault(id(parameter), prefix + name)
            if first == prefix + name:
                parameters[first] = parameter
            else:
                aliases[prefix + name] = first
    return parameters, aliases


def saved_buffers(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return name → shape of the buffers that ``state_dict`` holds."""
    return {
        prefix + name: tuple(buffer.shape)
        for prefix, part in _walk(module)
        for name, buffer in part._buffers.items()
        if buffer is not None and name not in part._non_persistent_buffers_set
    }


def is_usual(module: nn.Module) -> bool:
    """Say whether switching to training and loading a state do what they do in PyTorch, and no more."""
    return all(
        all(str(getattr(type(part), name).__module__).startswith("torch.nn.") for name in _USUAL)
        and not any(name in vars(part) for name in _USUAL)
        and not any(getattr(part, hooks) for hooks in _HOOKS)
        and not hasattr(type(part), "training")  # a property may do more than keep a bool
        for _, part in _walk(module)
    )


def marks(parameters: dict[str, Tensor]) -> list[tuple[str, int, int, bool, bytes | int]]:
    """Return what shows that a parameter was exchanged, frozen or written into."""
    return [
        (name, id(p), 0 if p.is_inference() else p._version, p.requires_grad, _numbers(p))
        for name, p in parameters.items()
    ]


def _numbers(parameter: Tensor) -> bytes | int:
    """Return a small parameter's numbers: of what is written through ``.data``, no version tells. Else their place."""
    if type(parameter) is not nn.Parameter or not parameter.is_cpu or parameter.layout is not torch.strided:
        return 0
    if parameter.numel() > MAX_COMPARED or not parameter.is_contiguous():
        return parameter.data_ptr()
    return ctypes.string_at(parameter.data_ptr(), parameter.numel() * parameter.element_size())


def values(parameter: Tensor) -> Tensor:
    """Return the parameter without its graph.

    (Outside of the listening modes, ``detach`` of a stand-in makes torch import its distributed part and sympy.)
    """
    if isinstance(parameter, Elsewhere):
        return torch.empty(parameter.shape, dtype=parameter.dtype, device="meta")
    return parameter.detach()


def _walk(module: nn.Module, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, nn.Module]]:
    if depth > MAX_DEPTH:
        raise RecursionError("a module that holds itself")
    yield prefix, module
    for name, part in module._modules.items():
        if part is not None:
            yield from _walk(part, f"{prefix}{name}.", depth + 1)
