"""The learner's folder: stubs written once, progress noted, nothing of theirs overwritten."""

from __future__ import annotations

import os
import stat

import pytest

from grader.errors import UsageError
from grader.learner.workspace import Graded, Status, Workspace, dump_state, parse_state
from grader.model import Exercise, Verdict

SOLUTION = "def f():\n    ### BEGIN SOLUTION\n    return {}\n    ### END SOLUTION\n"
STUB = "def f():\n    raise NotImplementedError\n"


@pytest.fixture
def exercises(tmp_path):
    found = []
    for track, slug in ("positions", "rotary"), ("attention", "softmax"):
        folder = tmp_path / "bank" / track / slug
        folder.mkdir(parents=True)
        (folder / "solution.py").write_text(SOLUTION.format(slug))
        found.append(Exercise(slug, track, "Title", "Brief", folder, ("f",), (), "easy", 5))
    return found


@pytest.fixture
def workspace(tmp_path):
    root = tmp_path / "work"
    root.mkdir()
    return Workspace(root)


def test_it_is_the_nearest_folder_upward_that_holds_exercises(tmp_path):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)

    assert Workspace.find(inner) == Workspace(inner)
    (tmp_path / "exercises").mkdir()
    assert Workspace.find(inner) == Workspace(tmp_path)
    assert Workspace.find(tmp_path / "exercises") == Workspace(tmp_path)
    (tmp_path / "a" / "exercises").write_text("a file")
    assert Workspace.find(inner) == Workspace(tmp_path)


def test_stubs_are_written_once_and_never_again(workspace, exercises):
    rotary, softmax = exercises

    first = workspace.init([rotary])
    workspace.stub_path(rotary).write_text("mine")
    second = workspace.init(exercises)

    assert first == [(workspace.root / "exercises" / "positions" / "rotary.py", True)]
    assert second == [(workspace.stub_path(rotary), False), (workspace.stub_path(softmax), True)]
    assert workspace.stub_path(rotary).read_text() == "mine"
    assert workspace.stub_path(softmax).read_text() == STUB
    assert workspace.init(exercises) == [(path, False) for path, _ in second]


def test_a_dangling_link_is_not_written_through(workspace, exercises, tmp_path):
    path = workspace.stub_path(exercises[0])
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "elsewhere")

    assert workspace.init(exercises[:1]) == [(path, False)]
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_in_the_way_is_named(workspace, exercises):
    (workspace.root / "exercises").write_text("a file")

    with pytest.raises(UsageError):
        workspace.init(exercises)


def test_the_status_of_a_file(workspace, exercises):
    rotary = exercises[0]
    path = workspace.stub_path(rotary)

    assert workspace.status(rotary) is Status.MISSING
    workspace.init(exercises)
    assert workspace.status(rotary) is Status.UNTOUCHED
    path.write_text("# now\n" + STUB)
    assert workspace.status(rotary) is Status.UNTOUCHED
    path.write_bytes(b"\xef\xbb\xbf" + STUB.replace("\n", "\r\n").encode())
    assert workspace.status(rotary) is Status.UNTOUCHED
    for content in b"def f(): return 1", b"def f(:", b"\xff\xfe", b"\0":
        path.write_bytes(content)
        assert workspace.status(rotary) is Status.EDITED
    path.unlink()
    os.mkfifo(path)
    assert workspace.status(rotary) is Status.EDITED


def test_what_changed_since_the_last_grading(workspace, exercises):
    rotary, softmax = exercises
    workspace.init(exercises)
    assert workspace.changed_since_last(exercises) == ()

    for exercise in exercises:
        workspace.stub_path(exercise).write_text("def f(): return 1\n")
    assert workspace.changed_since_last(exercises) == (rotary, softmax)

    workspace.record({"rotary": Graded(workspace.digest_of(rotary), Verdict.PASSED)})
    assert workspace.changed_since_last(exercises) == (softmax,)

    workspace.record({"softmax": Graded(workspace.digest_of(softmax), Verdict.FAILED)})
    assert workspace.changed_since_last(exercises) == ()
    assert {slug: one.verdict for slug, one in workspace.last().items()} == {"rotary": "passed", "softmax": "failed"}

    workspace.stub_path(rotary).write_text("def f(): return 2\n")
    assert workspace.changed_since_last(exercises) == (rotary,)


def test_an_unreadable_file_is_always_graded_again(workspace, exercises):
    rotary = exercises[0]
    path = workspace.stub_path(rotary)
    path.parent.mkdir(parents=True)
    os.mkfifo(path)

    workspace.record({"rotary": Graded(workspace.digest_of(rotary), Verdict.ERROR)})

    assert workspace.digest_of(rotary) == ""
    assert workspace.changed_since_last([rotary]) == (rotary,)


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"graded": []}',
        b'{"graded": {"a": 1, "b": {"digest": "x"}, "c": {"digest": "x", "verdict": "great"}, "d": null}}',
        b"[" * 100_000,
        b"\xff",
        b"9" * 5000,
        b" " * (2 << 20),
    ],
    ids=range(10),
)
def test_a_damaged_note_is_forgotten_and_written_anew(workspace, damaged):
    note = workspace.root / ".grade" / "state.json"
    note.parent.mkdir()
    note.write_bytes(damaged)

    assert workspace.last() == {}
    workspace.record({"a": Graded("digest", Verdict.PASSED)})

    assert workspace.last() == {"a": Graded("digest", Verdict.PASSED)}
    assert [path.name for path in note.parent.iterdir()] == ["state.json"]


def test_the_good_parts_of_a_note_are_kept():
    graded = {"b": Graded("y", Verdict.ERROR), "a": Graded("x", Verdict.NOT_ATTEMPTED)}

    assert parse_state(dump_state(graded)) == graded
    assert parse_state(dump_state(graded).replace(b'"y"', b"[]").replace(b'"error"', b"2")) == {"a": graded["a"]}


def test_a_folder_that_cannot_be_written_is_no_error(workspace):
    (workspace.root / ".grade").write_text("a file")

    workspace.record({"a": Graded("digest", Verdict.PASSED)})

    assert workspace.last() == {}


@pytest.mark.skipif(getattr(os, "geteuid", int)() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_no_error(workspace):
    workspace.root.chmod(stat.S_IRUSR | stat.S_IXUSR)

    workspace.record({"a": Graded("digest", Verdict.PASSED)})

    assert workspace.last() == {}
