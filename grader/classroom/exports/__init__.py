"""A class's results in the forms that other systems take."""

TABLES = ("csv", "canvas", "moodle")  # one file for the class
FOLDERS = {"junit": "xml", "ctrf": "json", "gradescope": "json"}  # one file for each student, with this suffix
FORMS = (*TABLES, *FOLDERS, "json")
