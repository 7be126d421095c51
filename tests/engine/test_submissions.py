"""The kit's own exercises: right answers in odd styles pass, and answers that are wrong in a corner fail."""

import pytest

FOLDERS = ("right", "wrong")
pytestmark = [pytest.mark.xdist_group("engine-submissions"), pytest.mark.timeout(400)]


def test_right_passes_and_wrong_fails(case, check_golden):
    check_golden(case)


def test_there_are_enough_of_both(graded):
    for slug in "rotary", "multi_head":
        for folder, least in ("right", 10), ("wrong", 20):
            assert len([path for path in graded.results if path.parts[-3:-1] == (slug, folder)]) >= least
