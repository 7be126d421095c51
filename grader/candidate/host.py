"""Answers calls on the learner's code: loads the file, keeps its modules and graphs, reports what happened.

Requests and replies are the plain messages of ``grader.candidate.wire``. A request may bring others that come
``first``; of these nothing is told but an error, with the place of the one that ``failed``. A reply holds ``value`` or
``error``, and ``changed`` counts the inputs that were changed in place. The same answers are the same bytes, whoever
gives them.
"""

from __future__ import annotations

import linecache
import random
import sys
from collections.abc import Callable, Iterator
from types import FunctionType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from grader.candidate.elsewhere import DEVICE, elsewhere
from grader.candidate.mistakes import MAX_TEXT, describe_error
from grader.candidate.modules import is_usual, marks, names_of, parameters_of, saved_buffers, values
from grader.candidate.plain import plain
from grader.candidate.trace import Log, Watch, watch_new_threads
from grader.candidate.wire import ModuleRef, WireError, pack, unpack, unpack_in_place

_MODULE_NAMES = frozenset(dir(nn.Module))
_same = torch.equal  # kept from before the learner's file is loaded


class Host:
    """The learner's side of the conversation.

    Args:
        namespace: The learner's code when it is loaded already (an author's variant); otherwise ``load`` brings it.
        file: Name under which the source is compiled.
    """

    def __init__(self, namespace: ModuleType | None = None, file: str = "<submission>") -> None:
        self._namespace = namespace
        self._watch = Watch(file)
        self._file = file
        self._modules: list[nn.Module] = []
        self._graphs: dict[int, tuple[list[Tensor], list[Tensor], dict[str, Tensor]]] = {}
        self._device: torch.device | None = None
        self._elsewhere = False  # whether anything of this check lies on another device
        self._arrived: tuple[bytes, bytearray] = b"", bytearray()

    def watch_new_threads(self) -> None:
        """Listen to threads that the learner's code starts, too; for a process that is the learner's alone."""
        watch_new_threads(self._watch)

    def answer(self, frame: bytes) -> bytes:
        """Return the reply to one request, whatever the learner's code does short of ending the process."""
        reply: dict[str, Any] = {}
        failed = None
        try:
            request, memory = unpack_in_place(frame, trusted=True)
            self._arrived = frame, memory
            for failed, earlier in enumerate(request.pop("first", ())):  # noqa: B007 (that of the one that raises)
                self._do(earlier)
            failed = None
            reply = self._do(request)
        except BaseException as error:  # SystemExit and KeyboardInterrupt of the learner's code too
            reply = {"error": describe_error(error, self._file), "failed": failed}
        try:
            return pack(reply, module_ref=self._number)
        except (WireError, RuntimeError, ValueError, RecursionError, MemoryError) as error:
            text = str(error) if isinstance(error, WireError) else f"the result cannot be handed over: {error}"
            described: dict[str, Any] = {"type": "WireError", "bases": [], "message": text[:MAX_TEXT], "line": None}
            return pack({"error": described})

    def news(self) -> bytes:
        """Return a frame that names what ran for the first time since the last one, and the lines that led there."""
        news = self._watch.news()
        return pack({"ran": news}) if news else b""

    def _do(self, request: dict[str, Any]) -> dict[str, Any]:
        self._watch.closely = request.pop("closely", True) or self._elsewhere
        handler: Callable[..., dict[str, Any]] = getattr(self, f"_on_{request.pop('op')}")
        return handler(**request)

    # --- requests ----------------------------------------------------------------------------------------------------

    def _on_load(self, source: str) -> dict[str, Any]:
        """Run the learner's file; the reply names what it defines."""
        lines = source.splitlines(keepends=True)
        linecache.cache[self._file] = (len(source), None, lines, self._file)  # tracebacks, inspect, TorchScript
        module = ModuleType("submission")
        module.__file__ = self._file
        sys.modules["submission"] = module
        code = compile(source, self._file, "exec", dont_inherit=True)
        with self._watch:
            exec(code, module.__dict__)  # noqa: S102 (running the learner's file is the purpose of this process)
        self._namespace = module
        return {"value": self._kinds()}

    def _on_reset(self, seed: int) -> dict[str, Any]:
        """Forget modules, graphs and traces, and seed the generators: a new check begins."""
        self._modules.clear()
        self._graphs.clear()
        self._device = None
        self._elsewhere = False
        self._watch.log = None
        torch.default_generator.manual_seed(seed)  # torch.manual_seed formats a stack for accelerators not there
        random.seed(seed)
        if "numpy.random" in sys.modules:
            sys.modules["numpy.random"].seed(seed % 2**32)
        return {"value": self._kinds()}

    def _on_call(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], grad: bool, number: int, owner: int | None
    ) -> dict[str, Any]:
        """Call a function or class of the file, or (with ``owner``) a method of a module."""
        args, kwargs = self._place((args, kwargs), {})
        self._watch.closely |= self._elsewhere
        inputs = list(_tensors((args, kwargs)))
        before = [_form(tensor) for tensor in inputs]
        leaves = [tensor for tensor in inputs if tensor.requires_grad]
        module = None if owner is None else self._modules[owner]
        target = getattr(self._namespace, name) if module is None else getattr(module, name)
        held = {} if module is None else parameters_of(module)  # for as long as the call takes, so that ids stay theirs
        before_call = marks(held)
        value = self._run(target, args, kwargs, grad)
        parameters: dict[str, Tensor] = {}
        if module is not None:
            with self._watch:  # named_parameters may be the learner's own
                parameters = parameters_of(module)
        outputs = list(_tensors(value))
        if any(tensor.requires_grad for tensor in outputs):
            self._graphs[number] = (outputs, leaves, parameters)
        changed = self._changed(inputs, before)
        reply: dict[str, Any] = {"value": value}
        if changed:
            reply["changed"] = changed
        if isinstance(value, nn.Module):
            reply["module"] = self._describe(value)
        elif module is not None:
            reply["same"] = marks(parameters) == before_call
        return reply

    def _on_vjp(self, number: int, gradients: tuple[Tensor | None, ...]) -> dict[str, Any]:
        """Send gradients of a call's outputs back to its inputs and to its module's parameters."""
        outputs, leaves, parameters = self._graphs[number]
        wanted = {name: p for name, p in parameters.items() if p.requires_grad}
        with torch.enable_grad(), self._watch:
            total = _dot([(out, g) for out, g in zip(outputs, gradients, strict=True) if g is not None])
            # The graph is freed, as `backward` does it: one that a learner keeps for the next call must show.
            found = torch.autograd.grad(total, [*leaves, *wanted.values()], allow_unused=True)
        grads = dict(zip(wanted, found[len(leaves) :], strict=True))
        return {"value": {"inputs": list(found[: len(leaves)]), "parameters": grads}}

    def _on_describe(self, owner: int) -> dict[str, Any]:
        return {"value": self._describe(self._modules[owner])}

    def _on_method(self, owner: int, name: str) -> dict[str, Any]:
        """Say whether a module has a method of that name which not every module has."""
        return {"value": name not in _MODULE_NAMES and callable(getattr(type(self._modules[owner]), name, None))}

    def _on_state(self, owner: int) -> dict[str, Any]:
        return {"value": dict(self._modules[owner].state_dict())}

    def _on_buffers(self, owner: int) -> dict[str, Any]:
        return {"value": dict(self._modules[owner].named_buffers())}

    def _on_load_state(self, owner: int, state: dict[str, Tensor], strict: bool) -> dict[str, Any]:
        self._modules[owner].load_state_dict(state, strict=strict)
        return {"value": None}

    def _on_train(self, owner: int, mode: bool) -> dict[str, Any]:
        with self._watch:
            self._modules[owner].train(mode)
        return {"value": None}

    def _on_set(self, owner: int, values: dict[str, Tensor]) -> dict[str, Any]:
        """Carry over what the suite wrote into parameters."""
        parameters = parameters_of(self._modules[owner])
        with torch.no_grad():
            for name, value in values.items():
                parameters[name].copy_(value)
        return {"value": None}

    def _on_device(self, device: torch.device | None) -> dict[str, Any]:
        self._device = device
        self._elsewhere |= device is not None
        return {"value": None}

    def _on_trace(self, on: bool) -> dict[str, Any]:
        """Begin a log, or end it and return it."""
        log, self._watch.log = self._watch.log, Log() if on else None
        if on or log is None:
            return {"value": None}
        ops = [f"{name}|{_text(inputs)}|{_text(outputs)}" for name, inputs, outputs in log.ops]
        return {"value": {"ops": ops, "functions": log.functions, "largest": log.largest, "mixed": log.mixed}}

    # --- parts -------------------------------------------------------------------------------------------------------

    def _place(self, value: Any, known: dict[int, Tensor]) -> Any:
        """Put modules where their numbers stand, and stand-ins for true meta tensors, one for each."""
        if isinstance(value, Tensor):
            if value.is_meta:
                self._elsewhere = True
                return known.setdefault(id(value), elsewhere(value))
            return value
        if isinstance(value, (str, torch.device)) and str(value) == str(DEVICE):
            self._elsewhere = True
        if isinstance(value, ModuleRef):
            return self._modules[value.number]
        if isinstance(value, (list, tuple)):
            return type(value)(self._place(item, known) for item in value)
        if isinstance(value, dict):
            return {key: self._place(item, known) for key, item in value.items()}
        return value

    def _changed(self, inputs: list[Tensor], before: list[Any]) -> list[int]:
        """Return which inputs of the call at hand were changed in place: form, place, or numbers."""
        changed = [i for i, (tensor, old) in enumerate(zip(inputs, before, strict=True)) if _form(tensor) != old]
        frame, memory = self._arrived
        if memory != memoryview(frame)[len(frame) - len(memory) :]:
            request = unpack(frame, trusted=True)
            originals = list(_tensors((request["args"], request["kwargs"])))
            changed += [i for i, (a, b) in enumerate(zip(inputs, originals, strict=True)) if not _equal(a, b)]
        return sorted(set(changed))

    def _run(self, target: Callable[..., Any], args: Any, kwargs: Any, grad: bool) -> Any:
        before = torch.is_grad_enabled()
        if self._device is not None:
            torch.set_default_device(self._device)
        try:
            if torch.is_grad_enabled() is not grad:
                torch.set_grad_enabled(grad)
            with self._watch:
                return plain(target(*args, **kwargs))
        finally:
            if torch.is_grad_enabled() is not before:
                torch.set_grad_enabled(before)
            if torch.get_default_device().type != "cpu":  # a learner's code may have set one, too
                torch.set_default_device(None)

    def _kinds(self) -> dict[str, str]:
        """Return name → ``class``, ``function``, ``value`` or ``import`` for what the file defines."""
        kinds, home = {}, getattr(self._namespace, "__name__", "")
        for name, value in vars(self._namespace).items():
            if not name.startswith("__") and not isinstance(value, ModuleType):
                kinds[name] = "class" if isinstance(value, type) else "function" if callable(value) else "value"
                if isinstance(value, (type, FunctionType)) and value.__module__ != home:
                    kinds[name] = "import"
        return kinds

    def _number(self, module: nn.Module) -> int:
        for number, known in enumerate(self._modules):
            if known is module:
                return number
        self._modules.append(module)
        return len(self._modules) - 1

    def _describe(self, module: nn.Module) -> dict[str, Any]:
        parameters, aliases = names_of(module)
        return {
            "number": ModuleRef(self._number(module)),
            "training": module.training,
            "parameters": {name: values(parameter) for name, parameter in parameters.items()},
            "aliases": aliases,
            "frozen": [name for name, parameter in parameters.items() if not parameter.requires_grad],
            "buffers": saved_buffers(module),
            "usual": is_usual(module),
        }


