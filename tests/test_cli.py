"""The command line: what its words mean, what it prints where, and its exit codes."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import grader.commands.grade
from grader.bank import load_exercises
from grader.cli import main
from grader.commands.grade import exit_code
from grader.commands.targets import is_file_name
from grader.errors import AnswerKeyError, EngineError, SandboxError
from grader.learner import demo
from grader.learner.workspace import Workspace
from grader.model import CheckResult, CheckVerdict, ExerciseResult, Report, Sandbox, Verdict

RIGHT = demo.SAMPLES / "rotary_pairs.py"
WRONG = demo.SAMPLES / "rotary_halves.py"


class FakeGrader:
    """Grades without an engine: a source that holds ``# right`` passes, every other fails."""

    graded: list[tuple[str, str]] = []  # noqa: RUF012 (reset for each test)
    seeds: list[int | None] = []  # noqa: RUF012

    def __init__(self, jobs=None):
        self.on_check = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def grade(self, work, seed=None):
        self.seeds.append(seed)
        for exercise, submission in reversed(work):  # results come in any order
            self.graded.append((exercise.slug, submission.file))
            passed = "# right" in submission.source
            checks = tuple(
                CheckResult(
                    check.name, check.title, check.visible, check.points * passed, check.points,
                    CheckVerdict.PASSED if passed else CheckVerdict.FAILED, "" if passed else "It differs.",
                )
                for check in exercise.checks
            )  # fmt: skip
            verdict = Verdict.PASSED if passed else Verdict.FAILED
            yield ExerciseResult(exercise.slug, exercise.track, exercise.title, submission.file, verdict, checks)

    def report(self, results, seed=None):
        versions = {"python": "3.11", "torch": "2.4"}
        return Report("0.1.0", 5 if seed is None else seed, Sandbox("full", ()), versions, tuple(results))


@pytest.fixture
def fake(monkeypatch):
    """Put ``FakeGrader`` in the engine's place."""
    monkeypatch.setattr(grader.commands.grade, "Grader", FakeGrader)
    monkeypatch.setattr(FakeGrader, "graded", [])
    monkeypatch.setattr(FakeGrader, "seeds", [])
    return FakeGrader


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def workspace(here, capsys):
    """Work in a folder with all stubs."""
    assert main(["init"]) == 0
    capsys.readouterr()
    return here


def begin(workspace: Path, slug: str = "rotary", text: str = "# right") -> Path:
    """Write ``text`` into the learner's file for an exercise."""
    (file,) = workspace.glob(f"exercises/*/{slug}.py")
    file.write_text(f"{text}\nx = 1\n", encoding="utf-8")
    return file


# --- words ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["rotary.py", "a.ipynb", "./rotary", "a/b", "..", "UPPER.PY"])
def test_a_file_is_told_by_its_look(word):
    assert is_file_name(word)


@pytest.mark.parametrize("word", ["rotary", "multi_head", "py", "rotery"])
def test_every_other_word_is_a_slug(word):
    assert not is_file_name(word)


@pytest.mark.parametrize(
    "words", [["--seed", "3", "rotary"], ["rotary", "--seed", "3"], ["grade", "rotary", "--seed=3"]]
)
def test_options_may_stand_on_either_side_of_the_slug(workspace, fake, words):
    begin(workspace)

    assert main(words) == 0
    assert fake.graded == [("rotary", "exercises/positions/rotary.py")]
    assert fake.seeds == [3]


def test_a_file_is_graded_as_its_name_says(here, fake):
    Path("rotary.py").write_text("# right\n")

    assert main(["rotary.py"]) == 0
    assert fake.graded == [("rotary", "rotary.py")]


def test_as_says_what_a_file_answers(here, fake):
    Path("mine.py").write_text("# right\n")

    assert main(["mine.py", "--as", "rotary"]) == 0
    assert fake.graded == [("rotary", "mine.py")]


def test_what_is_named_twice_is_graded_once(workspace, fake):
    begin(workspace)

    assert main(["rotary", "rotary", "exercises/positions/rotary.py"]) == 0
    assert len(fake.graded) == 1


