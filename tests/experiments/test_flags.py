"""Flags from a dataclass, the flag file of a run, and the scripts that both are for."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import sys

import pytest
from absl import flags as absl_flags
from helpers.scripts import ROOT, Script, parse

from keras_qan.experiments.architecture import ArchitectureExperiment
from keras_qan.experiments.flags import (
    FLAG_FILE,
    describe_differences,
    flag,
    open_run,
    to_text,
)
from keras_qan.experiments.growth import GrowthExperiment
from keras_qan.experiments.hyperparameters import HyperparameterExperiment
from keras_qan.experiments.learning_rate import LearningRateExperiment
from keras_qan.experiments.policy import PolicyExperiment
from keras_qan.experiments.rally import RallyExperiment
from keras_qan.experiments.schedules import ScheduleExperiment
from keras_qan.storage.lock import DirectoryInUseError

EXPERIMENTS = {
    "train_qan": LearningRateExperiment,
    "compare_schedules": ScheduleExperiment,
    "search_metaqnn": ArchitectureExperiment,
    "tune_drmad": HyperparameterExperiment,
    "rally": RallyExperiment,
    "grow_grid": GrowthExperiment,
    "train_policy": PolicyExperiment,
}


@dataclasses.dataclass(frozen=True)
class Every:
    """A flag of each type."""

    yes: bool = flag("a", True)
    no: bool = flag("b", False)
    count: int = flag("c", 3)
    share: float = flag("d", 0.5)
    name: str = flag("e", "")
    rates: tuple[float, ...] = flag("f", (0.1, 1e-5))
    words: tuple[str, ...] = flag("g", ())
    place: str = flag("h", "here", is_saved=False)


def test_every_type_of_field_is_a_flag_and_a_line_and_comes_back():
    assert parse(Every) == Every()
    changed = Every(False, True, -7, 1e-30, "a b=c", (2.0,), ("x", "2-y"), "there")
    lines = to_text(changed).splitlines()
    assert lines == [
        "--noyes", "--no", "--count=-7", "--share=1e-30", "--name=a b=c", "--rates=2.0",
        "--words=x,2-y",
    ]  # fmt: skip
    assert parse(Every, *lines) == dataclasses.replace(changed, place="here")


def test_an_entry_that_is_no_number_is_named():
    with pytest.raises(ValueError, match=r"rates holds 'x'; expected numbers.*--rates=0\.01,0\.1"):
        parse(Every, "--rates=0.1,x")


@pytest.mark.parametrize("kind", EXPERIMENTS.values(), ids=EXPERIMENTS)
def test_every_field_of_an_experiment_has_a_text_and_comes_back_from_its_flag_file(kind):
    assert all(field.metadata["help"] for field in dataclasses.fields(kind))
    assert parse(kind, *to_text(kind()).splitlines()) == kind() == parse(kind)


@pytest.mark.parametrize("path", sorted((ROOT / "configs").iterdir()), ids=lambda path: path.stem)
def test_every_flag_file_of_the_repository_is_an_experiment(path):
    for kind in EXPERIMENTS.values():
        with contextlib.suppress(absl_flags.Error):
            found = parse(kind, f"--flagfile={path}")
            place = f"--directory={found.directory}"
            assert parse(kind, *to_text(found).splitlines(), place) == found
            assert path.name.startswith(getattr(found, "dataset", "policy"))
            return
    pytest.fail(f"{path} is of no experiment")


def test_flags_are_there_before_the_work_and_those_of_another_run_come_back(tmp_path):
    first, other = GrowthExperiment(seeds=2), GrowthExperiment(seeds=3)
    path = tmp_path / "run" / FLAG_FILE
    with open_run(path.parent, first):
        assert path.read_text() == to_text(first)
    for error, kept in ((ValueError("another run"), first), (OSError("disk full"), other)):
        with contextlib.suppress(type(error)), open_run(path.parent, other):
            assert path.read_text() == to_text(other)
            raise error
        assert path.read_text() == to_text(kept)


def test_a_directory_of_another_script_is_refused_and_left_as_it_was(tmp_path):
    with open_run(tmp_path / "run", GrowthExperiment()):
        pass
    before = (tmp_path / "run" / FLAG_FILE).read_text()
    message = r"holds the run of another script or version, with --.*widths.*another --directory"
    with pytest.raises(ValueError, match=message), open_run(tmp_path / "run", PolicyExperiment()):
        pass
    assert (tmp_path / "run" / FLAG_FILE).read_text() == before


@pytest.mark.parametrize(
    ("one", "other"), [(a, b) for a in EXPERIMENTS.values() for b in EXPERIMENTS.values() if a != b]
)
def test_no_scripts_flags_are_all_known_to_another(one, other):
    saved = {field.name for field in dataclasses.fields(one) if field.metadata["is_saved"]}
    assert saved - {field.name for field in dataclasses.fields(other)}


#: A run of a few seconds of each script, and a file that it leaves when it is over.
SMALL = {
    "train_qan": (
        ["--model=mlp", "--episodes=0", "--epochs=1", "--train_fraction=0.1", "--eval_seeds=1",
         "--arms=constant", "--learning_rate=0.01,0.1"],
        "evaluation.json",
    ),
    "search_metaqnn": (
        ["--models=1", "--epochs=1", "--train_fraction=0.1", "--max_parameters=5000",
         "--restart_after=0", "--retrain=0"],
        "models.jsonl",
    ),
    "tune_drmad": (
        ["--model=4", "--steps=3", "--outer_steps=1", "--hyperparameters=l2:layer,momentum"],
        "outer_steps.jsonl",
    ),
    "rally": (
        ["--shares=0.5,1.0", "--widths=2-2,2-3", "--epochs=0.1,0.1", "--compare_epochs=0"],
        "looks.jsonl",
    ),
    "grow_grid": (
        ["--dataset=digits", "--widths=4-4,5-4", "--scale=0.01", "--train_fraction=0.2"],
        "grid.csv",
    ),
    "train_policy": (["--rounds=1", "--evaluate_every=1"], "best.qan"),
}  # fmt: skip


def shrink_policy_tasks():
    """Replace the trainings that a policy learns from by one that takes no time."""
    from keras_qan.pretraining import held_out, policy_iteration, train
    from keras_qan.pretraining.tasks import TaskTemplate

    tiny = TaskTemplate("clusters", 5, 2, (4,), batch_size=4, num_train=40, num_validation=20)
    kind = policy_iteration.OptimizerKind(False, 0.9, 0.0)
    train.TRAINING = (tiny,)
    train.UPDATES = 2
    policy_iteration.STEPS = (8, 12)
    held_out.CASES = ((tiny, kind, 10, 2),)
    held_out.START_FACTORS, held_out.GRID = (0.1, 1.0), (0.03, 0.3)


def start(name, *arguments, folder):
    before = shrink_policy_tasks if name == "train_policy" else None
    return Script(name, *arguments, output=folder / "output.txt", before=before)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.stress if name == "train_policy" else ())
        for name in SMALL
    ],
)
def test_a_run_that_was_killed_at_its_start_is_repeated_from_its_flags(name, tmp_path):
    arguments, result = SMALL[name]
    killed = start(name, *arguments, f"--directory={tmp_path / 'killed'}", folder=tmp_path)
    killed.wait_for(tmp_path / "killed" / FLAG_FILE)
    killed.process.kill()
    assert killed.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / result).exists()
    flagfile = f"--flagfile={tmp_path / 'killed' / FLAG_FILE}"
    again = start(name, flagfile, f"--directory={tmp_path / 'again'}", folder=tmp_path)
    assert again.wait() == 0, again.output
    assert (tmp_path / "again" / result).exists()
    kind, place = EXPERIMENTS[name], f"--directory={tmp_path / 'again'}"
    assert parse(kind, f"--flagfile={tmp_path / 'again' / FLAG_FILE}", place) == parse(
        kind, *arguments, place
    )


def test_a_script_that_gets_sigterm_says_so_and_ends_with_143(tmp_path):
    arguments, _ = SMALL["grow_grid"]
    # Long enough that it cannot be over before the signal comes.
    arguments = [*arguments, "--scale=10", f"--directory={tmp_path / 'run'}"]
    script = start("grow_grid", *arguments, folder=tmp_path)
    script.wait_for(tmp_path / "run" / FLAG_FILE)
    script.process.terminate()
    assert script.wait() == 128 + signal.SIGTERM
    assert script.output.splitlines()[-1].startswith("grow_grid: The run was asked to stop")


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("train_qan", ["--dataset=digitz"], "digits"),
        ("rally", ["--look_every=-1"], "look_every"),
        ("plot_run", [], "run is ''; expected a directory."),
        ("grow_grid", ["--widths=7"], "Received the width '7'"),
    ],
)
def test_a_script_says_in_one_line_what_is_wrong(name, arguments, message, tmp_path):
    place = [] if name == "plot_run" else [f"--directory={tmp_path / 'run'}"]
    script = start(name, *arguments, *place, folder=tmp_path)
    assert script.wait() == 1
    assert message in script.output.strip().splitlines()[-1]
    assert "Traceback" not in script.output


def test_a_script_refuses_what_is_no_flag_and_lists_its_own(tmp_path):
    script = start("train_qan", "digits", folder=tmp_path)
    assert script.wait() == 1
    assert "Unexpected arguments: digits. Expected flags only" in script.output
    for field in dataclasses.fields(LearningRateExperiment):
        is_bool = isinstance(field.default, bool)
        assert f"--{'[no]' if is_bool else ''}{field.name}: " in script.output


def refuse_ray():
    assert "ray" not in sys.modules


def test_ray_is_not_imported_before_it_is_asked_for(tmp_path):
    output = tmp_path / "output.txt"
    script = Script("train_qan", "--help", output=output, before=refuse_ray)
    script.wait()
    assert "--engine" in script.output
    assert "AssertionError" not in script.output


def test_a_directory_in_use_is_left_alone(tmp_path):
    first = start(
        "grow_grid", *SMALL["grow_grid"][0], f"--directory={tmp_path / 'run'}", folder=tmp_path
    )
    first.wait_for(tmp_path / "run" / FLAG_FILE)
    before = (tmp_path / "run" / FLAG_FILE).read_text()
    try:
        with (
            pytest.raises(DirectoryInUseError, match=f"process {first.process.pid}"),
            open_run(tmp_path / "run", GrowthExperiment(seeds=9)),
        ):
            pass
        assert (tmp_path / "run" / FLAG_FILE).read_text() == before
    finally:
        first.process.kill()


def test_flags_that_differ_say_which_side_they_are_of():
    there, here = ["--a=1", "--nob", "--c=3"], ["--a=2", "--b", "--d=4"]
    assert describe_differences(there, here) == (
        "--a=1 there and --a=2 here, --nob there and --b here, --c=3 there and no --c here, "
        "no --d there and --d=4 here"
    )


@pytest.mark.parametrize("work", [False, True])
def test_a_new_run_that_fails_before_any_work_is_removed(tmp_path, work):
    experiment, directory = GrowthExperiment(), tmp_path / "run"

    def fail():
        with open_run(directory, experiment):
            if work:
                (directory / "rows.jsonl").touch()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert directory.exists() == work
    directory.mkdir(exist_ok=True)
    with pytest.raises(RuntimeError):
        fail()
    assert directory.exists()  # it was there before
