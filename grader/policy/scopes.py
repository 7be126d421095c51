"""Which scope binds which names, in one file: enough of Python's rules to follow a name to where it comes from."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

MAX_STARS = 50  # imports of everything that are followed

_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Outside:
    """Something that does not come from the file, by its full name: ``torch.nn.functional.softmax``."""

    path: str


@dataclass(frozen=True)
class Own:
    """A function, class or object of the file's own.

    Attributes:
        kind: The class that it is, or is an instance of; ``None`` for anything else.
        made: Whether it is an instance.
    """

    kind: ast.ClassDef | None = None
    made: bool = False


@dataclass(frozen=True)
class Text:
    """A string that can be worked out."""

    text: str


@dataclass(frozen=True)
class Unknown:
    """A value that nothing is known of, such as an argument."""


Value = Outside | Own | Text | Unknown


@dataclass(eq=False)
class Binding:
    """One place that gives a name its value.

    Attributes:
        node: The statement.
        value: The value if it is clear at once, else the expression that it comes from.
        certain: Whether it always runs, being a statement of the module itself.
    """

    node: ast.AST
    value: Value | ast.expr
    certain: bool = False

    @property
    def end(self) -> tuple[int, int]:
        """Line and column from which on it holds."""
        return getattr(self.node, "end_lineno", 0), getattr(self.node, "end_col_offset", 0)


@dataclass(eq=False)
class Scope:
    """A module, class, function, lambda or comprehension, and the names that it binds."""

    node: ast.AST
    parent: Scope | None = None
    names: dict[str, list[Binding]] = field(default_factory=dict)
    lifted: dict[str, bool] = field(default_factory=dict)  # name → whether it is `global` (else `nonlocal`)

    @property
    def is_class(self) -> bool:
        """Whether functions inside do not see its names."""
        return isinstance(self.node, ast.ClassDef)

    @property
    def is_function(self) -> bool:
        """Whether its body runs later than where it stands."""
        return isinstance(self.node, (*_FUNCTIONS, ast.Lambda))

    def add(self, name: str, binding: Binding) -> None:
        """Bind ``name`` once more."""
        self.names.setdefault(name, []).append(binding)

    def outward(self) -> Iterator[Scope]:
        """Yield this scope and those around it."""
        scope: Scope | None = self
        while scope:
            yield scope
            scope = scope.parent


class Scopes:
    """All scopes of a file.

    Attributes:
        module: The outermost one; its bindings are in the order of the file.
        where: Every node → the scope in which it stands.
        classes: Every class → the scope of its body.
        attributes: Class and name → what ``self.name = …`` in its methods stores.
        stars: Line and module of every ``from … import *``.
    """

    def __init__(self, tree: ast.Module) -> None:
        self.module = Scope(tree)
        self.where: dict[ast.AST, Scope] = {}
        self.classes: dict[ast.ClassDef, Scope] = {}
        self.attributes: dict[tuple[ast.ClassDef, str], list[Binding]] = {}
        self.stars: list[tuple[int, str]] = []
        self._certain: set[ast.AST] = set(tree.body)
        todo: list[tuple[ast.AST, Scope]] = [(node, self.module) for node in reversed(tree.body)]
        while todo:  # a stack of our own, since the file chooses how deep it is
            node, scope = todo.pop()
            self.where[node] = scope
            self._bind(node, scope)
            todo += reversed(list(self._children(node, scope)))
        for scope in set(self.where.values()):
            self._lift(scope)
        for bindings in self.module.names.values():
            bindings.sort(key=lambda binding: binding.end)

    def _children(self, node: ast.AST, scope: Scope) -> Iterator[tuple[ast.AST, Scope]]:
        inner = scope
        if isinstance(node, (*_FUNCTIONS, ast.Lambda, ast.ClassDef, *_COMPREHENSIONS)):
            inner = Scope(node, scope)
        if isinstance(node, ast.ClassDef):
            self.classes[node] = inner
        for name, value in ast.iter_fields(node):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.arguments):
                    yield from self._arguments(child, scope, inner)
                elif isinstance(child, ast.AST):
                    yield child, inner if name == "body" or isinstance(node, _COMPREHENSIONS) else scope

    def _arguments(self, node: ast.arguments, scope: Scope, inner: Scope) -> Iterator[tuple[ast.AST, Scope]]:
        """Bind the arguments in ``inner``; their defaults and annotations stand in ``scope``."""
        plain = [*node.posonlyargs, *node.args]
        others = [*node.kwonlyargs, *(arg for arg in (node.vararg, node.kwarg) if arg)]
        for place, arg in enumerate([*plain, *others]):
            first = place == 0 and bool(plain)
            inner.add(arg.arg, Binding(arg, _receiver(scope.node, inner.node) if first else Unknown()))
        for child in [*(arg.annotation for arg in (*plain, *others)), *node.defaults, *node.kw_defaults]:
            if child:
                yield child, scope

    def _bind(self, node: ast.AST, scope: Scope) -> None:
        certain = node in self._certain
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                scope.add(name, Binding(node, Own(), certain))
            case ast.ClassDef(name=name):
                scope.add(name, Binding(node, Own(node), certain))
            case ast.Import() | ast.ImportFrom():
                self._import(node, scope, certain)
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    self._assign(target, value, node, scope, certain)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                self._assign(target, value, node, scope, certain)
            case ast.NamedExpr(target=target, value=value):
                around = next(one for one in scope.outward() if not isinstance(one.node, _COMPREHENSIONS))
                self._assign(target, value, node, around, False)
            case ast.withitem(optional_vars=ast.expr() as target):
                self._assign(target, None, target, scope, False)
            case ast.For() | ast.AsyncFor() | ast.comprehension() | ast.AugAssign():
                self._assign(node.target, None, node.target, scope, False)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                scope.add(name, Binding(node, Unknown()))
            case ast.MatchMapping(rest=str(name)):
                scope.add(name, Binding(node, Unknown()))
            case ast.Global(names=names) | ast.Nonlocal(names=names):
                scope.lifted |= dict.fromkeys(names, isinstance(node, ast.Global))

    def _import(self, node: ast.Import | ast.ImportFrom, scope: Scope, certain: bool) -> None:
        for alias in node.names:
            if isinstance(node, ast.Import):
                name = alias.asname or alias.name.partition(".")[0]
                path = alias.name if alias.asname else name
            elif alias.name == "*":
                if len(self.stars) < MAX_STARS:
                    self.stars.append((node.lineno, imported(node)))
                continue
            else:
                name, path = alias.asname or alias.name, f"{imported(node)}.{alias.name}"
            scope.add(name, Binding(node, Outside(path), certain))

    def _assign(self, target: ast.expr, value: ast.expr | None, node: ast.AST, scope: Scope, certain: bool) -> None:
        match target:
            case ast.Name(id=name):
                scope.add(name, Binding(node, value or Unknown(), certain))
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                values: list[ast.expr] = []
                if isinstance(value, (ast.Tuple, ast.List)) and len(value.elts) == len(parts):
                    values = [] if any(isinstance(part, ast.Starred) for part in (*parts, *value.elts)) else value.elts
                for place, part in enumerate(parts):
                    self._assign(part, values[place] if values else None, node, scope, certain)
            case ast.Starred(value=inner):
                self._assign(inner, None, node, scope, certain)
            case ast.Attribute(value=ast.Name(id=name), attr=attribute):
                for around in scope.outward():
                    for binding in around.names.get(name, ())[:1] if around.is_function else ():
                        if isinstance(binding.value, Own) and binding.value.kind:  # `self`
                            member = (binding.value.kind, attribute)
                            self.attributes.setdefault(member, []).append(Binding(node, value or Unknown()))

    def _lift(self, scope: Scope) -> None:
        """Move what a function binds as ``global`` or ``nonlocal`` to where it belongs."""
        for name, is_global in scope.lifted.items():
            around = [one for one in scope.outward() if one is not scope and one.is_function and name in one.names]
            home = self.module if is_global or not around else around[0]
            if home is not scope:
                home.names.setdefault(name, []).extend(scope.names.pop(name, []))


def imported(node: ast.ImportFrom) -> str:
    """Return the module that ``from … import`` names, with a leading dot for each level."""
    return "." * node.level + (node.module or "")


def imported_paths(node: ast.Import | ast.ImportFrom) -> list[str]:
    """Return the full names of what is imported."""
    head = f"{imported(node)}." if isinstance(node, ast.ImportFrom) else ""
    return [head + alias.name for alias in node.names]


def _receiver(owner: ast.AST, function: ast.AST) -> Value:
    """Return what the first argument of a function is: ``self``, ``cls``, or anything."""
    if isinstance(owner, ast.ClassDef) and isinstance(function, _FUNCTIONS):
        marks = {mark.id for mark in function.decorator_list if isinstance(mark, ast.Name)}
        if "staticmethod" not in marks:
            return Own(owner, made="classmethod" not in marks)
    return Unknown()


def dotted(node: ast.expr) -> str:
    """Return ``a.b.c`` as text; nothing for what is not of that form."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def is_plain(node: ast.AST) -> bool:
    """Return whether ``node`` is ``a.b.c``, a constant, or a few of them."""
    while isinstance(node, ast.Attribute):
        node = node.value
    if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
        return all(isinstance(part, (ast.Name, ast.Attribute, ast.Constant)) and is_plain(part) for part in node.elts)
    return isinstance(node, (ast.Name, ast.Constant))


def never_holds(test: ast.expr) -> bool:
    """Return whether a condition is false when a file is graded: ``__name__ == "__main__"``, ``TYPE_CHECKING``."""
    match test:
        case ast.BoolOp(op=ast.And(), values=parts):
            return any(isinstance(part, ast.Compare) and never_holds(part) for part in parts)
        case ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]):
            return {getattr(side, "id", getattr(side, "value", None)) for side in (left, right)} == {
                "__name__",
                "__main__",
            }
        case ast.Constant(value=value):
            return not value
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name == "TYPE_CHECKING"
    return False
