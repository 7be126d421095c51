"""The answer keys: found, read without running anything in them, and put in order.

An exercise is one folder, ``solutions/<track>/<slug>/``::

    exercise.toml     difficulty, minutes, requires, forbids, hints, follow-up questions
    solution.py       the brief is its docstring; its public functions and classes are what the learner writes
    test_<slug>.py    the hidden suite; each ``test_`` function is one check
    variants.py       other ways to write it, right and wrong
"""

from __future__ import annotations

import ast
import difflib
import heapq
import re
import tomllib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from grader.errors import AnswerKeyError, UsageError
from grader.model import Check, Exercise, FollowUp

TRACKS = ("positions", "attention", "blocks", "models")  # a track of another name comes after these
DIFFICULTIES = ("easy", "medium", "hard")
MARKS = ("points", "visible", "parametrize")
FIXTURES_OF_THE_REFERENCE = ("reference", "twins")

_SLUG = re.compile(r"[a-z][a-z0-9_]*")
_HEADING = re.compile(r"# -{3,} (.+?) -{3,}\s*$")  # parts a suite into sections


def find_bank() -> Path:
    """Return the folder of answer keys: ``solutions/`` of a clone, or the copy inside an installed package.

    Raises:
        AnswerKeyError: If there is neither, as in a student's kit.
    """
    package = Path(__file__).resolve().parent
    clone = package.parent
    if (clone / "solutions").is_dir() and (clone / "pyproject.toml").is_file():  # not just any folder of site-packages
        return clone / "solutions"
    if (package / "solutions").is_dir():
        return package / "solutions"
    raise AnswerKeyError(
        f"There are no answer keys: neither {clone / 'solutions'} nor {package / 'solutions'} is a folder. "
        "Install the kit again, or ask your teacher to grade your work."
    )


def load_exercises(root: Path | None = None) -> tuple[Exercise, ...]:
    """Read every answer key under ``root`` and return them in the order in which to work on them.

    No exercise comes before what it requires. Beyond that: by track, difficulty, minutes and slug.

    Raises:
        AnswerKeyError: At the first folder that breaks a rule; the text names the file and the rule.
    """
    root = find_bank() if root is None else root
    exercises: dict[str, Exercise] = {}
    for track in _folders(root):
        for folder in _folders(track):
            exercise = read_exercise(folder)
            if other := exercises.get(exercise.slug):
                raise AnswerKeyError(f"{folder} and {other.folder} have the same name. Rename one of them.")
            exercises[exercise.slug] = exercise
    if not exercises:
        raise AnswerKeyError(f"{root} holds no exercise. Expected folders such as positions/rotary/ in it.")
    return _in_order(exercises)


def find_exercise(slug: str, exercises: Sequence[Exercise]) -> Exercise:
    """Return the exercise called ``slug``.

    Raises:
        UsageError: If there is none; the text offers the closest name.
    """
    for exercise in exercises:
        if exercise.slug == slug:
            return exercise
    close = difflib.get_close_matches(slug.lower(), [exercise.slug for exercise in exercises], n=1)
    guess = f" Did you mean `{close[0]}`?" if close else ""
    raise UsageError(f"There is no exercise `{slug:.60}`.{guess} `grade list` shows all.")


def read_exercise(folder: Path) -> Exercise:
    """Read one folder of the bank.

    Raises:
        AnswerKeyError: If it breaks a rule.
    """
    slug = folder.name
    if not _SLUG.fullmatch(slug):
        raise AnswerKeyError(f"{folder}: a slug holds small letters, digits and `_` only. Rename the folder.")
    files = [folder / name for name in ("exercise.toml", "solution.py", f"test_{slug}.py", "variants.py")]
    for file in files:
        if not file.is_file():
            raise AnswerKeyError(f"{file} is missing. Every exercise has {', '.join(file.name for file in files)}.")
    settings, solution, suite, _ = files
    title, brief, names = _read_solution(solution)
    return Exercise(
        slug=slug,
        track=folder.parent.name,
        title=title,
        brief=brief,
        folder=folder,
        names=names,
        checks=read_checks(suite),
        **_read_settings(settings),
    )


def _folders(parent: Path) -> list[Path]:
    return sorted(path for path in parent.iterdir() if path.is_dir() and path.name[0] not in "._")


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AnswerKeyError(f"{file} cannot be read: {error}. Save it as UTF-8 text.") from None


def _parse(file: Path) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(_read(file))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise AnswerKeyError(f"{file} is not valid Python: {error}. Fix that line.") from None


# --- solution.py -----------------------------------------------------------------------------------------


