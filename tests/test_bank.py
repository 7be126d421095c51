"""Answer keys are read without being run, checked, and put in order."""

from __future__ import annotations

import pytest

from grader.bank import find_exercise, load_exercises
from grader.errors import AnswerKeyError, UsageError

TOML = """\
difficulty = "{difficulty}"
minutes = {minutes}
requires = {requires}
forbids = ["layer_norm", "import numpy"]
hints = ["one", "two", "three"]
[[follow_up]]
question = "Why?"
answer = "Because."
[[follow_up]]
question = "How?"
answer = "So."
"""
SOLUTION = '''\
"""Rotary position embedding

Turn the pairs of features.

Second paragraph.
"""
raise SystemExit("never run")
import torch
def angles(x): ...
class Rotary: ...
async def later(): ...
def _private(): ...
CONSTANT = 1
'''
SUITE = '''\
"""The suite."""
import pytest
raise SystemExit("never run")
def helper(): ...
@pytest.mark.visible
@pytest.mark.points(2)
def test_shape(impl, randn):
    """one token has the right shape

    More.
    """
@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.points(0.5)
def test_numbers(impl, reference, n):
    """numbers match"""
def test_plain(impl):
    """a third"""
def probe(impl): ...
'''


def write(root, track="positions", slug="rotary", *, difficulty="easy", minutes=10, requires=(), **files):
    folder = root / track / slug
    folder.mkdir(parents=True)
    toml = TOML.format(difficulty=difficulty, minutes=minutes, requires=list(requires))
    texts = {"exercise.toml": toml, "solution.py": SOLUTION, f"test_{slug}.py": SUITE, "variants.py": ""}
    for name, text in texts.items():
        new = files.get(name.replace(f"test_{slug}", "suite").partition(".")[0], text)
        if new is not None:
            (folder / name).write_text(new, encoding="utf-8")
    return folder


def test_everything_in_a_folder_is_read_and_nothing_run(tmp_path):
    folder = write(tmp_path, difficulty="hard", minutes=25)

    (exercise,) = load_exercises(tmp_path)

    assert (exercise.slug, exercise.track, exercise.folder) == ("rotary", "positions", folder)
    assert exercise.title == "Rotary position embedding"
    assert exercise.brief == "Turn the pairs of features.\n\nSecond paragraph."
    assert exercise.names == ("angles", "Rotary", "later")
    assert (exercise.difficulty, exercise.minutes) == ("hard", 25)
    assert exercise.forbids == ("layer_norm", "import numpy")
    assert exercise.hints == ("one", "two", "three")
    assert [(one.question, one.answer) for one in exercise.follow_ups] == [("Why?", "Because."), ("How?", "So.")]
    assert [(check.name, check.title, check.visible, check.points) for check in exercise.checks] == [
        ("test_shape", "one token has the right shape", True, 2.0),
        ("test_numbers", "numbers match", False, 0.5),
        ("test_plain", "a third", False, 1.0),
    ]
    assert exercise.max_points == 3.5


def test_the_order_is_by_track_then_difficulty_minutes_and_slug_and_by_what_is_required(tmp_path):
    write(tmp_path, "models", "llama", requires=["zeta"])
    write(tmp_path, "attention", "flash", difficulty="hard")
    write(tmp_path, "attention", "alpha", minutes=20)
    write(tmp_path, "attention", "beta", minutes=5)
    write(tmp_path, "positions", "zeta", difficulty="medium")
    write(tmp_path, "positions", "relative", requires=["beta"])
    write(tmp_path, "extra", "own")
    write(tmp_path, "blocks", "first", requires=["second"])
    write(tmp_path, "blocks", "second", difficulty="hard")

    slugs = [exercise.slug for exercise in load_exercises(tmp_path)]

    assert slugs == ["zeta", "beta", "relative", "alpha", "flash", "second", "first", "llama", "own"]


