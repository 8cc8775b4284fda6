"""Says clearly which Python is needed; everything else is in pyproject.toml."""

import sys

from setuptools import setup

if not (3, 10) <= sys.version_info[:2] <= (3, 11):
    sys.exit(
        f"keras_qan needs Python 3.10 or 3.11, and this is {sys.version.split()[0]}: TF-Agents, "
        "which it is built on, pins packages that later Pythons cannot install. "
        "Use for example `python3.11 -m venv .venv`."
    )

setup()