def _read_solution(file: Path) -> tuple[str, str, tuple[str, ...]]:
    """Return title, brief and public names."""
    tree = _parse(file)
    title, _, brief = (ast.get_docstring(tree) or "").partition("\n")
    title, brief = title.strip(), brief.strip()
    if not title or not brief:
        raise AnswerKeyError(f"{file}: the docstring's first line is the title and the rest the brief. Write both.")
    if title.endswith("."):
        raise AnswerKeyError(f"{file}: the title ends with a full stop. Drop it, since it stands in tables.")
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    names = [node.name for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")]
    if not names or len(set(names)) < len(names):
        raise AnswerKeyError(f"{file}: it should define public functions or classes, each of them once.")
    return title, brief, tuple(names)


# --- test_<slug>.py --------------------------------------------------------------------------------------


def read_checks(file: Path) -> tuple[Check, ...]:
    """Read what a suite promises, without running it.

    Raises:
        AnswerKeyError: If it breaks a rule.
    """
    checks: dict[str, Check] = {}
    headings = [
        (row, found[1]) for row, line in enumerate(_read(file).split("\n"), 1) if (found := _HEADING.match(line))
    ]
    for node in _parse(file).body:
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            raise AnswerKeyError(f"{file}:{node.lineno}: checks are plain functions. Move them out of `{node.name}`.")
        if not isinstance(node, ast.FunctionDef) or not node.name.startswith("test"):
            continue
        if node.name in checks:
            raise AnswerKeyError(f"{file}:{node.lineno}: there are two checks `{node.name}`. Rename one of them.")
        section = next((text for row, text in reversed(headings) if row < node.lineno), "")
        checks[node.name] = replace(_read_check(node, f"{file}:{node.lineno}: `{node.name}`"), section=section)
    if not checks:
        raise AnswerKeyError(f"{file} has no check. Write a function whose name begins with `test_`.")
    return tuple(checks.values())


def _read_check(node: ast.FunctionDef, where: str) -> Check:
    title = (ast.get_docstring(node) or "").partition("\n")[0].strip()
    if not title:
        raise AnswerKeyError(f"{where} has no docstring. Write the line that the learner reads.")
    points, visible = 1.0, False
    for decorator in node.decorator_list:
        call = decorator if isinstance(decorator, ast.Call) else None
        owner, _, mark = ast.unparse(call.func if call else decorator).rpartition(".")
        if owner != "pytest.mark":
            continue
        if mark not in MARKS:
            raise AnswerKeyError(f"{where} has the mark `{mark}`. A check takes only {', '.join(MARKS)}.")
        if mark == "points":
            points = _read_points(call, where)
        visible = visible or mark == "visible"
    arguments = [argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)]
    if visible and (used := [name for name in FIXTURES_OF_THE_REFERENCE if name in arguments]):
        raise AnswerKeyError(f"{where} is visible and uses `{used[0]}`. A visible check does without the reference.")
    return Check(node.name, title, visible, points)


def _read_points(call: ast.Call | None, where: str) -> float:
    value = call.args[0] if call and len(call.args) == 1 and not call.keywords else None
    points = value.value if isinstance(value, ast.Constant) else None
    if isinstance(points, bool) or not isinstance(points, (int, float)) or not 0 < points <= 100:
        raise AnswerKeyError(f"{where}: write its points as one number above 0, such as `@pytest.mark.points(2)`.")
    return float(points)


# --- exercise.toml ---------------------------------------------------------------------------------------


def _read_settings(file: Path) -> dict[str, Any]:
    try:
        data = tomllib.loads(_read(file))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise AnswerKeyError(f"{file} is not valid TOML: {error}. Fix that line.") from None

    def take(key: str, fits: Callable[[Any], bool], form: str, default: Any = None) -> Any:
        value = data.pop(key, default)
        if not fits(value):
            raise AnswerKeyError(f"{file}: `{key}` should be {form}.")
        return value

    settings = {
        "difficulty": take("difficulty", DIFFICULTIES.__contains__, "one of " + ", ".join(DIFFICULTIES)),
        "minutes": take("minutes", lambda value: type(value) is int and value > 0, "a whole number above 0"),
        "requires": tuple(take("requires", _is_texts, "a list of slugs", [])),
        "forbids": tuple(take("forbids", _is_texts, "a list of names", [])),
        "hints": tuple(
            take("hints", lambda value: _is_texts(value) and 3 <= len(value) <= 5, "a list of 3 to 5 texts")
        ),
    }
    form = "given twice or more, each with `question` and `answer`"
    follow_ups = take("follow_up", _is_follow_ups, form)
    if data:
        raise AnswerKeyError(f"{file} has the unknown key `{next(iter(data))}`. Remove it, or correct its spelling.")
    return settings | {"follow_ups": tuple(FollowUp(**follow_up) for follow_up in follow_ups)}


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) and text.strip() for text in value)


def _is_follow_ups(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) >= 2
        and all(isinstance(item, dict) and item.keys() == {"question", "answer"} for item in value)
        and all(_is_texts(list(item.values())) for item in value)
    )


# --- order -----------------------------------------------------------------------------------------------


def _in_order(exercises: dict[str, Exercise]) -> tuple[Exercise, ...]:
    """Sort so that none comes before what it requires (Kahn's algorithm, always taking the first that may come)."""
    waiting: dict[str, set[str]] = {}
    for exercise in exercises.values():
        for slug in exercise.requires:
            if slug not in exercises:
                file = exercise.folder / "exercise.toml"
                raise AnswerKeyError(f"{file}: `requires` names `{slug}`, but there is no such exercise.")
        waiting[exercise.slug] = set(exercise.requires)
    ready = [_rank(exercises[slug]) for slug, before in waiting.items() if not before]
    heapq.heapify(ready)
    order: list[Exercise] = []
    while ready:
        exercise = exercises[heapq.heappop(ready)[-1]]
        order.append(exercise)
        for slug, before in waiting.items():
            if exercise.slug in before:
                before.discard(exercise.slug)
                if not before:
                    heapq.heappush(ready, _rank(exercises[slug]))
    if len(order) < len(exercises):
        raise AnswerKeyError(f"`requires` goes in a circle: {_circle(waiting)}. Take one of them out.")
    return tuple(order)


def _rank(exercise: Exercise) -> tuple[int, str, int, int, str]:
    track = TRACKS.index(exercise.track) if exercise.track in TRACKS else len(TRACKS)
    return track, exercise.track, DIFFICULTIES.index(exercise.difficulty), exercise.minutes, exercise.slug


def _circle(waiting: dict[str, set[str]]) -> str:
    path = [min(slug for slug, before in waiting.items() if before)]
    while path[-1] not in path[:-1]:
        path.append(min(waiting[path[-1]]))
    return " → ".join(path[path.index(path[-1]) :])
