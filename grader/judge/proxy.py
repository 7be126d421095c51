"""Functions, modules and parameters of the learner's as if they were here, across a ``Session``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from grader.candidate.wire import ModuleRef, Opaque
from grader.judge.comparing import describe
from grader.judge.gradients import connect, detach, tensors_in
from grader.judge.session import CandidateError, Session
from grader.judge.suite import CheckFailure


class RemoteCallable:
    """A function or class of the learner's file, or a method of one of its modules."""

    def __init__(self, session: Session, name: str, owner: RemoteModule | None = None, is_class: bool = False) -> None:
        self._session = session
        self._name = name
        self._owner = owner
        self._is_class = is_class

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it over there; tensors that require a gradient stay connected."""
        session, owner = self._session, self._owner
        modules = [] if owner is None else [owner]
        plain_args, plain_kwargs = _plain(args, modules), _plain(kwargs, modules)
        for module in modules:
            module._push()
        grad = torch.is_grad_enabled()
        session.calls += 1
        number = session.calls
        reply = self._ask(
            name=self._name,
            args=plain_args,
            kwargs=plain_kwargs,
            grad=grad,
            number=number,
            owner=None if owner is None else owner._number,
            closely=session.closely(),
        )
        inputs = list(tensors_in((args, kwargs)))
        for index in reply.get("changed", ()):
            shape = tuple(inputs[index].shape) if isinstance(index, int) and index < len(inputs) else "?"
            session.changed.append(f"`{self._name}` changed an input of shape {shape} in place")
        value = reply["value"]
        if isinstance(value, ModuleRef):
            return self._module(value, reply)
        if self._is_class and isinstance(value, Opaque):
            raise CheckFailure(f"`{self._name}(...)` should make an nn.Module, but {describe(value)} came.")
        for module in modules:
            if module is not owner or not reply.get("same"):
                module._refresh()
        value = self._with_modules(value)
        if not grad:
            return detach(value)
        leaves = [tensor for tensor in inputs if tensor.requires_grad]
        return connect(session, number, value, leaves, {} if owner is None else owner._parameters)

    def _ask(self, **fields: Any) -> dict[str, Any]:
        try:
            reply: dict[str, Any] = self._session.ask("call", **fields)
        except CandidateError as error:
            error.call = error.call or self._name
            raise
        return reply

    def _with_modules(self, value: Any) -> Any:
        """Let modules stand in tuples, lists and dicts, too."""
        if isinstance(value, ModuleRef):
            return RemoteModule(self._session, self._session.ask("describe", owner=value.number)["value"])
        if isinstance(value, (list, tuple)):
            return type(value)(self._with_modules(item) for item in value)
        if isinstance(value, dict):
            return {key: self._with_modules(item) for key, item in value.items()}
        return value

    def _module(self, ref: ModuleRef, reply: Mapping[str, Any]) -> RemoteModule:
        if self._owner is not None and self._owner._number == ref.number:
            self._owner._take(reply["module"])
            return self._owner
        return RemoteModule(self._session, reply["module"])


class RemoteModule:
    """An ``nn.Module`` of the learner's.

    Its parameters are tensors of the judge's own: gradients arrive in them, and what a suite writes into them in place
    is carried over before the next call.
    """

    def __init__(self, session: Session, description: Mapping[str, Any]) -> None:
        self._session = session
        self._number: int = description["number"].number
        self._parameters: dict[str, nn.Parameter] = {}
        self._versions: dict[str, int] = {}
        self._usual = False
        self._take(description)

    # --- what a suite uses -------------------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run ``forward``."""
        return RemoteCallable(self._session, "__call__", self)(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return _View(self, "").find(name)

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield names and parameters, as registered."""
        yield from self._parameters.items()

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters."""
        yield from self._parameters.values()

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """Yield names and present values of all buffers, persistent or not."""
        yield from self._session.ask("buffers", owner=self._number)["value"].items()

    def state_dict(self) -> dict[str, Tensor]:
        """Return the present state."""
        self._push()
        state: dict[str, Tensor] = self._session.ask("state", owner=self._number)["value"]
        return {name: value for name, value in state.items() if isinstance(value, Tensor)}

    def load_state_dict(self, state: Mapping[str, Tensor], strict: bool = True) -> None:
        """Load a state.

        Raises:
            CheckFailure: If names or shapes do not fit.
        """
        if self._fits(state):
            values = {name: value.detach().clone() for name, value in state.items()}  # as they are now
            self._session.tell("load_state", self._error_in("load_state_dict"), **self._state(values, strict))
            for name, parameter in self._parameters.items():
                parameter.data = values[name].to(parameter.dtype, copy=True).contiguous()
            self._versions = {name: parameter._version for name, parameter in self._parameters.items()}
            return
        self._push()
        values = {name: value.detach() for name, value in state.items()}
        try:
            self._session.ask("load_state", **self._state(values, strict))
        except CandidateError as error:
            failure = CheckFailure(self._misfit(values, str(error)))
            failure.type_name = error.type_name  # a probe should see what it sees of a module that lies here
            raise failure from None
        self._refresh()

    def to(self, *args: Any, **kwargs: Any) -> RemoteModule:
        """Move or convert the module in place."""
        return self._convert("to", *args, **kwargs)

    def double(self) -> RemoteModule:
        """Convert to float64."""
        return self._convert("double")

    def float(self) -> RemoteModule:
        """Convert to float32."""
        return self._convert("float")

    def bfloat16(self) -> RemoteModule:
        """Convert to bfloat16."""
        return self._convert("bfloat16")

    def train(self, mode: bool = True) -> RemoteModule:
        """Switch to training, or with ``False`` to evaluation."""
        if not self._usual:
            return self._convert("train", mode)
        self._session.tell("train", self._error_in("train"), owner=self._number, mode=mode)
        self.training = mode
        return self

    def eval(self) -> RemoteModule:
        """Switch to evaluation."""
        return self.train(False) if self._usual else self._convert("eval")

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self._parameters.values():
            parameter.grad = None

    # --- keeping both sides alike ------------------------------------------------------------------------------------

    def _convert(self, method: str, *args: Any, **kwargs: Any) -> RemoteModule:
        if RemoteCallable(self._session, method, self)(*args, **kwargs) is not self:  # else it came with its state
            self._refresh()
        return self

    def _fits(self, state: Mapping[str, Tensor]) -> bool:
        """Say whether a state can be loaded for sure, so that nothing need be heard of it."""
        if not self._usual or self._aliases:
            return False
        have = {name: tuple(parameter.shape) for name, parameter in self._parameters.items()} | self._buffers
        return state.keys() == have.keys() and all(
            value.is_cpu and tuple(value.shape) == have[name] and not value.is_complex()
            for name, value in state.items()
        )

    def _state(self, values: Mapping[str, Tensor], strict: bool) -> dict[str, Any]:
        return {"owner": self._number, "state": values, "strict": strict}

    def _error_in(self, method: str) -> Callable[[CandidateError], Exception]:
        def explain(error: CandidateError) -> Exception:
            error.call = method
            return error

        return explain

    def _push(self) -> None:
        """Carry over parameters that a suite wrote into."""
        written = {n: p.detach().clone() for n, p in self._parameters.items() if p._version != self._versions[n]}
        if written:
            self._session.tell("set", owner=self._number, values=written)
            self._versions |= {name: self._parameters[name]._version for name in written}

    def _refresh(self) -> None:
        self._take(self._session.ask("describe", owner=self._number)["value"])

    def _take(self, description: Mapping[str, Any]) -> None:
        """Take over names, values and flags; a parameter that stays keeps its identity and its gradient."""
        frozen = set(description["frozen"])
        known, self._parameters = self._parameters, {}
        for name, value in description["parameters"].items():
            parameter = known.get(name)
            if parameter is None or parameter.device != value.device or parameter.shape != value.shape:
                parameter = nn.Parameter(value, requires_grad=name not in frozen)
            else:
                parameter.data = value
                parameter.requires_grad_(name not in frozen)
            self._parameters[name] = parameter
        self._versions = {name: parameter._version for name, parameter in self._parameters.items()}
        self._aliases = dict(description["aliases"])
        self.training = bool(description["training"])
        self._buffers = {str(name): tuple(shape) for name, shape in description["buffers"].items()}
        self._usual = description["usual"] is True and all(p.is_cpu for p in self._parameters.values())

    def _misfit(self, state: Mapping[str, Tensor], message: str) -> str:
        wanted = {name: tuple(value.shape) for name, value in state.items()}
        have = {name: tuple(value.shape) for name, value in self.state_dict().items()}
        parts = []
        if missing := [name for name in wanted if name not in have]:
            parts.append("missing: " + ", ".join(f"{name} {wanted[name]}" for name in missing))
        if extra := [name for name in have if name not in wanted]:
            parts.append("not asked for: " + ", ".join(extra))
        parts += [
            f"{n}: shape {wanted[n]} is asked for, {have[n]} came"
            for n in wanted
            if have.get(n, wanted[n]) != wanted[n]
        ]
        return "The weights do not load. " + ("; ".join(parts) or message) + ". Names and shapes stand in the brief."


class _View:
    """A dotted path into a module: ``module.wq`` on the way to ``module.wq.weight``."""

    def __init__(self, module: RemoteModule, prefix: str) -> None:
        self._module = module
        self._prefix = prefix

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self.find(name)

    def find(self, name: str) -> Any:
        """Return the parameter, buffer, method or deeper path of that name."""
        module, path = self._module, self._prefix + name
        known = module._aliases.get(path, path)
        if known in module._parameters:
            return module._parameters[known]
        if any(known.startswith(path + ".") for known in (*module._parameters, *module._aliases)):
            return _View(module, path + ".")
        buffers = dict(module.named_buffers())
        if path in buffers:
            return buffers[path]
        if not self._prefix and module._session.ask("method", owner=module._number, name=path)["value"] is True:
            return RemoteCallable(module._session, path, module)
        there = ", ".join(module._parameters) or "none"
        raise CheckFailure(f"Your module has no parameter or buffer `{path}`. Its parameters: {there}.")


def _plain(value: Any, modules: list[RemoteModule]) -> Any:
    """Replace remote modules by references and add them to ``modules``; everything else crosses as it is."""
    if isinstance(value, RemoteModule):
        modules.append(value)
        return ModuleRef(value._number)
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(item, modules) for item in value)
    if isinstance(value, dict):
        return {key: _plain(item, modules) for key, item in value.items()}
    return value
