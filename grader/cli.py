"""The command line, and the one place where an error becomes a sentence and an exit code.

Nothing heavy is imported before a command runs: ``grade --help`` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from grader import __version__
from grader.commands.course_group import course
from grader.errors import KitError

OUR_FAULT = 3  # no verdict could be made
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
PIPE_CLOSED = 141  # 128 + SIGPIPE
SETTINGS = {"help_option_names": ["-h", "--help"]}


class TargetsFirst(click.Group):
    """A group whose first word may be a target: ``grade rotary`` is short for the hidden ``grade grade rotary``."""

    default = "grade"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the default command in front of everything that is neither a command nor the group's own option."""
        own = {option for param in self.get_params(ctx) for option in param.opts}
        if not args or (args[0] not in self.commands and args[0] not in own):
            args = [self.default, *args]
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show the default command's options above the group's own."""
        options = [param for param in self.commands[self.default].params if isinstance(param, click.Option)]
        rows = [row for param in (*options, *self.get_params(ctx)) if (row := param.get_help_record(ctx)) is not None]
        with formatter.section("Options"):
            formatter.write_dl(rows)
        self.format_commands(ctx, formatter)


class TargetsCommand(click.Command):
    """The default command, whose name nobody types."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Stand in the group's place, so that the usage line is `grade [OPTIONS] …`."""
        name = parent.info_name if parent is not None else info_name
        return super().make_context(name, args, None, **extra)


@click.group(
    cls=TargetsFirst,
    context_settings=SETTINGS,
    subcommand_metavar="[SLUG…|FILE…|COMMAND]",
)
@click.version_option(__version__, prog_name="grade")
def cli() -> None:
    """Grade hand-written parts of a transformer.

    Without arguments: show where every exercise stands and grade those that changed. With SLUGs (`grade rotary`) or
    FILEs (`grade rotary.py`, `grade my.ipynb --as rotary`): grade these.

    Exit code: 0 all passed; 1 something failed or is not attempted; 2 wrong usage; 3 a file could not be run at all;
    4 the sandbox is below what was asked.
    """


@cli.command("grade", cls=TargetsCommand, context_settings=SETTINGS, hidden=True)
@click.argument("targets", nargs=-1, metavar="[SLUG|FILE]...")
@click.option("--as", "slug", metavar="SLUG", help="The exercise that FILE answers, if its name does not say.")
@click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Use the inputs of an earlier run.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "junit", "ctrf", "gradescope"]),
    default="text",
    help="For people, or for one kind of program.",
)
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Write the report to FILE.")
@click.option(
    "--feedback",
    type=click.Choice(["full", "titles", "score"]),
    default="full",
    help="Everything; titles and verdicts; or points alone.",
)
def grade(
    targets: tuple[str, ...], slug: str | None, seed: int | None, form: str, out: Path | None, feedback: str
) -> int:
    """Grade SLUGs or FILEs; without any, what has changed."""
    from grader.commands.grade import Wishes, grade_changed, grade_targets

    for word in targets:
        if word in cli.commands:
            raise click.UsageError(f"`{word}` is a command of its own: put it first.")
    wishes = Wishes(seed, form, out, feedback)
    if targets:
        return grade_targets(targets, slug, wishes)
    if slug is not None:
        raise click.UsageError("`--as` needs the FILE that it is about.")
    return grade_changed(wishes)


@cli.command("init")
@click.argument("folder", type=click.Path(path_type=Path), default=Path(), metavar="[DIR]")
def init(folder: Path) -> int:
    """Lay out the exercises in DIR (default: here)."""
    from grader.commands.learn import lay_out

    return lay_out(folder)


@cli.command("list")
def list_exercises() -> int:
    """Show all exercises in order."""
    from grader.commands.learn import show_exercises

    return show_exercises()


@cli.command("demo")
def demo() -> int:
    """See a mistake graded, named and mended, in a temporary folder."""
    from grader.commands.learn import show_demo

    return show_demo()


