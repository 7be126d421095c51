"""Find forbidden things in a file by reading it.

Only PyTorch's own functions count, by whatever name they go: an alias, ``getattr``, an operator, a method of a tensor.
A function of the file's own, a comment and a docstring do not. Only code that can matter is read: the graded names, the
module's statements, and what either of them mentions. So a self-test under ``if __name__ == "__main__":``, or one that
is never called, may compare with what it likes.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable

from grader.model import PolicyFinding
from grader.policy.resolve import Resolver
from grader.policy.rules import NAMESPACES, OFF_LIMITS_ATTRIBUTES, Rules, is_free, is_off_limits, prefixes
from grader.policy.scopes import Outside, Own, Unknown, dotted, imported, imported_paths, is_plain, never_holds

RUN_TEXT = ("builtins.eval", "builtins.exec", "builtins.compile", "torch.jit.CompilationUnit")
IMPORT_TEXT = ("importlib.import_module", "builtins.__import__")
NAME_TEXT = ("operator.attrgetter", "operator.methodcaller")
CHANGE = ("builtins.setattr", "builtins.delattr")
INSPECT = (*CHANGE, "builtins.getattr", "builtins.hasattr", "builtins.print", "builtins.isinstance", "builtins.dir")

MAX_NODES = 100_000  # of the syntax tree; a long answer has 5 000
MAX_FINDINGS = 100
MAX_WRITTEN = 80  # characters of what a finding shows

_IDENTIFIER = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*")
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def read_policy(source: str, names: Iterable[str], forbids: Iterable[str]) -> tuple[PolicyFinding, ...]:
    """Report what ``source`` uses although the exercise forbids it, in the order of lines.

    Args:
        source: A learner's file; of one that is no Python nothing is reported.
        names: The graded functions and classes.
        forbids: Of the exercise: bare names (``layer_norm``, see ``is_forbidden``), or ``import torch`` for a module.

    Returns:
        Findings whose rule is ``forbidden call``, ``forbidden import``, ``hidden name`` (one cannot read which function
        is meant) or ``off limits``.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
        if sum(1 for _ in ast.walk(tree)) > MAX_NODES:
            return (PolicyFinding("hidden name", "more code than can be read", None),)
        return _Reader(tree, source, Rules.of(forbids)).read(names)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()  # reading the submission has refused it before