def test_stray_files_and_hidden_folders_are_passed_over(tmp_path):
    write(tmp_path)
    (tmp_path / "README.md").write_text("")
    (tmp_path / "positions" / "notes.txt").write_text("")
    for name in ".git", "__pycache__":
        (tmp_path / name / "x").mkdir(parents=True)
        (tmp_path / "positions" / name).mkdir()

    assert len(load_exercises(tmp_path)) == 1


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"solution": None}, "solution.py is missing. Every exercise has exercise.toml, solution.py, test_rotary.py"),
        ({"suite": None}, "test_rotary.py is missing"),
        ({"exercise": None}, "exercise.toml is missing"),
        ({"variants": None}, "variants.py is missing"),
        ({"solution": "def"}, "solution.py is not valid Python"),
        ({"suite": "def"}, "test_rotary.py is not valid Python"),
        ({"solution": "def f(): ..."}, "the docstring's first line is the title"),
        ({"solution": '"""Title"""\ndef f(): ...'}, "the docstring's first line is the title"),
        ({"solution": '"""Title.\n\nBrief\n"""\ndef f(): ...'}, "the title ends with a full stop"),
        ({"solution": '"""Title\n\nBrief\n"""\nx = 1'}, "should define public functions or classes"),
        ({"solution": '"""Title\n\nBrief\n"""\ndef f(): ...\ndef f(): ...'}, "each of them once"),
        ({"suite": "x = 1"}, "has no check"),
        ({"suite": "def test_a(impl): ..."}, "`test_a` has no docstring"),
        ({"suite": 'def test_a(): "a"\ndef test_a(): "b"'}, "there are two checks `test_a`"),
        ({"suite": "class TestA: ..."}, "checks are plain functions"),
        ({"suite": '@pytest.mark.skip\ndef test_a(): "a"'}, "has the mark `skip`"),
        ({"suite": '@pytest.mark.visble\ndef test_a(): "a"'}, "has the mark `visble`"),
        ({"suite": '@pytest.mark.points\ndef test_a(): "a"'}, "write its points as one number above 0"),
        ({"suite": '@pytest.mark.points(1 + 1)\ndef test_a(): "a"'}, "write its points as one number above 0"),
        ({"suite": '@pytest.mark.points(True)\ndef test_a(): "a"'}, "write its points as one number above 0"),
        ({"suite": '@pytest.mark.points(0)\ndef test_a(): "a"'}, "write its points as one number above 0"),
        ({"suite": '@pytest.mark.visible\ndef test_a(impl, twins): "a"'}, "is visible and uses `twins`"),
        ({"exercise": "x = "}, "exercise.toml is not valid TOML"),
        ({"exercise": "minutes = 1"}, "`difficulty` should be one of easy, medium, hard"),
        ({"exercise": 'difficulty = "easy"\nminutes = 1.5'}, "`minutes` should be a whole number above 0"),
        ({"exercise": 'difficulty = "easy"\nminutes = true'}, "`minutes` should be a whole number above 0"),
        ({"exercise": 'difficulty = "easy"\nminutes = 1\nrequires = "a"'}, "`requires` should be a list of slugs"),
        ({"exercise": 'difficulty = "easy"\nminutes = 1\nhints = ["a", "b"]'}, "`hints` should be a list of 3 to 5"),
        (
            {"exercise": TOML.format(difficulty="easy", minutes=1, requires=[]).replace('answer = "So."', "")},
            "`follow_up`",
        ),
        ({"exercise": "title = 'x'\n" + TOML.format(difficulty="easy", minutes=1, requires=[])}, "unknown key `title`"),
        ({"requires": ["nothing"]}, "`requires` names `nothing`, but there is no such exercise"),
        ({"requires": ["rotary"]}, "`requires` goes in a circle: rotary → rotary"),
    ],
)
def test_a_broken_rule_is_named_with_its_file(tmp_path, files, said):
    write(tmp_path, **files)

    with pytest.raises(AnswerKeyError) as error:
        load_exercises(tmp_path)

    assert said in str(error.value)
    assert str(error.value).endswith(".")


def test_a_circle_is_shown(tmp_path):
    write(tmp_path, slug="a", requires=["b"])
    write(tmp_path, slug="b", requires=["c"])
    write(tmp_path, slug="c", requires=["b"])

    with pytest.raises(AnswerKeyError, match="circle: b → c → b"):
        load_exercises(tmp_path)


def test_two_folders_of_one_name_are_refused(tmp_path):
    write(tmp_path, "positions")
    write(tmp_path, "attention")

    with pytest.raises(AnswerKeyError, match="have the same name"):
        load_exercises(tmp_path)


def test_a_slug_is_a_plain_name(tmp_path):
    write(tmp_path, slug="Rotary-2")

    with pytest.raises(AnswerKeyError, match="small letters"):
        load_exercises(tmp_path)


def test_text_that_is_not_utf_8_is_refused(tmp_path):
    folder = write(tmp_path)
    (folder / "solution.py").write_bytes(b"# \xff")

    with pytest.raises(AnswerKeyError, match=r"solution\.py cannot be read"):
        load_exercises(tmp_path)


def test_an_empty_bank_is_refused(tmp_path):
    with pytest.raises(AnswerKeyError, match="holds no exercise"):
        load_exercises(tmp_path)


def test_a_slug_is_found_and_a_typo_gets_the_closest_name(tmp_path):
    write(tmp_path)
    exercises = load_exercises(tmp_path)

    assert find_exercise("rotary", exercises) is exercises[0]
    with pytest.raises(UsageError) as typo:
        find_exercise("rotery", exercises)
    assert str(typo.value) == "There is no exercise `rotery`. Did you mean `rotary`? `grade list` shows all."
    with pytest.raises(UsageError) as other:
        find_exercise("xyz", exercises)
    assert str(other.value) == "There is no exercise `xyz`. `grade list` shows all."
