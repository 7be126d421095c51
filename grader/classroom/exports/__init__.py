"""A class's results in the forms that other systems take."""
