"""Courses for nbgrader: notebooks made from the answer keys, and a judge in the place of nbgrader's ``Execute``."""
