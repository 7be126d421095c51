"""Gradients across the wire: the candidate's part of a graph is one node in the judge's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from grader.judge.session import Session
from grader.judge.suite import CheckFailure


def connect(
    session: Session, number: int, value: Any, leaves: list[Tensor], parameters: Mapping[str, nn.Parameter]
) -> Any:
    """Return ``value`` with its tensors connected to ``leaves`` and ``parameters`` in the judge's graph."""
    trained = {name: parameter for name, parameter in parameters.items() if parameter.requires_grad}
    outputs = list(tensors_in(value))
    if not any(out.requires_grad for out in outputs) or not (leaves or trained):
        return detach(value)
    names = list(trained)
    connected = _Remote.apply(session, number, outputs, names, *leaves, *trained.values())  # type: ignore[no-untyped-call]
    table = {id(out): new for out, new in zip(outputs, connected, strict=True)}
    return map_tensors(value, lambda tensor: table[id(tensor)])


class _Remote(torch.autograd.Function):
    """Asks the candidate for the vector-Jacobian product of a call that it has answered."""

    @staticmethod
    def forward(
        ctx: Any, session: Session, number: int, outputs: list[Tensor], names: list[str], *leaves: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.session, ctx.number, ctx.names = session, number, names
        ctx.shapes = [(leaf.shape, leaf.dtype) for leaf in leaves]
        ctx.set_materialize_grads(False)
        results = tuple(out.detach() for out in outputs)
        ctx.mark_non_differentiable(*(new for new, out in zip(results, outputs, strict=True) if not out.requires_grad))
        return results

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        reply = ctx.session.ask("vjp", number=ctx.number, gradients=tuple(gradients))["value"]
        found = [*reply["inputs"], *(reply["parameters"].get(name) for name in ctx.names)]
        if len(found) != len(ctx.shapes):
            raise CheckFailure("The gradients that came back are not those that were asked for.")
        for gradient, (shape, _) in zip(found, ctx.shapes, strict=True):
            if gradient is not None and (not isinstance(gradient, Tensor) or gradient.shape != shape):
                raise CheckFailure("A gradient of a wrong shape came back.")
        return (None, None, None, None, *found)


def detach(value: Any) -> Any:
    """Return ``value`` with its tensors cut from any graph; one that occurs twice stays one."""
    table = {id(tensor): tensor.detach() for tensor in tensors_in(value)}
    return map_tensors(value, lambda tensor: table[id(tensor)])


def map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return ``value`` with every tensor in its tuples, lists and dicts changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, (list, tuple)):
        return type(value)(map_tensors(item, change) for item in value)
    if isinstance(value, dict):
        return {key: map_tensors(item, change) for key, item in value.items()}
    return value


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield every tensor once, in the order in which the host counts them."""
    seen: set[int] = set()
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, Tensor) and id(item) not in seen:
            seen.add(id(item))
            yield item
        elif isinstance(item, (list, tuple)):
            stack.extend(reversed(item))
        elif isinstance(item, dict):
            stack.extend(reversed(list(item.values())))
