"""Fields of a dataclass as flags of a script, and as the `flags.txt` of its run.

An experiment is a dataclass whose fields are made by `flag`. `define_flags` and `from_flags` turn
it into absl flags and back, `to_text` writes it as a flag file, and `run_script` is the whole of a
script. A run directory holds its flags before the work begins, so that a run that was killed can
be repeated with `--flagfile=<run>/flags.txt`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from absl import app, flags, logging
from rich.console import Console

from keras_qan.storage import files
from keras_qan.storage.lock import NAME as LOCK_FILE
from keras_qan.storage.lock import Lock
from keras_qan.storage.signals import Stopped, StopRequests

#: The file in a run's directory that holds its flags.
FLAG_FILE = "flags.txt"

#: Files of a run in which nothing was done yet.
_NO_WORK = {FLAG_FILE, LOCK_FILE, "run.json"}

#: Width of tables where the output is not a terminal.
_WIDTH = 132

#: Errors that a script reports in one line; all others are faults of the program.
_REPORTED = (ArithmeticError, ImportError, OSError, RuntimeError, ValueError)

_DEFINE: dict[type, Any] = {
    bool: flags.DEFINE_bool,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
}

_Experiment = TypeVar("_Experiment")

flags.disclaim_key_flags()  # flags defined here are the script's own in its --help


def flag(text: str, default: Any, *, is_saved: bool = True) -> Any:
    """Return a dataclass field that is a flag.

    Args:
      text: the flag's help.
      default: its default, a bool, int, float, str, or a tuple of str or float.
      is_saved: whether the flag file has it. Defaults to True.
    """
    return dataclasses.field(default=default, metadata={"help": text, "is_saved": is_saved})


def define_flags(kind: type[Any], holder: flags.FlagValues = flags.FLAGS) -> None:
    """Define a flag for each field of a dataclass.

    Args:
      kind: a dataclass whose fields are made by `flag`.
      holder: the flags to add them to. Defaults to the program's flags.
    """
    for field in dataclasses.fields(kind):
        default, text = field.default, field.metadata["help"]
        if isinstance(default, tuple):
            flags.DEFINE_list(field.name, list(map(str, default)), text, flag_values=holder)
        else:
            _DEFINE[type(default)](field.name, default, text, flag_values=holder)


def from_flags(kind: type[_Experiment], holder: flags.FlagValues = flags.FLAGS) -> _Experiment:
    """Return the experiment that the flags describe.

    Args:
      kind: the dataclass whose flags were defined.
      holder: the flags that they were added to. Defaults to the program's flags.

    Raises:
      ValueError: a flag is out of range, or an entry of a list is not a number.
    """
    values = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        value, default = holder[field.name].value, field.default
        if isinstance(default, tuple):
            are_numbers = bool(default) and isinstance(default[0], float)
            value = tuple(_parse_number(field.name, v) if are_numbers else v for v in value)
        values[field.name] = value
    return kind(**values)


def _parse_number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(
            f"{name} holds {text!r}; expected numbers with commas between. Write for example "
            f"--{name}=0.01,0.1."
        ) from None


def to_text(experiment: Any) -> str:
    """Return the experiment as a flag file, one flag a line."""
    lines = []
    for field in dataclasses.fields(experiment):
        value = getattr(experiment, field.name)
        if not field.metadata["is_saved"]:
            continue
        if isinstance(value, bool):
            lines.append(f"--{field.name}" if value else f"--no{field.name}")
        else:
            text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            lines.append(f"--{field.name}={text}")
    return "\n".join(lines) + "\n"


def write_flags(directory: Path, experiment: Any) -> None:
    """Write the experiment's flag file into a run's directory, whole or not at all."""
    files.remove_leftovers(directory, FLAG_FILE)
    files.replace(directory / FLAG_FILE, to_text(experiment))


def next_directory(stem: str) -> Path:
    """Return `runs/<stem>-<number>` with the next free number."""
    number = 1
    while (Path("runs") / f"{stem}-{number:03d}").exists():
        number += 1
    return Path("runs") / f"{stem}-{number:03d}"


def flag_name(line: str) -> str:
    """Return the name of the flag that a line of a flag file sets."""
    name = line.split("=")[0].removeprefix("--")
    return name.removeprefix("no") if name.startswith("no") and "=" not in line else name


def describe_differences(there: Iterable[str], here: Iterable[str]) -> str:
    """Say how the lines of two flag files differ, flag by flag.

    Args:
      there: of the run in a directory.
      here: of this run.

    Example:
      >>> describe_differences(["--epochs=2", "--seed=0"], ["--epochs=3", "--seed=0"])
      '--epochs=2 there and --epochs=3 here'
    """
    sides = [{flag_name(line): line for line in lines} for lines in (there, here)]
    names = sorted(
        n for n in sides[0].keys() | sides[1].keys() if sides[0].get(n) != sides[1].get(n)
    )
    return ", ".join(
        f"{sides[0].get(n, f'no --{n}')} there and {sides[1].get(n, f'no --{n}')} here"
        for n in names
    )


@contextlib.contextmanager
def run_directory(directory: Path) -> Iterator[None]:
    """Make a run's directory; remove a new one again where the block fails with nothing in it."""
    is_new = not directory.exists()
    directory.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except Exception:
        if is_new and {path.name for path in directory.iterdir()} <= _NO_WORK:
            shutil.rmtree(directory)
        raise


