import itertools
import unicodedata

import pytest

from grader.classroom.names import page_name, shown_name

HOSTILE = [
    "", ".", "..", "../../etc/passwd", "a/b", "a\\b", "a\0b", "con", "CON", "con.txt", "nul", "lpt1.x", "-rf",
    ".hidden", "anna.", "anna ", " anna", "a\nb", "a\u202eb", "\ud800", "=1+1", "<script>", "x" * 300, "x" * 299,
    "日本", "日木", "%2e%2e", "a?b#c", "a:b", "~", "anna~0123456789abcdef0123",
]  # fmt: skip


def test_an_ordinary_name_is_its_own():
    assert [page_name(name) for name in ("anna", "b.jones-2", "c_d@uni.edu")] == ["anna", "b.jones-2", "c_d@uni.edu"]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_becomes_one_that_every_file_system_takes(name):
    page = page_name(name)

    assert page == page_name(name)
    assert page.isascii()
    assert set(page) <= set("abcdefghijklmnopqrstuvwxyz0123456789._@~-")
    assert 0 < len(page) <= 64
    assert page[0].isalnum()
    assert page[-1].isalnum()
    assert page.split(".")[0] not in {"con", "nul", "lpt1"}


def test_no_two_names_share_a_page_on_any_file_system():
    names = [*HOSTILE, "Anna", "anna", "ANNA", "J\u00fcrgen", "Ju\u0308rgen", "jurgen", "strasse", "straße"]
    pages = [page_name(name) for name in names]

    for one, other in itertools.combinations(pages, 2):
        assert unicodedata.normalize("NFC", one).casefold() != unicodedata.normalize("NFC", other).casefold()


def test_a_name_made_to_look_like_anothers_page_gets_its_own():
    assert page_name(page_name("Anna")) != page_name("Anna")


def test_a_name_is_shown_as_it_is():
    assert shown_name("Jürgen O'Neil") == "Jürgen O'Neil"


def test_a_name_that_only_looks_like_another_is_told_apart():
    assert shown_name("anna\u202e").startswith("anna [anna~")
    assert shown_name("\u202e").startswith("[student~")
