"""Every exercise has a picture, and it can be drawn."""

import pytest
import torch

from grader.bank import load_exercises
from grader.judge.answerkey import AnswerKey
from grader.judge.proofs import LocalSubject

EXERCISES = {exercise.slug: exercise for exercise in load_exercises()}


@pytest.mark.parametrize("slug", EXERCISES)
def test_the_picture_of_the_solution_can_be_drawn(slug):
    torch.set_num_threads(1)
    key = AnswerKey(EXERCISES[slug])
    impl = LocalSubject(key.build([])).begin(0)

    panels = key.suite.picture(impl)

    assert panels
    for panel in panels:
        assert panel.title
        assert panel.values.dim() == 2, panel.title
        assert not panel.values.isnan().any(), panel.title
        assert not panel.values.is_complex(), panel.title
        if panel.kind == "lines":
            assert len(panel.labels) in (0, len(panel.values)), panel.title
