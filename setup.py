"""Says clearly which Python is needed; everything else is in pyproject.toml."""

import sys

from setuptools import setup

if not (3, 10) <= sys.version_info[:2] <= (3, 13):
    sys.exit(
        f"keras_qan needs Python 3.10 to 3.13, and this is {sys.version.split()[0]}. Use for "
        "example `python3.12 -m venv .venv`."
    )

setup()
