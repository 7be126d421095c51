"""What the architecture promises about the code itself: who imports whom, what a start costs, how long a file is."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "grader"
SOLUTIONS = PACKAGE.parent / "solutions"
LAYERS = (  # a module imports from its own layer and those above it in this list
    ("grader", "grader.errors", "grader.model"),
    (
        "grader.stub",
        "grader.notebook",
        "grader.onefile",
        "grader.submission",
        "grader.policy",
        "grader.candidate.wire",
        "grader.candidate.tensors",
    ),
    ("grader.bank", "grader.candidate", "grader.judge.suite", "grader.judge.comparing", "grader.judge.variants"),
    ("grader.judge",),
    ("grader.learner", "grader.classroom", "grader.report"),
    ("grader.authoring", "grader.doctor", "grader.commands", "grader.cli", "grader.__main__"),
)
LEVELS = {name: level for level, names in enumerate(LAYERS) for name in names}
MAX_LINES = 330  # of a module: about 300
MAX_FUNCTION = 40  # lines


def name_of(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    name_of(path): ast.parse(path.read_text("utf-8"))
    for path in sorted(PACKAGE.rglob("*.py"))
    if "solutions" not in path.parts
}


def level_of(name):
    """Return the layer of the longest part of a dotted name that has one."""
    while name != "grader" and name not in LEVELS:
        name = name.rpartition(".")[0]
    return LEVELS[name]


def imports(tree, *, only_at_start=False):
    """Yield the absolute names of everything that is imported, in functions too unless ``only_at_start``."""
    nodes = list(tree.body) if only_at_start else list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports are for answer keys"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else node.module


def ours(names):
    return {name for name in names if name.partition(".")[0] == "grader"}


# --- who imports whom ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODULES)
def test_every_module_has_a_layer_and_imports_from_none_below_it(name):
    assert name == "grader" or level_of(name) > 0 or name in LEVELS, f"give {name} a place in LAYERS"

    wrong = [other for other in ours(imports(MODULES[name])) if level_of(other) > level_of(name)]

    assert not wrong


def test_no_two_modules_import_each_other():
    graph = {name: ours(imports(tree, only_at_start=True)) - {name} for name, tree in MODULES.items()}

    assert len(list(TopologicalSorter(graph).static_order())) >= len(MODULES)


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("grader.candidate")])
def test_what_lies_beside_the_learners_code_imports_nothing_else_of_ours(name):
    assert all(other.startswith("grader.candidate") for other in ours(imports(MODULES[name])))


@pytest.mark.parametrize("path", sorted(SOLUTIONS.rglob("*.py")), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_an_answer_key_imports_the_suite_and_its_solution_alone(path):
    nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
    absolute = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    relative = [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.level]
    absolute += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]

    assert set(ours(absolute)) <= (set() if path.name == "solution.py" else {"grader.judge.suite"})
    assert set(relative) <= {"solution"}
    assert path.name == "variants.py" or not relative


# --- what a start costs --------------------------------------------------------------------------------------------


def loaded_by(code):
    """Return the modules that a fresh interpreter has loaded once ``code`` has run."""
    script = f"{code}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return set(done.stdout.split())


SLOW_IN_TORCH = {"sympy", "torch._dynamo", "torch._inductor", "torch.fx.experimental.symbolic_shapes"}


def test_the_command_line_starts_without_anything_heavy():
    heavy = {"torch", "numpy", "pytest", "nbformat", "rich", "jinja2", "safetensors", "asyncio"}

    assert not heavy & loaded_by("import grader.cli")


@pytest.mark.parametrize(
    "module",
    ["grader.judge.client", "grader.commands.grade", "grader.authoring", "grader.bank", "grader.submission"],
)
def test_the_command_lines_side_needs_no_torch(module):
    assert not {"torch", "numpy", "pytest", "safetensors"} & loaded_by(f"import {module}")


def test_the_zygote_is_forked_before_anything_of_the_judge_is_there():
    loaded = loaded_by("import grader.judge.server")

    assert "torch" in loaded
    assert not {"pytest", "_pytest", "grader.bank", "grader.judge.suite", "grader.judge.answerkey"} & loaded


def test_neither_side_imports_the_slow_parts_of_torch():
    zygote = "from grader.candidate import sandbox, zygote; zygote.warm_up(); sandbox.prepare()"

    assert not SLOW_IN_TORCH & loaded_by(zygote)
    assert not SLOW_IN_TORCH & loaded_by(
        "import grader.judge.grading; from grader.judge.plugin import *; in_session(lambda: 0)"
    )


# --- how long things are -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=name_of)
def test_a_module_is_read_in_one_sitting(path):
    assert len(path.read_text("utf-8").splitlines()) <= MAX_LINES


@pytest.mark.parametrize("name", MODULES)
def test_a_function_fits_on_a_screen(name):
    functions = [n for n in ast.walk(MODULES[name]) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]

    long = {
        f.name: 1 + (f.end_lineno or 0) - f.lineno for f in functions if (f.end_lineno or 0) - f.lineno >= MAX_FUNCTION
    }

    assert not long