def _dot(pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Return the real number whose gradient with respect to each output is what was fed back to it.

    (Handing the gradients to ``torch.autograd.grad`` says the same, but makes torch import sympy first.)
    """
    total = torch.zeros(())
    for out, gradient in pairs:
        if out.requires_grad:
            a, b = (torch.view_as_real(t) if t.is_complex() else t for t in (out, gradient.to(out.dtype)))
            total = total.to(a.device) + (a * b).sum()
    return total


def _text(shapes: list[tuple[int, ...]]) -> str:
    """Return shapes as ``"2,3;;"``: two of them, the second that of a number."""
    return "".join(",".join(map(str, shape)) + ";" for shape in shapes)


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield every tensor in ``value`` once, in the order in which it crosses the wire."""
    seen: set[int] = set()
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, Tensor):
            if id(item) not in seen:
                seen.add(id(item))
                yield item
        elif isinstance(item, (list, tuple)):
            stack.extend(reversed(item))
        elif isinstance(item, dict):
            stack.extend(reversed(list(item.values())))


def _form(tensor: Tensor) -> tuple[torch.Size, tuple[int, ...], int]:
    """Return shape, strides and place of a tensor's numbers."""
    return tensor.shape, tensor.stride(), 0 if tensor.is_meta else tensor.data_ptr()


def _equal(tensor: Tensor, other: Tensor) -> bool:
    """Compare two tensors of one shape; NaN equals itself here."""
    if tensor.is_meta:
        return True
    a, b = tensor.detach(), other.detach()
    if a.shape != b.shape:
        return False
    return _same(a, b) or bool(((a == b) | (a.isnan() & b.isnan())).all())