@contextlib.contextmanager
def open_run(directory: Path, experiment: Any) -> Iterator[None]:
    """Hold a run's directory, with the experiment's flags in it before the block begins.

    Where the block refuses to go on with the run that is there (ValueError), the flags of that run
    are put back; a new directory in which nothing was done is removed where the block fails.

    Args:
      directory: of the run; made if it is missing.
      experiment: the dataclass of its flags.

    Raises:
      DirectoryInUseError: another process writes to the directory.
      ValueError: the directory holds a run of another script.
    """
    path = directory / FLAG_FILE
    with run_directory(directory), Lock(directory):
        before = path.read_bytes() if path.exists() else None
        _require_own_run(directory, experiment, (before or b"").decode(errors="replace"))
        write_flags(directory, experiment)
        try:
            yield
        except ValueError:
            if before is not None:
                files.replace(path, before)
            raise


def _require_own_run(directory: Path, experiment: Any, before: str) -> None:
    """Refuse a directory whose flag file has flags that the experiment does not know."""
    known = {field.name for field in dataclasses.fields(experiment)}
    unknown = [flag_name(line) for line in before.splitlines() if line.startswith("--")]
    unknown = [f"--{name}" for name in unknown if name not in known]
    if unknown:
        raise ValueError(
            f"{directory} holds the run of another script or version, with {', '.join(unknown)}; "
            "expected a new directory, or one that this script has written. Give another "
            "--directory."
        )


def run_script(
    kind: type[_Experiment],
    main: Callable[[_Experiment, Console], None],
    prepare: Callable[[_Experiment], Any] = lambda _: None,
) -> None:
    """Define the flags, run the experiment that they describe, and exit.

    The exit status is 0 for a success, 1 with one line on standard error for an error that the user
    can act on, and 143 where SIGTERM asked the run to stop.

    Args:
      kind: the experiment's dataclass.
      main: runs the experiment and prints its report.
      prepare: called before the log is reduced to warnings. Defaults to nothing.
    """
    define_flags(kind)
    app.run(functools.partial(_run, kind, main, prepare))


def _run(
    kind: type[_Experiment],
    main: Callable[[_Experiment, Console], None],
    prepare: Callable[[_Experiment], Any],
    arguments: Sequence[str],
) -> None:
    if len(arguments) > 1:
        raise app.UsageError(
            f"Unexpected arguments: {' '.join(arguments[1:])}. Expected flags only, as in "
            "--name=value."
        )
    script = Path(arguments[0]).stem
    try:
        with StopRequests():
            experiment = from_flags(kind)
            prepare(experiment)
            logging.set_verbosity(logging.WARNING)  # TensorFlow Datasets reports each file it opens
            main(experiment, Console(width=None if Console().is_terminal else _WIDTH))
    except Stopped as stopped:
        print(f"{script}: {stopped}", file=sys.stderr)
        sys.exit(128 + signal.SIGTERM)
    except _REPORTED as error:
        sys.exit(f"{script}: {error}")