def test_results_are_printed_in_the_order_of_the_words(workspace, fake, capsys):
    begin(workspace, "rotary"), begin(workspace, "multi_head")

    assert main(["rotary", "multi_head"]) == 0
    page = capsys.readouterr().out
    assert page.index("rotary, exercises") < page.index("multi_head, exercises")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["rotery"], "There is no exercise `rotery`. Did you mean `rotary`?"),
        (["rotary.py"], "The file `rotary.py` cannot be read: No such file or directory."),
        (["rotary"], "There is no file exercises/positions/rotary.py yet: `grade init` writes it."),
        (["mine.py"], "Which exercise does `mine.py` answer? Say so with `grade mine.py --as SLUG`"),
        (["mine.py", "--as", "rotery"], "Did you mean `rotary`?"),
        (["mine.py", "mine.py", "--as", "rotary"], "`--as` goes with one file"),
        (["rotary", "--as", "rotary"], "`--as` goes with one file"),
        (["--as", "rotary"], "`--as` needs the FILE"),
        (["folder/", "--as", "rotary"], "folder is a folder. Give a file in it."),
        (["mine.txt", "--as", "rotary"], "goes with one file"),
        (["./mine.txt", "--as", "rotary"], "neither a Python file nor a notebook"),
        (["a" * 300 + ".py", "--as", "rotary"], "cannot be read: File name too long."),
        (["mine.py", "--as", "rotary", "--out", "no/report"], "there is no folder `no`"),
        (["mine.py", "--as", "rotary", "--out", "folder"], "that is not a file"),
        (["mine.py", "--as", "rotary", "--out", "mine.py"], "would replace the file that is being graded"),
        (["--format", "xml", "rotary"], "'xml' is not one of 'text', 'json', 'junit'"),
        (["--seed", "-1", "rotary"], "-1 is not in the range x>=0"),
        (["--seed", "3", "list"], "`list` is a command of its own: put it first."),
        (["--sed", "3", "rotary"], "No such option"),
        (["dev", "new", "rotary"], "Name the track too: `grade dev new positions/rotary`."),
        (["dev", "new", "positions/rotary"], "is there already"),
        (["dev", "check", "rotery"], "Did you mean `rotary`?"),
        (["init", "mine.py"], "`mine.py` is a file. Name a folder."),
    ],
)  # fmt: skip
def test_wrong_usage_is_a_sentence_and_2(here, fake, capsys, words, sentence):
    Path("mine.py").write_text("# right\n")
    Path("mine.txt").write_text("# right\n")
    Path("folder").mkdir()

    assert main(words) == 2
    out, err = capsys.readouterr()
    assert sentence in err
    assert out == ""
    assert "Traceback" not in err


