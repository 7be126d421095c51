"""What runs beside the learner's code. Imports nothing else of this package, and holds nothing secret."""