@cli.command("doctor")
def doctor() -> int:
    """Say what this machine gives: versions, folders, sandbox."""
    from grader.commands.learn import show_doctor

    return show_doctor()


@cli.command("batch")
@click.argument("submissions", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Where the results go.")
@click.option("--jobs", type=click.IntRange(min=1), metavar="N", help="Files at a time (default: one per core).")
@click.option("--resume", is_flag=True, help="Go on where a run was stopped; grade what changed since.")
@click.option("--scheduler", metavar="ADDRESS", help="Let a Dask cluster do the work: tcp://host:8786.")
@click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Use the inputs of an earlier run.")
@click.option(
    "--feedback",
    type=click.Choice(["full", "titles", "score"]),
    default="full",
    help="What students' pages tell: everything; titles and verdicts; or points alone.",
)
@click.option("--slugs", multiple=True, metavar="SLUG", help="An exercise of the assignment (default: all answered).")
@click.option("--title", default="", metavar="TEXT", help="The class's name (default: its folder's).")
@click.option("--allow-weak-sandbox", is_flag=True, help="Grade even where learners' code is not well locked up.")
def batch(
    submissions: Path, slugs: tuple[str, ...], jobs: int | None, scheduler: str | None, feedback: str, **wishes: Any
) -> int:
    """Grade a class: a folder SUBMISSIONS with one folder per student.

    What answers an exercise is called after it (SUBMISSIONS/ann/rotary.py), in folders below too, or is a notebook that
    the kit made. The results in DIR: report.html, grades.csv, and two files for each student in students/.
    """
    from grader.classroom.batch.run import Wishes
    from grader.commands.batch import Ways, grade_batch

    wanted = tuple(word for part in slugs for word in part.replace(",", " ").split())
    return grade_batch(Wishes(submissions, slugs=wanted, **wishes), Ways(jobs, scheduler, feedback))


cli.add_command(course)


@cli.group("dev")
def dev() -> None:
    """For authors: write exercises and prove them."""


@dev.command("new")
@click.argument("path", metavar="TRACK/SLUG")
def dev_new(path: str) -> int:
    """Start the folder of a new exercise."""
    from grader.commands.author import new_exercise

    return new_exercise(path)


@dev.command("sync")
@click.argument("slugs", nargs=-1, metavar="[SLUG]...")
def dev_sync(slugs: tuple[str, ...]) -> int:
    """Write the stubs in exercises/ again (default: all)."""
    from grader.commands.author import sync_stubs

    return sync_stubs(slugs)


@dev.command("check")
@click.argument("slugs", nargs=-1, metavar="[SLUG]...")
@click.option("--jobs", type=click.IntRange(min=1), metavar="N", help="Exercises at a time (default: one per core).")
def dev_check(slugs: tuple[str, ...], jobs: int | None) -> int:
    """Prove that stubs fail and solutions pass (default: all)."""
    from grader.commands.author import check_exercises

    return check_exercises(slugs, jobs)


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        args: The words after ``grade``; None for those of the process.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a sign shows another
    try:
        return _run(args)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return _stop("Stopped.", INTERRUPTED)
    except (BrokenPipeError, SystemExit):  # click and rich make the one into the other
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter complains when it flushes
        return PIPE_CLOSED
    except KitError as error:
        return _stop(str(error), error.exit_code)
    except Exception as error:
        if os.environ.get("GRADE_DEBUG"):
            raise
        text = f"Sorry, the grader itself failed ({type(error).__name__}). With GRADE_DEBUG=1 it says where."
        return _stop(text, OUR_FAULT)


def _run(args: Sequence[str] | None) -> int:
    code = cli.main(args, prog_name="grade", standalone_mode=False)
    sys.stdout.flush()
    return int(code or 0)


def _stop(text: str, code: int) -> int:
    from grader.report.text import plain

    click.echo(plain(text), err=True)
    return code
