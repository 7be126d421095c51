"""Listens to what runs: which functions of PyTorch, which operators, on which shapes and devices.

Two ears, because each misses something that the other hears: a function mode sees ``F.layer_norm`` as it is written, a
dispatch mode sees the operators below it, and those that TorchScript runs. The second takes several times as long as a
small operator itself. So it listens to the first use of every function, and for the rest only when it is told to.
"""

from __future__ import annotations

import _thread
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from grader.candidate.elsewhere import DEVICE, Elsewhere, concerns, run

MAX_OPS = 20_000  # kept in one trace; a check that needs more than that asks for too much
_MOVES = {"aten::copy_", "aten::_to_copy", "aten::_copy_from", "aten::set_"}  # may join two devices
_INDEXING = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_unsafe_index", "aten::_index_put_impl_"}


@dataclass
class Log:
    """What ran between ``start`` and ``stop``."""

    ops: list[tuple[str, list[tuple[int, ...]], list[tuple[int, ...]]]] = field(default_factory=list)
    functions: list[str] = field(default_factory=list)
    largest: int = 0
    mixed: list[str] = field(default_factory=list)


class Watch:
    """Listens while the learner's code runs: always to names, and to everything else while a log is open.

    Args:
        file: The name under which the learner's source was compiled; lines are looked up in it.

    Attributes:
        log: What is written down, while it is.
        closely: Whether operators are to be listened to as well. They always are where a log is open.
        both: Whether they are being listened to.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self.log: Log | None = None
        self.closely = True
        self.operators = _Operators(self)
        self.both = True
        self._ran: dict[str, int | None] = {}
        self._told: set[str] = set()
        self._functions = _Functions(self)

    def __enter__(self) -> Watch:
        self.both = self.closely or self.log is not None
        self._functions.__enter__()  # type: ignore[no-untyped-call]
        if self.both:
            self.operators.__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        if self.both:
            self.operators.__exit__(*error)  # type: ignore[no-untyped-call]
        self._functions.__exit__(*error)  # type: ignore[no-untyped-call]

    def news(self) -> dict[str, int | None]:
        """Return name → line of everything that ran for the first time since the last call."""
        if len(self._ran) == len(self._told):
            return {}
        fresh = {name: line for name, line in self._ran.items() if name not in self._told}
        self._told.update(fresh)
        return fresh

    def heard(self, name: str) -> None:
        """Remember that ``name`` ran, and the learner's line that led there."""
        if name not in self._ran:
            self._ran[name] = self._line()

    def _line(self) -> int | None:
        frame = sys._getframe(2)
        while frame is not None:
            if frame.f_code.co_filename == self.file:
                return frame.f_lineno
            frame = frame.f_back  # type: ignore[assignment]
        return None


_MAKERS = frozenset((torch.tensor, torch.as_tensor, torch.asarray))  # of tensors from Python's numbers
_READERS = frozenset((Tensor.tolist,))  # which torch refuses for every subclass


class _Functions(TorchFunctionMode):
    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch
        self._names: dict[Any, str] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = self._names.get(func)
        if name is None:
            name = self._names[func] = _name_of(func)
            self._watch.heard(name)
            if not self._watch.both:
                with self._watch.operators:
                    return self._run(func, args, kwargs or {})
        if self._watch.log is not None and len(self._watch.log.functions) < MAX_OPS:
            self._watch.log.functions.append(name)
        if func in _MAKERS or func in _READERS:
            return self._run(func, args, kwargs or {})
        return func(*args, **kwargs) if kwargs else func(*args)

    def _run(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        if func in _READERS and isinstance(args[0], Elsewhere):
            return args[0].inside.tolist()
        if func in _MAKERS and concerns((), kwargs) and not isinstance(args[0], Tensor):
            return func(*args, **{**kwargs, "device": "cpu"}).to(DEVICE)  # torch alone would drop the numbers
        return func(*args, **kwargs)


def watch_new_threads(watch: Watch) -> None:
    """Listen to every thread that starts from now on as well; PyTorch's modes hold for one thread alone."""

    def watched(start: Callable[..., Any]) -> Callable[..., Any]:
        def start_watched(function: Callable[..., object], *args: Any, **kwargs: Any) -> Any:
            def run(*args: Any, **kwargs: Any) -> None:
                with _Functions(watch), _Operators(watch):
                    function(*args, **kwargs)

            return start(run, *args, **kwargs)

        return start_watched

    for module in _thread, threading:
        for name in "start_new_thread", "_start_new_thread", "start_joinable_thread", "_start_joinable_thread":
            if hasattr(module, name):
                setattr(module, name, watched(getattr(module, name)))


def _name_of(func: Any) -> str:
    name = str(getattr(func, "__qualname__", None) or getattr(func, "__name__", func))
    module = getattr(func, "__module__", None)
    if name.startswith(("TensorBase.", "_TensorBase.", "Tensor.")):
        return "torch.Tensor." + name.split(".", 1)[1]
    return f"{module or 'torch'}.{name}"


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, watch: Watch) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._watch = watch

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # True makes torch import its compiler at the first operator, which takes a second

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        self._watch.heard(name)
        kwargs = kwargs or {}
        result = run(func, args, kwargs) if concerns(types, kwargs) else func(*args, **kwargs)
        if self._watch.log is not None:
            _write(self._watch.log, name, list(_tensors((args, kwargs))), list(_tensors(result)))
        return result


def _write(log: Log, name: str, inputs: list[Tensor], outputs: list[Tensor]) -> None:
    if len(log.ops) < MAX_OPS:
        log.ops.append((name, [tuple(t.shape) for t in inputs], [tuple(t.shape) for t in outputs]))
    log.largest = max([log.largest, *(t.numel() for t in outputs)])
    if name not in _MOVES and _devices_clash(name, inputs):
        log.mixed.append(name)


def _devices_clash(name: str, inputs: Sequence[Tensor]) -> bool:
    """Say whether this would fail on an accelerator: two devices, where the CPU's part is more than a single number.

    An index on the CPU may pick from a tensor elsewhere, but not the other way round.
    """
    places = [t.device.type for t in inputs if t.dim() > 0 or t.device.type != "cpu"]
    if name in _INDEXING and inputs:
        return inputs[0].device.type == "cpu" and inputs[0].dim() > 0 and any(place != "cpu" for place in places[1:])
    return len(set(places)) > 1


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)


def warm_up(call: Callable[[], object] | None = None) -> None:
    """Run a few operators under both ears, so that a process forked later does not pay for their first use."""
    with Watch("<warm-up>"), torch.no_grad():
        x = torch.ones(2, 2)
        (x @ x).softmax(-1).sum().item()
        if call is not None:
            call()
