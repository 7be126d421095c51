"""Other ways to double."""

from grader.judge.suite import alternative, misconception


@misconception(replaces="double", caught_by="test_by_hand")
def squares(x):
    """You square the numbers. Which number is its own double, and which its own square?"""
    return x * x


@alternative(replaces="double")
def adds(x):
    if not x.shape:
        raise ValueError("x must have a dimension")
    return x + x
