"""What an expression means: something that an import brought, something of the file's own, or a string.

Nothing is run. Where a name has several values (``if``, loops, two assignments in a function), all of them count.
"""

from __future__ import annotations

import ast
import bisect
import builtins
from collections.abc import Iterable

from grader.policy.scopes import Binding, Outside, Own, Scope, Scopes, Text, Unknown, Value

UNKNOWN: frozenset[Value] = frozenset({Unknown()})

MAX_VALUES = 50  # of one expression
MAX_STEPS = 60  # from one expression to the next, so that a chain of thousands of aliases costs no stack
MAX_TEXT = 300  # characters of a name or string that is put together

_TENSORS = ("Tensor", "Parameter")


class Resolver:
    """Follow the names of one file.

    Args:
        tree: The parsed file.
    """

    def __init__(self, tree: ast.Module) -> None:
        self.scopes = Scopes(tree)
        self._known: dict[object, frozenset[Value]] = {}
        self._split: dict[str, tuple[list[Binding], list[Binding]]] = {}
        self._steps = 0

    def values(self, node: ast.expr) -> frozenset[Value]:
        """Return what an expression of the file may be; never empty."""
        if node in self._known:
            return self._known[node]
        if self._steps >= MAX_STEPS:
            return UNKNOWN
        self._known[node] = frozenset()  # a name that is defined by itself adds nothing
        self._steps += 1
        found = self._evaluate(node)
        self._steps -= 1
        self._known[node] = _capped(found) or UNKNOWN
        return self._known[node]

    def texts(self, node: ast.expr) -> list[str]:
        """Return the strings that an expression may be; none if it may be something else."""
        values = self.values(node)
        texts = [value.text for value in values if isinstance(value, Text)]
        return sorted(texts) if len(texts) == len(values) else []

    def exported(self, name: str) -> tuple[frozenset[Value], int]:
        """Return what the module calls ``name`` once it has run, and the line that says so."""
        lines = [getattr(binding.node, "lineno", 1) for binding in self.scopes.module.names.get(name, ())]
        lines = lines[-1:] or [line for line, _ in self.scopes.stars[-1:]]
        return self._lookup(name, self.scopes.module, None), lines[0] if lines else 1

    def _evaluate(self, node: ast.expr) -> Iterable[Value]:
        match node:
            case ast.Constant(value=str(text)):
                return {Text(text)}
            case ast.Name(id=name):
                return self._lookup(name, self.scopes.where[node], (node.lineno, node.col_offset))
            case ast.Attribute(value=base, attr=attribute):
                return self._of_all(base, [attribute])
            case ast.Subscript(slice=key) if holder := self.namespace(node.value):
                return self._of_all(holder, self.texts(key))
            case ast.Call():
                return self._call(node)
            case ast.IfExp(body=one, orelse=other):
                return self.values(one) | self.values(other)
            case ast.BoolOp(values=parts):
                return {value for part in parts for value in self.values(part)}
            case ast.NamedExpr(value=inner) | ast.FormattedValue(value=inner, conversion=-1, format_spec=None):
                return self.values(inner)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return self._joined("", [left, right])
            case ast.JoinedStr(values=pieces):
                return self._joined("", pieces)
            case ast.Lambda():
                return {Own()}
        return ()

    def namespace(self, node: ast.expr) -> ast.expr | None:
        """Return ``x`` of ``vars(x)`` and of ``x.__dict__``."""
        match node:
            case ast.Attribute(value=holder, attr="__dict__"):
                return holder
            case ast.Call(func=function, args=[holder]) if Outside("builtins.vars") in self.values(function):
                return holder
        return None

    def _call(self, node: ast.Call) -> set[Value]:
        found: set[Value] = set()
        match node:
            case ast.Call(func=ast.Attribute(value=glue, attr="join"), args=[ast.List() | ast.Tuple() as parts]):
                found |= {text for one in self.texts(glue) for text in self._joined(one, parts.elts)}
        for function in self.values(node.func):
            match function:
                case Own(kind=ast.ClassDef() as kind, made=False):
                    found.add(Own(kind, made=True))
                case Outside("builtins.getattr") if len(node.args) >= 2:
                    found |= self._of_all(node.args[0], self.texts(node.args[1]))
                case Outside("builtins.type") if len(node.args) == 1:
                    found |= {Own(value.kind) for value in self.values(node.args[0]) if isinstance(value, Own)}
                case Outside("importlib.import_module") if node.args:
                    found |= {Outside(text[:MAX_TEXT]) for text in self.texts(node.args[0])}
                case Outside("builtins.__import__") if node.args:
                    found |= {Outside(text[:MAX_TEXT].partition(".")[0]) for text in self.texts(node.args[0])}
                case Outside("builtins.super"):
                    around = (scope.node for scope in self.scopes.where[node].outward())
                    found |= {Own(kind, made=True) for kind in around if isinstance(kind, ast.ClassDef)}
        return found

    def _joined(self, glue: str, parts: Iterable[ast.expr]) -> set[Value]:
        """Return the strings that ``glue.join(parts)`` may be; nothing if a part is not known."""
        found = {""}
        for place, part in enumerate(parts):
            texts = self.texts(part)
            found = {f"{head}{glue if place else ''}{text}" for head in found for text in texts}
            found = {text for text in sorted(found)[:MAX_VALUES] if len(text) <= MAX_TEXT}
        return {Text(text) for text in found}

    def _lookup(self, name: str, scope: Scope, at: tuple[int, int] | None) -> frozenset[Value]:
        """Return what ``name`` means in ``scope``: at the place ``at``, or whenever the module has run."""
        for around in scope.outward():
            if around is self.scopes.module:
                if found := self._global(name, at):
                    return found
            elif name in around.names and (around is scope or not around.is_class):
                return self._all(around, name, around.names[name])
            if around.is_function:
                at = None  # it runs later
        stars = [] if hasattr(builtins, name) else [Outside(f"{path}.{name}") for _, path in self.scopes.stars]
        return _capped(stars) or frozenset({Outside(f"builtins.{name}")})

    def _global(self, name: str, at: tuple[int, int] | None) -> frozenset[Value]:
        """Return what a module's name means: by the last binding that is sure to run, and all that may run."""
        if name not in self._split:
            bindings = self.scopes.module.names.get(name, [])
            self._split[name] = [one for one in bindings if one.certain], [one for one in bindings if not one.certain]
        sure, unsure = self._split[name]
        count = len(sure) if at is None else bisect.bisect_right(sure, at, key=lambda binding: binding.end)
        last = sure[count - 1 : count]
        found = self._all(self.scopes.module, (name, "sure", count), last)
        if self.scopes.stars and last:
            found |= {Outside(f"{path}.{name}") for row, path in self.scopes.stars if row > last[0].end[0]}
        if not unsure:
            return found
        late = (one for one in unsure if at or not last or one.end > last[0].end)
        return found | self._all(self.scopes.module, (name, "unsure", at is None), late)

    def _all(self, scope: Scope, key: object, bindings: Iterable[Binding]) -> frozenset[Value]:
        """Return what the bindings of one name may be, worked out once."""
        if (scope, key) not in self._known:
            self._known[scope, key] = frozenset()
            values = [
                self.values(one.value) if isinstance(one.value, ast.expr) else frozenset({one.value})
                for one in bindings
            ]
            self._known[scope, key] = _capped(frozenset().union(*values))
        return self._known[scope, key]

    def _of_all(self, base: ast.expr, names: Iterable[str]) -> set[Value]:
        names = list(names)
        return {found for value in self.values(base) for name in names for found in self._attribute(value, name)}

    def _attribute(self, value: Value, name: str) -> frozenset[Value]:
        match value:
            case Outside(path) if len(path) + len(name) < MAX_TEXT:
                return frozenset({Outside(f"{path}.{name}")})
            case Own(kind=ast.ClassDef() as kind, made=made):
                return frozenset({Own(kind)}) if made and name == "__class__" else self._member(kind, name)
            case Own():
                return frozenset({Own()})
        return UNKNOWN

    def _member(self, kind: ast.ClassDef, name: str) -> frozenset[Value]:
        """Return what a class of the file, or one that it inherits from, calls ``name``."""
        found: frozenset[Value] = frozenset()
        todo, seen, tensor = [kind], {kind}, False
        while todo and len(seen) <= MAX_STEPS:
            one = todo.pop()
            bindings = [*self.scopes.classes[one].names.get(name, ()), *self.scopes.attributes.get((one, name), ())]
            found |= self._all(self.scopes.classes[one], (name, "member"), bindings)
            for base in [value for node in one.bases for value in self.values(node)]:
                if isinstance(base, Own) and base.kind and base.kind not in seen:
                    seen.add(base.kind)
                    todo.append(base.kind)
                tensor = tensor or (isinstance(base, Outside) and base.path.rpartition(".")[2] in _TENSORS)
        if found:
            return found
        return frozenset({Outside(f"torch.Tensor.{name}") if tensor else Own()})


def _capped(values: Iterable[Value]) -> frozenset[Value]:
    values = frozenset(values)
    return values if len(values) <= MAX_VALUES else frozenset(sorted(values, key=repr)[:MAX_VALUES])
