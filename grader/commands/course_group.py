"""``grade course …``: the words of the commands for teachers. Nothing heavy is imported before one of them runs."""

from __future__ import annotations

from pathlib import Path

import click

from grader.classroom.exports import FORMS

_feedback = click.option(
    "--feedback",
    type=click.Choice(["full", "titles", "score"]),
    default="full",
    help="What students read: everything; titles and verdicts; or points alone.",
)


@click.group("course")
def course() -> None:
    """For teachers: courses for nbgrader, and grades for other systems."""


@course.command("init")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--course-id", required=True, metavar="ID", help="The course's name in nbgrader.")
def course_init(folder: Path, course_id: str) -> int:
    """Lay out a course for nbgrader in DIR."""
    from grader.commands.course import make_course

    return make_course(folder, course_id)


@course.command("build")
@click.option("--assignment", metavar="NAME", help="Put everything into one assignment (default: one per track).")
@click.option("--tracks", multiple=True, metavar="TRACK…", help="All exercises of these tracks.")
@click.option("--slugs", multiple=True, metavar="SLUG…", help="These exercises.")
@click.argument("more", nargs=-1, metavar="")
@click.option("--force", is_flag=True, help="Also replace notebooks that you changed; a backup is kept.")
def course_build(
    assignment: str | None, tracks: tuple[str, ...], slugs: tuple[str, ...], more: tuple[str, ...], force: bool
) -> int:
    """Write notebooks into the course in this folder.

    Several tracks or slugs stand behind one another, with spaces or commas.
    """
    from grader.commands.course import build_course

    words = [word for part in (*tracks, *slugs, *more) for word in part.replace(",", " ").split()]
    return build_course(assignment, words, force)


@course.command("export")
@click.argument("out", type=click.Path(path_type=Path), metavar="OUT")
@click.option("--format", "form", required=True, type=click.Choice(FORMS), help="What the grades are for.")
@click.option("--to", "target", required=True, type=click.Path(path_type=Path), metavar="PATH", help="File or folder.")
@click.option(
    "--roster", type=click.Path(path_type=Path), metavar="CSV", help="The list that Canvas or Moodle exports."
)
@_feedback
def course_export(out: Path, form: str, target: Path, roster: Path | None, feedback: str) -> int:
    """Write the results of `grade batch` in OUT in another form."""
    from grader.commands.classroom_exports import export_class

    return export_class(out, form, target, roster, feedback)


@course.command("dispute")
@click.argument("out", type=click.Path(path_type=Path), metavar="OUT")
@click.argument("student")
@click.option("--submissions", required=True, type=click.Path(path_type=Path), metavar="DIR", help="What was graded.")
@click.option("--to", "target", type=click.Path(path_type=Path), metavar="DIR", help="Folder (default: OUT/disputes).")
def course_dispute(out: Path, student: str, submissions: Path, target: Path | None) -> int:
    """Write a bundle with STUDENT's work, the results, and how to repeat them."""
    from grader.commands.classroom_exports import dispute_command

    return dispute_command(out, student, submissions, target)


@course.command("gradescope")
@click.argument("slugs", nargs=-1, metavar="SLUG...")
@click.option("--to", "target", type=click.Path(path_type=Path), default=Path("autograder.zip"), metavar="FILE")
@click.option("--allow-weak-sandbox", "weak", is_flag=True, help="Grade below the tier `full` as well.")
@_feedback
def course_gradescope(slugs: tuple[str, ...], target: Path, weak: bool, feedback: str) -> int:
    """Write the autograder of an assignment on Gradescope."""
    from grader.commands.classroom_exports import gradescope_zip

    return gradescope_zip(slugs, target, feedback, weak)


@course.command("github")
@click.argument("slugs", nargs=-1, metavar="SLUG...")
@click.option("--to", "target", type=click.Path(path_type=Path), default=Path("classroom.yml"), metavar="FILE")
@_feedback
def course_github(slugs: tuple[str, ...], target: Path, feedback: str) -> int:
    """Write a workflow that grades at every push on GitHub."""
    from grader.commands.classroom_exports import github_workflow

    return github_workflow(slugs, target, feedback)