# --- exit codes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        ([], 1),
        ([Verdict.PASSED, Verdict.PASSED], 0),
        ([Verdict.PASSED, Verdict.FAILED], 1),
        ([Verdict.NOT_ATTEMPTED], 1),
        ([Verdict.FAILED, Verdict.ERROR], 3),
    ],
)
def test_exit_code_of_verdicts(verdicts, code):
    assert exit_code(set(verdicts)) == code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SandboxError("The sandbox is weaker than asked."), 4),
        (EngineError("The judge has ended."), 3),
        (AnswerKeyError("A key is broken."), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_are_a_sentence_on_standard_error(monkeypatch, capsys, error, code):
    def fail(*_):
        raise error

    monkeypatch.setattr("grader.commands.grade.grade_targets", fail)

    assert main(["rotary"]) == code
    out, err = capsys.readouterr()
    assert (out, err.strip()) == ("", str(error) or "Stopped.")


def test_our_own_mistake_is_an_apology(monkeypatch, capsys):
    def fail(*_):
        raise ZeroDivisionError("x")

    monkeypatch.setattr("grader.commands.grade.grade_targets", fail)
    monkeypatch.delenv("GRADE_DEBUG", raising=False)

    assert main(["rotary"]) == 3
    assert capsys.readouterr().err.startswith("Sorry, the grader itself failed (ZeroDivisionError).")
    monkeypatch.setenv("GRADE_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        main(["rotary"])


def test_a_file_that_is_no_python_costs_only_itself(here, fake, capsys):
    Path("rotary.py").write_text("def f(:\n")
    Path("multi_head.py").write_text("# right\n")

    assert main(["rotary.py", "multi_head.py", "--format", "json"]) == 3
    first, second = json.loads(capsys.readouterr().out)["exercises"]
    assert (first["verdict"], first["points"], first["line"]) == ("error", 0.0, 1)
    assert "Line 1" in first["message"]
    assert {check["verdict"] for check in first["checks"]} == {"skipped"}
    assert second["verdict"] == "passed"


# --- where the report goes --------------------------------------------------------------------------------


def test_json_is_all_that_stands_on_standard_output(here, fake, capsys):
    Path("rotary.py").write_text("# wrong\n")

    assert main(["rotary.py", "--format", "json", "--seed", "7"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["seed"] == 7
    assert err == ""


@pytest.mark.parametrize("form", ["json", "text"])
def test_out_is_written_whole_and_leaves_nothing_beside_it(here, fake, capsys, form):
    Path("rotary.py").write_text("# right\n")
    Path("report").write_text("old")

    assert main(["rotary.py", "--format", form, "--out", "report"]) == 0
    assert capsys.readouterr().out == ""
    page = Path("report").read_text(encoding="utf-8")
    assert json.loads(page)["schema"] == 1 if form == "json" else "points, passed" in page
    assert "\x1b" not in page
    assert sorted(path.name for path in here.iterdir()) == ["report", "rotary.py"]


def test_feedback_reaches_the_report(here, fake, capsys):
    Path("rotary.py").write_text("# wrong\n")

    for feedback, shown in ("full", True), ("titles", False), ("score", False):
        assert main(["rotary.py", "--feedback", feedback]) == 1
        assert ("It differs." in capsys.readouterr().out) is shown


# --- grade without arguments ------------------------------------------------------------------------------


def test_an_empty_folder_is_told_about_init(here, fake, capsys):
    assert main([]) == 1
    assert "`grade init` writes them." in capsys.readouterr().out


def test_fresh_stubs_are_nothing_to_grade(workspace, fake, capsys):
    assert main([]) == 1
    assert "Nothing to grade yet" in capsys.readouterr().out
    assert fake.graded == []


def test_what_changed_is_graded_once(workspace, fake, capsys):
    begin(workspace, "rotary")

    codes = [main([]), main([])]

    assert codes == [0, 0]
    assert fake.graded == [("rotary", "exercises/positions/rotary.py")]
    assert "Nothing has changed since it was last graded." in capsys.readouterr().out
    begin(workspace, "rotary", "# wrong")
    assert main([]) == 1
    assert len(fake.graded) == 2


def test_what_failed_before_still_counts(workspace, fake):
    begin(workspace, "rotary", "# wrong")
    assert main(["rotary"]) == 1
    begin(workspace, "multi_head")

    assert main([]) == 1, "multi_head passes, but rotary has not"
    assert [slug for slug, _ in fake.graded] == ["rotary", "multi_head"]


def test_a_file_from_elsewhere_leaves_no_trace_in_the_workspace(workspace, fake):
    Path("rotary.py").write_text("# right\n")

    assert main(["rotary.py"]) == 0
    assert Workspace(workspace).last() == {}


# --- the other commands -----------------------------------------------------------------------------------


def test_init_keeps_what_is_there(workspace, capsys):
    file = begin(workspace)

    assert main(["init"]) == 0
    assert file.read_text(encoding="utf-8").startswith("# right")
    assert "there already" in capsys.readouterr().out


def test_init_makes_the_folder(here, capsys):
    assert main(["init", "new/place"]) == 0
    assert Path("new/place/exercises/positions/rotary.py").is_file()
    assert "go to new/place" in " ".join(capsys.readouterr().out.split())


def test_list_shows_every_exercise_in_order(here, capsys):
    assert main(["list"]) == 0
    slugs = [exercise.slug for exercise in load_exercises()]
    page = capsys.readouterr().out
    assert re.findall(rf"^({'|'.join(slugs)})\b(?! *$)", page, re.MULTILINE) == slugs


def test_dev_check_says_what_is_wrong_and_where(monkeypatch, capsys):
    def check(exercises, root, jobs):
        return [(exercise, ["`test_x` catches nothing."] * (exercise.slug == "rotary")) for exercise in exercises]

    monkeypatch.setattr("grader.commands.author.check", check)

    assert main(["dev", "check", "rotary", "multi_head", "--jobs", "2"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "  ✗ positions/rotary", "      `test_x` catches nothing.", "  ✓ attention/multi_head", "1 of 2 need mending."
    ]  # fmt: skip
    assert main(["dev", "check", "multi_head"]) == 0


def test_dev_sync_says_what_it_wrote(monkeypatch, capsys):
    monkeypatch.setattr("grader.commands.author.sync", lambda exercises, root: [root / "exercises/positions/x.py"])

    assert main(["dev", "sync"]) == 0
    assert capsys.readouterr().out == "written: exercises/positions/x.py\n"


def run(*words: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "grader", *words], capture_output=True, text=True, check=False, timeout=100, **options
    )


def test_help_imports_nothing_heavy():
    code = "import sys, grader.cli; grader.cli.main(['--help']); print(*sys.modules)"

    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert not {"torch", "numpy", "rich", "nbformat", "grader.bank", "grader.judge.client"} & set(modules)


def test_help_names_commands_options_and_exit_codes():
    page = run("--help").stdout

    for word in ("init", "demo", "doctor", "dev", "--as", "--seed", "--feedback", "Exit code"):
        assert word in page
    assert run("rotary", "--help").stdout.startswith("Usage: grade [OPTIONS] [SLUG|FILE]...")


def test_a_closed_pipe_is_silent(here):
    command = f"{sys.executable} -m grader list | true; echo ${{PIPESTATUS[0]}}"

    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)

    assert done.stderr == ""
    assert done.stdout.strip() in ("0", "141"), "as quick as the pipe's end or not"


# --- with the engine --------------------------------------------------------------------------------------


@pytest.mark.xdist_group("engine")
def test_right_wrong_and_unwritten_files_are_told_apart(workspace):
    shutil.copy(RIGHT, "rotary.py")
    shutil.copy(WRONG, workspace / "exercises/positions/rotary.py")

    done = run("rotary.py", "rotary", "multi_head", "--format", "json", "--seed", "11")

    right, wrong, unwritten = json.loads(done.stdout)["exercises"]
    assert (done.returncode, done.stderr) == (1, "")
    assert (right["verdict"], right["points"]) == ("passed", right["max_points"])
    assert wrong["verdict"] == "failed"
    assert [diagnosis["name"] for diagnosis in wrong["diagnoses"]] == ["pairs_are_halves"]
    assert (unwritten["verdict"], unwritten["points"]) == ("not_attempted", 0.0)
    again = json.loads(run("rotary.py", "rotary", "multi_head", "--format", "json", "--seed", "11").stdout)
    assert without_timing(again) == without_timing(json.loads(done.stdout))


def without_timing(report: dict) -> dict:
    return report | {"exercises": [result | {"timing": None} for result in report["exercises"]]}


@pytest.mark.xdist_group("engine")
def test_the_demo_leaves_nothing_behind(here):
    done = run("demo")

    assert (done.returncode, done.stderr) == (0, "")
    assert "What your code does" in done.stdout
    assert re.search(r"(\d+) / \1 points, passed", done.stdout)
    assert list(here.iterdir()) == []


@pytest.mark.xdist_group("engine")
def test_the_doctor_explains_the_sandbox(here):
    done = run("doctor")

    assert done.returncode == 0
    for word in ("PyTorch", "answer keys", "your files", "sandbox", "landlock", "seccomp"):
        assert word in done.stdout


@pytest.mark.xdist_group("engine")
def test_ctrl_c_stops_with_a_sentence_and_leaves_no_process(here):
    Path("rotary.py").write_text("while True: pass\n")
    grade = subprocess.Popen(
        [sys.executable, "-m", "grader", "rotary.py"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    family = []
    while len(family) < 4 and grade.poll() is None:  # server, zygote, judge and candidate
        time.sleep(0.05)
        family = psutil.Process(grade.pid).children(recursive=True)

    grade.send_signal(signal.SIGINT)

    out, err = grade.communicate(timeout=30)
    assert (grade.returncode, out, err.strip()) == (130, "", "Stopped.")
    assert psutil.wait_procs(family, timeout=5)[1] == []


@pytest.mark.xdist_group("engine")
def test_the_command_line_itself_never_imports_torch(here):
    shutil.copy(RIGHT, "rotary.py")
    code = "import sys, grader.cli; grader.cli.main(['rotary.py']); print('torch' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "False"
