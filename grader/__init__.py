"""An autograder for hand-written transformers: a trusted judge, and the learner's code in a sandbox beside it."""

__version__ = "0.1.0"
