#!/usr/bin/env bash
# Runs once, as root, when Gradescope builds the image of this assignment.
set -euo pipefail
cd /autograder/source

apt-get update
for python in python3.13 python3.12 python3.11 none; do
  if [ "$python" = none ]; then
    echo "This image has no Python 3.11 or newer. Choose a newer Ubuntu in the autograder's settings." >&2
    exit 1
  fi
  if apt-get install -y --no-install-recommends "$python" "$python-venv"; then break; fi
done

"$python" -m venv venv
venv/bin/pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu 'torch=={{ torch }}'
venv/bin/pip install --no-cache-dir {% for pin in pins %}'{{ pin }}'{% if not loop.last %} {% endif %}{% endfor %}

chmod -R go-rwx /autograder/source/kit
