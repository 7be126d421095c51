"""Grading a class: who handed in what, the store of results, and who does the work."""
