"""Files and notebooks are read with limits; a bad one costs one sentence and nothing else."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from grader.errors import SubmissionError, UsageError
from grader.notebook import blank_magics
from grader.submission import MAX_SOURCE, guess_slug, read_submission


def code(source, **grade):
    return {"cell_type": "code", "source": source, "metadata": {"grade": grade} if grade else {}, "outputs": []}


def text(source):
    return {"cell_type": "markdown", "source": source, "metadata": {}}


def notebook(tmp_path, *cells, **grade):
    path = tmp_path / "rotary.ipynb"
    metadata = {"grade": grade} if grade else {}
    path.write_text(json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}))
    return path


def write(tmp_path, data, name="rotary.py"):
    path = tmp_path / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def refusal(path):
    with pytest.raises(SubmissionError) as error:
        read_submission(path, "rotary")
    return error.value


# --- files -----------------------------------------------------------------------------------------------


def test_a_file_is_read_as_it_stands(tmp_path):
    path = write(tmp_path, "def f():\n    return 'ü'\n")

    submission = read_submission(path, "rotary")

    assert submission.source == "def f():\n    return 'ü'\n"
    assert (submission.slug, submission.file, submission.lines) == ("rotary", path.as_posix(), ())


@pytest.mark.parametrize(
    ("data", "source"),
    [
        (b"x = 1\r\ny = 2\r\n", "x = 1\ny = 2\n"),
        (b"x = 1\ry = 2", "x = 1\ny = 2"),
        (b"\xef\xbb\xbfx = 1\n", "x = 1\n"),
        (b"# coding: latin-1\nx = '\xfc'\n", "# coding: latin-1\nx = 'ü'\n"),
        (
            b"#!/usr/bin/python\n# -*- coding: cp1252 -*-\nx = '\x80'",
            "#!/usr/bin/python\n# -*- coding: cp1252 -*-\nx = '€'",
        ),
        (b"# coding: utf-8\nx = '\xc3\xbc'", "# coding: utf-8\nx = 'ü'"),
        (b"", ""),
        (b"x = '\\d'\n", "x = '\\d'\n"),
        (b"x = 1\n\x0cy = 2\n", "x = 1\n\x0cy = 2\n"),
    ],
)
def test_encodings_and_line_ends(tmp_path, data, source):
    assert read_submission(write(tmp_path, data), "rotary").source == source


@pytest.mark.parametrize(
    ("data", "message", "line"),
    [
        (b"x = 1\ny = '\xff'\n", "Line 2 of the file is not UTF-8 text. Save it as UTF-8", 2),
        (b"# coding: nonsense\n", "The file's encoding is not known.", None),
        (b"# coding: rot13\n", "The file is encoded as rot-13.", None),
        (b"# coding: utf-7\n+AHg- = 1", "The file is encoded as utf-7.", None),
        (b"# coding: unicode_escape\n\\x41", "The file is encoded as unicode-escape.", None),
        (b"\xef\xbb\xbf# coding: latin-1\n", "The file's encoding is not known.", None),
        ("x = 1".encode("utf-16"), "The file holds NUL bytes", None),
        (b"x = 1\0", "The file holds NUL bytes", None),
        (b"\x7fELF\x02\x01\x01", "Line 1 is not valid Python", 1),
        (b"#" * (MAX_SOURCE + 1), "is larger than 1 MiB", None),
    ],
)
def test_what_is_no_text_is_refused(tmp_path, data, message, line):
    error = refusal(write(tmp_path, data))

    assert message in str(error)
    assert error.line == line


def test_a_syntax_error_shows_its_line(tmp_path):
    error = refusal(write(tmp_path, "import torch\n\ndef f(x:\n    return x\n"))

    assert str(error) == (
        "Line 3 is not valid Python: '(' was never closed.\n    def f(x:\nFix it and run the same command again."
    )
    assert error.line == 3


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("return 1", 1),
        ("def f():\n    x = 1\n  y = 2", 3),
        ("if 1:\n\tx = 1\n        y = 2", 3),
        ("def f(a, a): pass", 1),
        ("x = 1\nawait x", 2),
        ("x = 1\nfrom __future__ import annotations", 2),
        ("x = '", 1),
        ("def f():\n", 1),
        ("x = 1\n\n\n\nif", 5),
        ("break", 1),
        ("x = " + "9" * 5000, 1),
    ],
)
def test_every_syntax_error_has_a_line(tmp_path, source, line):
    assert refusal(write(tmp_path, source)).line == line


def test_the_line_is_shown_without_control_characters_and_shortened(tmp_path):
    error = refusal(write(tmp_path, "x = = '\x1b[31m\x07" + "a" * 500 + "'"))

    shown = str(error).split("\n")[1]
    assert shown.startswith("    x = = ' [31m aaa")
    assert len(shown) <= 4 + 120
    assert "\x1b" not in str(error)


@pytest.mark.parametrize(
    "source",
    [
        "x = " + "(" * 5000 + ")" * 5000,
        "x = " + "[" * 150 + "]" * 150 + "+" + "-" * 300 + "1",
        "x = " + "-" * 200_000 + "1",
        "x = a" + ".a" * 500_000,
        "import a" + ".a" * 500_000,
        "import a" + " . a" * 250_000,
        "import a" + ".\\\na" * 250_000,
        "x = 1" + " + 1" * 100_000,
        "x = " + "lambda: " * 100_000 + "1",
        "x = " + "not " * 100_000 + "1",
        "if 1: pass\n" + "elif 1: pass\n" * 50_000,
        "x = a" + "()" * 300_000,
        "x = f" + '"{' * 1000 + '}"' * 1000,
        "".join(" " * i + "if 1:\n" for i in range(150)) + " " * 150 + "pass",
    ],
    ids=range(14),
)
def test_deep_nesting_is_refused_soon(tmp_path, source):
    path = write(tmp_path, source)
    begin = time.perf_counter()

    error = refusal(path)

    assert time.perf_counter() - begin < 5
    assert "Fix it" in str(error) or "nested too deeply" in str(error)


def test_a_long_but_flat_file_is_fine(tmp_path):
    source = "x = [\n" + "    1,\n" * 20_000 + "]\n"

    assert read_submission(write(tmp_path, source), "rotary").source == source


def test_missing_files_folders_and_other_kinds_are_wrong_usage(tmp_path):
    write(tmp_path, "x", "notes.txt")
    (tmp_path / "folder.py").mkdir()

    for name, message in [
        ("none.py", "There is no file"),
        ("notes.txt/x.py", "There is no file"),
        ("folder.py", "is a folder. Give a file in it."),
        ("notes.txt", "is neither a Python file nor a notebook"),
        ("a\0b.py", "There is no file"),
        ("a" * 5000 + ".py", "cannot be read"),
    ]:
        with pytest.raises((UsageError, SubmissionError), match=message):
            read_submission(tmp_path / name, "rotary")


def test_only_plain_files_are_read_and_nothing_waits(tmp_path):
    secret = write(tmp_path, "secret = 1", "solution.py")
    (tmp_path / "link.py").symlink_to(secret)
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "zero.py").symlink_to("/dev/zero")

    assert "is a link, and only plain files are read" in str(refusal(tmp_path / "link.py"))
    assert "is not a plain file" in str(refusal(tmp_path / "pipe.py"))
    assert "is a link" in str(refusal(tmp_path / "zero.py"))


@pytest.mark.skipif(getattr(os, "geteuid", int)() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path):
    path = write(tmp_path, "x = 1")
    path.chmod(0)

    assert "cannot be read" in str(refusal(path))


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("rotary.py", "rotary"),
        ("rotary.ipynb", "rotary"),
        ("rotary (1).py", "rotary"),
        ("rotary(12).py", "rotary"),
        ("deep/er/rotary.py", "rotary"),
        ("rotary_half.py", "rotary_half"),
        ("rotary-final.py", None),
        ("Rotary.py", None),
        ("rotary (copy).py", None),
        ("rotary (1) (2).py", None),
        ("my rotary.py", None),
        (".py", None),
    ],
)
def test_a_file_is_guessed_by_its_name_alone(name, slug):
    assert guess_slug(Path(name), ["softmax", "rotary", "rotary_half"]) == slug


# --- notebooks -------------------------------------------------------------------------------------------


def test_code_cells_are_joined_and_lines_remember_their_cell(tmp_path):
    path = notebook(tmp_path, text("# Title"), code("import torch\n"), text("-"), code(["def f():\n", "    return 1"]))

    submission = read_submission(path, "rotary")

    assert submission.source == "import torch\n\ndef f():\n    return 1"
    assert submission.lines == ("cell 2, line 1", "cell 2, line 2", "cell 4, line 1", "cell 4, line 2")
    assert len(submission.source.split("\n")) == len(submission.lines)


def test_what_a_kernel_allows_in_any_cell_is_no_syntax_error_in_a_file(tmp_path):
    answer = "import math\nfrom __future__ import annotations\n\ndef f(x: Unknown):\n    return x\n\ndisplay(f(1))"
    path = notebook(
        tmp_path, code('"""Words."""\nfrom __future__ import annotations'), code(answer), code("await f(2)")
    )

    submission = read_submission(path, "rotary")
    exec(submission.source, {})

    rows = submission.source.split("\n")
    assert rows[0] == "from __future__ import annotations; display = print"
    assert "await" not in submission.source
    assert submission.lines[rows.index("def f(x: Unknown):")] == "cell 2, line 4"


def test_a_file_that_asks_for_a_future_too_late_is_still_refused(tmp_path):
    assert refusal(write(tmp_path, "x = 1\nfrom __future__ import annotations")).line == 2


def test_a_syntax_error_names_the_cell(tmp_path):
    path = notebook(tmp_path, code("import torch"), text("x"), code("x = 1\ny = (\n"), code("z = 2"))

    error = refusal(path)

    assert str(error).startswith("Cell 3, line 2 is not valid Python: '(' was never closed.\n    y = (\n")


@pytest.mark.parametrize(
    ("source", "blanked"),
    [
        ("%matplotlib inline\nx = 1", "pass\nx = 1"),
        ("!pip install torch\n!ls", "pass\npass"),
        ("x = 1\nx?\ntorch.exp??\n?x", "x = 1\npass\npass\npass"),
        ("if 1:\n    %time f()\n    !ls\n", "if 1:\n    pass\n    pass\n"),
        ("files = !ls\nx = %time 1", "pass\npass"),
        ("%%bash\nrm -rf x\nls", "\n\n"),
        ("\n%%html\n<b>", "\n\n"),
        ("%%time\nx = 1\n%cd /", "\nx = 1\npass"),
        ("%%capture out\ndef f():\n    return 1", "\ndef f():\n    return 1"),
        ("!pip install a \\\n  b\nx = 1", "\npass\nx = 1"),
        ("x = (7\n  % 2)", "x = (7\n  % 2)"),
        ('x = """\n%d items\n!\n"""\n%cd', 'x = """\n%d items\n!\n"""\npass'),
        ("!echo 'it\n!echo (\nx = 1", "pass\npass\nx = 1"),
        ("x = (\n%cd", "x = (\n%cd"),
        ("", ""),
    ],
)
def test_what_only_ipython_understands_is_blanked_line_by_line(source, blanked):
    assert blank_magics(source) == blanked
    assert blanked.count("\n") == source.count("\n")


def test_very_many_magics_take_little_time():
    source = "%cd\n" * 100_000
    begin = time.perf_counter()

    assert blank_magics(source) == "pass\n" * 100_000
    assert time.perf_counter() - begin < 5


def test_a_notebook_of_the_kit_uses_its_own_cells_and_the_definitions_of_others(tmp_path):
    path = notebook(
        tmp_path,
        code("import torch", role="helper"),
        code("!grade rotary", role="check"),
        code("LIMIT = 3\nout = slow()\n\n@once\ndef helper():\n    return LIMIT\nhelper(); x = 1\nimport math"),
        code("this is no Python"),
        code("def f():\n    return helper()", role="answer"),
        slug="rotary",
    )

    submission = read_submission(path, "rotary")

    assert submission.source.split("\n") == [
        *["import torch", "LIMIT = 3", "", "", "@once", "def helper():", "    return LIMIT", "", "import math", ""],
        *["def f():", "    return helper()"],
    ]
    assert submission.lines[8] == "cell 3, line 8"


def test_roles_mean_nothing_in_other_notebooks(tmp_path):
    path = notebook(tmp_path, code("x = 1", role="check"), code("print(x)"))

    assert read_submission(path, "rotary").source == "x = 1\nprint(x)"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[" * 1_000_000, "not valid JSON"),
        (b'{"a":' * 1_000_000, "not valid JSON"),
        (b"9" * 10_000, "not valid JSON"),
        (b"[]", "has no list of cells"),
        (b"{}", "has no list of cells"),
        (b'{"cells": 3}', "has no list of cells"),
        (b'{"worksheets": []}', "old format"),
        (b'{"cells": []}', "holds no code cell"),
        (b'{"cells": [1]}', "Cell 1 of the notebook is not a cell"),
        (b'{"cells": [{"cell_type": "code", "source": 3}]}', "Cell 1 of the notebook has no text"),
        (b'{"cells": [{"cell_type": "code", "source": [3]}]}', "Cell 1 of the notebook has no text"),
        (b'{"cells": [{"cell_type": "code", "source": "x = \'\\ud800\'"}]}', "half of a character"),
        (b'{"cells": [{"cell_type": "code", "source": "x = 1\\u0000"}]}', "NUL"),
        (b'{"cells": [{"cell_type": "code", "source": "' + b"#" * (MAX_SOURCE + 1) + b'"}]}', "too much code"),
        (b" " * ((16 << 20) + 1), "is larger than 16 MiB"),
    ],
    ids=range(18),
)
def test_a_broken_notebook_is_refused(tmp_path, data, message):
    assert message in str(refusal(write(tmp_path, data, "rotary.ipynb")))


@pytest.mark.parametrize("metadata", [None, [], 3, {"grade": 3}, {"grade": {"slug": []}}, {"grade": {"slug": "x"}}])
def test_odd_metadata_does_no_harm(tmp_path, metadata):
    cell = {"cell_type": "code", "source": "x = 1", "metadata": metadata}
    path = write(tmp_path, json.dumps({"cells": [cell], "metadata": metadata}), "rotary.ipynb")

    assert read_submission(path, "rotary").source == "x = 1"


def test_a_hostile_notebook_is_refused_soon(tmp_path):
    path = notebook(tmp_path, code("!x\nimport a" + ".a" * 400_000))
    begin = time.perf_counter()

    refusal(path)

    assert time.perf_counter() - begin < 5
