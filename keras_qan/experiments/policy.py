"""A policy trained from nothing on thousands of small trainings, into one file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from keras_qan.experiments.executor_flags import ExecutorFlags, ThreadFlags
from keras_qan.experiments.flags import flag, open_run
from keras_qan.pretraining.train import train_policy
from keras_qan.qan.policy import Policy
from keras_qan.utils.progress import Progress
from keras_qan.utils.validation import check, check_integer

#: Presets that a policy is learned with.
PRESETS = ("transfer", "scale_free")


@dataclass(frozen=True)
class PolicyExperiment(ExecutorFlags, ThreadFlags):
    """The training of a policy; each field is a flag of the script.

    Raises:
      ValueError: a field is out of range; the message says which.
    """

    directory: str = flag("where checkpoints and logs are kept", "runs/policy", is_saved=False)
    rounds: int = flag("populations of small trainings, all in all", 3000)
    evaluate_every: int = flag("rounds between evaluations on held-out tasks", 100)
    seed: int = flag("everything follows from it", 0)
    preset: str = flag("settings: transfer, or scale_free, whose state has no unit", "transfer")
    out: str = flag("the policy file; by default policy.qan in the directory", "")

    def __post_init__(self) -> None:
        ExecutorFlags.__post_init__(self)
        ThreadFlags.__post_init__(self)
        for name, least in (("rounds", 1), ("evaluate_every", 1), ("seed", 0)):
            check_integer(name, getattr(self, name), least)
        check(self.preset in PRESETS, "preset", self.preset, f"one of {', '.join(PRESETS)}")

    def run(self, command: str, progress: Progress | None = None) -> tuple[Policy, Path]:
        """Train, or go on where a run in the directory was broken off, and save the best policy.

        Args:
          command: noted as the policy's origin.
          progress: the display of progress. Defaults to none.

        Returns:
          The policy, and the file that it is in.

        Raises:
          DirectoryInUseError: another process writes to the directory.
          ImportError: Ray is asked for and not installed.
          ValueError: the directory holds a run with another seed, or of another script.
        """
        self.use_threads()  # before anything else uses a device
        directory = Path(self.directory)
        path = Path(self.out) if self.out else directory / "policy.qan"
        with open_run(directory, self), self.make_executor() as engine:
            policy = train_policy(
                directory,
                rounds=self.rounds,
                evaluate_every=self.evaluate_every,
                seed=self.seed,
                command=command,
                preset=self.preset,
                progress=progress,
                engine=engine,
            )
            policy.save(path)
        return policy, path