class _Reader:
    def __init__(self, tree: ast.Module, source: str, rules: Rules) -> None:
        self.tree = tree
        self.rows = [row.encode() for row in source.split("\n")]
        self.rules = rules
        self.resolver = Resolver(tree)
        self.where = self.resolver.scopes.where
        self.found: set[PolicyFinding] = set()
        self.excused: set[ast.AST] = set()  # nodes of which the node around them has taken care
        self.followed: set[ast.AST] = set()  # nodes of which a part was taken that is known
        self.todo: list[ast.AST] = list(tree.body)
        self.waiting: dict[
            str, list[ast.stmt]
        ] = {}  # the module's functions and classes that nothing has mentioned yet
        for node, scope in self.where.items():
            if isinstance(node, (*_FUNCTIONS, ast.ClassDef)) and scope is self.resolver.scopes.module:
                self.waiting.setdefault(node.name, []).append(node)
        imports = [node for node in self.where if isinstance(node, (ast.Import, ast.ImportFrom))]
        self.refused = {path for node in imports for path in imported_paths(node) if is_off_limits(path)}

    def read(self, names: Iterable[str]) -> tuple[PolicyFinding, ...]:
        """Read all that can matter, beginning with the graded ``names`` and the module's statements."""
        for name in names:
            self._reach(name)
            values, line = self.resolver.exported(name)
            if any(isinstance(value, Outside) and self.rules.forbids_function(value.path) for value in values):
                self._report("forbidden call", name, line)
        while self.todo:
            self._visit(self.todo.pop())
        found = sorted(self.found, key=lambda finding: (finding.line or 0, finding.name, finding.rule))
        return tuple(found[:MAX_FINDINGS])

    def _reach(self, name: str) -> None:
        """Read the bodies of what the module defines by this name."""
        for node in self.waiting.pop(name, ()):
            self.todo += node.body  # type: ignore[attr-defined]

    def _visit(self, node: ast.AST) -> None:
        """Look at one node, and put down what of it is to be looked at next."""
        parts: Iterable[ast.AST | None] = ast.iter_child_nodes(node)
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda() | ast.ClassDef():
                parts = self._definition(node)
            case ast.If(test=test, orelse=orelse) if never_holds(test):
                parts = orelse
            case ast.AnnAssign(target=target, value=value):
                parts = (target, value)
            case ast.Assign(targets=targets, value=value):
                parts = targets if self._is_alias(node) else (*targets, value)
                self.excused.add(value)  # `self.F = F` can be followed
            case ast.Expr(value=value):
                self.excused.add(value)
            case ast.Compare(left=left, comparators=others):
                parts = [part for part in (left, *others) if not is_plain(part)]  # `type(m) is nn.LayerNorm`
            case ast.MatchClass(patterns=patterns, kwd_patterns=others):
                parts = (*patterns, *others)  # no more than `isinstance`
            case ast.Call():
                parts = self._call(node)
            case _:
                self._look(node)
        self.todo += [part for part in parts if part]

    def _look(self, node: ast.AST) -> None:
        match node:
            case ast.Import() | ast.ImportFrom():
                for path in imported_paths(node):
                    self._import(path, node)
            case ast.Subscript(value=value, slice=key) if self.resolver.namespace(value) and self.resolver.texts(key):
                self.followed.add(value)
                self._mention(node)
            case ast.Attribute(ctx=ast.Load()):
                self._attribute(node)
            case ast.Attribute():
                self._store(node)
            case ast.Name(id=name, ctx=ast.Load()):
                self._reach(name)
                self._mention(node)

    def _definition(
        self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef
    ) -> list[ast.AST | None]:
        """Return what runs where the definition stands, and its body unless that waits to be mentioned.

        Annotations call nothing. A decorator of the file's own may call what it decorates.
        """
        if isinstance(node, ast.Lambda):
            return [*node.args.defaults, *node.args.kw_defaults, node.body]
        parts: list[ast.AST | None] = [*node.decorator_list]
        if isinstance(node, ast.ClassDef):
            parts += [*node.bases, *node.keywords]
        else:
            parts += [*node.args.defaults, *node.args.kw_defaults]
        makers = [mark.func if isinstance(mark, ast.Call) else mark for mark in node.decorator_list]
        if any(not isinstance(value, Outside) for maker in makers for value in self.resolver.values(maker)):
            self._reach(node.name)
        if self.where[node] is not self.resolver.scopes.module:
            return [*parts, *node.body]
        if isinstance(node, ast.ClassDef):  # its statements run even if nobody mentions it
            parts += [part for part in node.body if not isinstance(part, _FUNCTIONS)]
        return parts

    def _is_alias(self, node: ast.Assign) -> bool:
        """Return whether a name is all that ``node`` gives to something outside; then its uses are what counts."""
        if not isinstance(node.value, (ast.Name, ast.Attribute)) or self.where[node].is_class:
            return False
        return all(isinstance(target, ast.Name) for target in node.targets) and all(
            isinstance(value, Outside) for value in self.resolver.values(node.value)
        )

    # --- one node ----------------------------------------------------------------------------------------

    def _import(self, path: str, node: ast.AST) -> None:
        module = imported(node) if isinstance(node, ast.ImportFrom) else path
        if is_off_limits(path):
            self._report("off limits", module if is_off_limits(module) else path, node)
        elif self.rules.forbids_import(path):
            self._report("forbidden import", module, node)

    def _attribute(self, node: ast.Attribute) -> None:
        self._reach(node.attr)
        outside = self._outside([node.value])
        if node.attr in OFF_LIMITS_ATTRIBUTES:
            self._report("off limits", self._written(node), node)
        elif self._hides(node, node.value):
            self._report("hidden name", self._written(node), node)
        elif not any(
            is_off_limits(path) or self.rules.forbids_function(path) for path in outside
        ):  # else reported there
            self._mention(node)
        self.excused.add(node.value)
        if any(map(is_free, self._outside([node]))):
            self.followed.add(node.value)

    def _hides(self, node: ast.expr, holder: ast.expr) -> bool:
        """Return whether any name may be taken: from ``vars(F)``, ``F.__dict__`` or by ``x.__getattribute__``."""
        if isinstance(node, ast.Attribute) and node.attr in ("__getattribute__", "__getattr__"):
            return not all(isinstance(value, Own) for value in self.resolver.values(holder))
        whole = self.resolver.namespace(node) is holder and node not in self.followed
        return whole and any(map(_is_torch, self._outside([holder])))

    def _store(self, node: ast.Attribute) -> None:
        for path in self._outside([node.value]):
            if _is_torch(path) and not path.startswith("torch.backends"):
                self._report("off limits", self._written(node), node)
        self.excused.add(node.value)

    def _call(self, node: ast.Call) -> list[ast.AST]:
        parts: list[ast.AST] = [node.func, *node.args, *node.keywords]
        for path in self._outside([node.func]):
            if path in RUN_TEXT or path in IMPORT_TEXT or path in NAME_TEXT:
                self._call_with_text(path, node)
            elif path == "builtins.getattr" and len(node.args) >= 2:
                self._getattr(node)
            elif path == "builtins.globals" or (node.args and self._hides(node, node.args[0])):
                self._report("hidden name", self._written(node), node)
            elif path in CHANGE and any(map(_is_torch, self._outside(node.args[:1]))):
                self._report("off limits", self._written(node), node)
            if path in (*INSPECT, "builtins.vars"):
                self.excused |= set(node.args[:1])
            if path in ("builtins.isinstance", "builtins.issubclass"):
                parts = [node.func, *node.args[:1]]
        self.excused.add(node.func)
        return parts

    def _getattr(self, node: ast.Call) -> None:
        if self.resolver.texts(node.args[1]):
            self._mention(node)
        elif any(map(_is_torch, self._outside(node.args[:1]))):
            self._report("hidden name", self._written(node), node)

    def _call_with_text(self, path: str, node: ast.Call) -> None:
        """Look into a string that is run, imported or looked up."""
        first = next(iter([*node.args, *(keyword.value for keyword in node.keywords)]), None)
        texts = self.resolver.texts(first) if first else []
        if first and not texts:
            self._report("hidden name", self._written(node), node)
        for text in texts:
            if path in IMPORT_TEXT:
                self._import(text, node)
                continue
            for name in _IDENTIFIER.findall(text):
                for part in name.split("."):
                    self._reach(part)
                    if self.rules.forbids_method(part) or self.rules.forbids_function(f"torch.{part}"):
                        self._report("forbidden call", name, node)
                if path in RUN_TEXT and (is_off_limits(name) or self.rules.forbids_import(name)):
                    self._report("off limits", name, node)

    def _mention(self, node: ast.expr) -> None:
        """Report a name, an attribute or a ``getattr`` that means something forbidden."""
        base, attributes = self._looked_up(node)
        for value in self.resolver.values(node):
            if isinstance(value, Outside) and (base is None or value.path.rpartition(".")[2] in attributes):
                self._judge(value.path, node)  # an attribute of one's own was judged where it was stored
        if base is not None and Unknown() in self.resolver.values(base):
            for _ in filter(self.rules.forbids_method, attributes):
                self._report("forbidden call", self._written(node), node)

    def _judge(self, path: str, node: ast.expr) -> None:
        if is_off_limits(path):
            if node not in self.followed and self.refused.isdisjoint(prefixes(path)):  # else its import is reported
                self._report("off limits", self._written(node), node)
        elif self.rules.forbids_function(path):
            text = self._written(node)
            self._report("forbidden call", text if path.rpartition(".")[2] in text else f"{text} ({path})", node)
        elif (path in NAMESPACES or path in (*RUN_TEXT, *IMPORT_TEXT)) and node not in self.excused:
            self._report("hidden name", self._written(node), node)

    def _looked_up(self, node: ast.expr) -> tuple[ast.expr | None, list[str]]:
        """Return in what, and by which names, an attribute is looked up; ``None`` for a plain name."""
        match node:
            case ast.Attribute(value=base, attr=attribute):
                return base, [attribute]
            case ast.Subscript(value=value, slice=key):
                return self.resolver.namespace(value), self.resolver.texts(key)
            case ast.Call(args=[base, name, *_]):
                return base, self.resolver.texts(name)
        return None, []

    def _outside(self, nodes: Iterable[ast.expr]) -> list[str]:
        """Return the full names of what some expressions bring from outside."""
        values = [value for node in nodes for value in self.resolver.values(node)]
        return [value.path for value in values if isinstance(value, Outside)]

    def _written(self, node: ast.expr) -> str:
        """Return an expression as it is written, shortened."""
        if isinstance(node, (ast.Name, ast.Attribute)):
            return dotted(node) or f"(…).{getattr(node, 'attr', '')}"
        row = self.rows[node.lineno - 1]  # columns count bytes
        text = row[node.col_offset : node.end_col_offset if node.end_lineno == node.lineno else None].decode()
        return text if node.end_lineno == node.lineno and len(text) <= MAX_WRITTEN else f"{text[: MAX_WRITTEN - 1]}…"

    def _report(self, rule: str, name: str, node: ast.AST | int) -> None:
        if isinstance(node, ast.Attribute):
            line = node.end_lineno  # where the name stands, if the expression takes several lines
        else:
            line = node if isinstance(node, int) else getattr(node, "lineno", None)
        self.found.add(PolicyFinding(rule, name[:MAX_WRITTEN], line))


def _is_torch(path: str) -> bool:
    return path == "torch" or path.startswith("torch.")
