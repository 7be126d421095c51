"""From a solution to the stub, and back to whether a stub was touched."""

from __future__ import annotations

import pytest

from grader.errors import AnswerKeyError
from grader.stub import is_untouched, make_stub, normalise

SOLUTION = '''\
"""Title"""

import torch


def outer(x):
    """Do it."""
    ### BEGIN SOLUTION
    def inner(y):
        return y

    return inner(x)
    ### END SOLUTION


class Layer:
    """A layer."""

    def __init__(self, width):
        super().__init__()
        ### BEGIN SOLUTION
        self.width = width
        ### END SOLUTION

    def forward(self, x):
        """Run."""
        if x is None:
            ### BEGIN SOLUTION
            x = 1
            ### END SOLUTION
        return x
'''
STUB = '''\
"""Title"""

import torch


def outer(x):
    """Do it."""
    raise NotImplementedError


class Layer:
    """A layer."""

    def __init__(self, width):
        super().__init__()
        raise NotImplementedError

    def forward(self, x):
        """Run."""
        if x is None:
            raise NotImplementedError
        return x
'''


def test_regions_become_gaps_and_all_else_stays():
    assert make_stub(SOLUTION) == STUB


def test_a_marker_in_a_string_is_text():
    source = (
        'def f():\n    """Between\n    ### BEGIN SOLUTION\n    and so on."""\n    ### BEGIN SOLUTION\n'
        "    return 1\n    ### END SOLUTION\n"
    )

    assert make_stub(source).count("BEGIN SOLUTION") == 1


def test_several_regions_in_one_function():
    body = "    ### BEGIN SOLUTION\n    x = 1\n    ### END SOLUTION\n"

    assert make_stub(f"def f():\n{body}    y = 2\n{body}") == (
        "def f():\n    raise NotImplementedError\n    y = 2\n    raise NotImplementedError\n"
    )


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def f():\n    return 1\n", "has no region"),
        ("### BEGIN SOLUTION\nx = 1\n### END SOLUTION\n", "may stand only in the body of a function"),
        ("### BEGIN SOLUTION\ndef f():\n    return 1\n### END SOLUTION\n", "may stand only in the body of a function"),
        (
            "class A:\n    ### BEGIN SOLUTION\n    x = 1\n    ### END SOLUTION\n",
            "may stand only in the body of a function",
        ),
        (
            "def f():\n    class A:\n        ### BEGIN SOLUTION\n        x = 1\n        ### END SOLUTION\n",
            "may stand only in the body of a function",
        ),
        (
            "def f():\n    x = 1\n    ### BEGIN SOLUTION\n    # nothing\n    ### END SOLUTION\n",
            "Line 3 of solution.py: this region is empty",
        ),
        ("def f():\n    ### BEGIN SOLUTION\n    return 1\n", "has no end"),
        ("def f():\n    ### END SOLUTION\n    return 1\n", "has no `### BEGIN SOLUTION` before it"),
        (
            (
                "def f():\n    ### BEGIN SOLUTION\n    x = 1\n    ### BEGIN SOLUTION\n    ### END SOLUTION\n"
                "    ### END SOLUTION\n"
            ),
            "is inside another region",
        ),
        ("def f():\n    x = 1 ### BEGIN SOLUTION\n    ### END SOLUTION\n", "shares its line with code"),
        ("def f():\n    x = (\n    ### BEGIN SOLUTION\n    1\n    ### END SOLUTION\n    )\n", "cuts through a block"),
        (
            (
                "def f():\n    ### BEGIN SOLUTION\n    if 1:\n        x = 1\n    ### END SOLUTION\n    else:\n"
                "        x = 2\n"
            ),
            "cuts through a block",
        ),
        (
            "def f():\n    if 1:\n        ### BEGIN SOLUTION\n        x = 1\n    y = 2\n    ### END SOLUTION\n",
            "cuts through a block",
        ),
        ("def f():\n        ### BEGIN SOLUTION\n    x = 1\n    ### END SOLUTION\n", "cuts through a block"),
        (
            "def f():\n    ### BEGIN SOLUTION\n    x = 1\n    ### END SOLUTION\ndef g(:\n",
            "The solution is not valid Python",
        ),
        (
            (
                "def f(x):\n    if x:\n        ### BEGIN SOLUTION\n        y = 1\n        ### END SOLUTION\n"
                "    else:\n        ### BEGIN SOLUTION\n        y = 2\n    z = 3\n    ### END SOLUTION\n"
            ),
            "cuts through a block",
        ),
    ],
)
def test_a_region_in_the_wrong_place_is_refused(source, said):
    with pytest.raises(AnswerKeyError) as error:
        make_stub(source)

    assert said in str(error.value)


def test_a_stub_with_other_comments_and_format_is_untouched():
    changed = STUB.replace('    """Do it."""\n', "    # soon\n").replace("def outer(x):", "def outer( x ):")

    assert is_untouched(STUB, STUB)
    assert is_untouched(changed, STUB)
    assert is_untouched(STUB.replace("\n", "\r\n"), STUB)


@pytest.mark.parametrize(
    "changed",
    [
        STUB.replace("        return x", "        return x + 1"),
        STUB.replace("import torch", "import torch, math"),
        SOLUTION,
        STUB + "x = 1\n",
        STUB + "def f(:\n",
        STUB + "\0",
        "x = " + "-" * 100_000 + "1",
        "",
    ],
    ids=range(8),
)
def test_a_stub_with_other_code_is_touched(changed):
    assert not is_untouched(changed, STUB)


def test_the_normal_form_forgets_docstrings_but_not_strings():
    assert normalise('def f():\n    "a"\n    return 1') == normalise("def f():\n    # b\n    return (1)")
    assert normalise("x = 'a'") != normalise("x = 'b'")
