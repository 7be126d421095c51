#!/usr/bin/env bash
# Runs for each submission. Both variables are for trying the autograder out on another machine.
set -euo pipefail
root="${AUTOGRADER_ROOT:-/autograder}"
python="${AUTOGRADER_PYTHON:-$root/source/venv/bin/python}"

cd "$root/source"
export PYTHONPATH="$root/source/kit" PYTHONDONTWRITEBYTECODE=1
exec "$python" -m grader.classroom.exports.gradescope_run "$root"
