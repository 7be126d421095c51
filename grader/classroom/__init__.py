"""For teachers: whole classes at once, courses for nbgrader, grade books of other systems."""
