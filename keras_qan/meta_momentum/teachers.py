"""Teachers: what a student is pulled toward."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import keras
import numpy as np

from keras_qan.meta_momentum.matching import WeightCopies
from keras_qan.storage import checkpoint
from keras_qan.utils.validation import check_folder


@runtime_checkable
class Teacher(Protocol):
    """A teacher of one training after another."""

    def weights(self) -> WeightCopies | None:
        """Return weights for the training that begins; None for nothing to teach."""
        ...

    def network(self, student: keras.Model) -> keras.Model | None:
        """Return network for the training that begins; None for nothing to teach.

        Args:
          student: the model that is trained.
        """
        ...

    def note(self, student: keras.Model, score: float, kind: str) -> None:
        """Take note of a training's end.

        Args:
          student: the model that was trained.
          score: its loss.
          kind: "val_loss" or "loss".
        """
        ...


class FixedTeacher:
    """A model that was trained before; leakage where it saw more than the student may.

    Args:
      model: a built model; it is not changed.

    Raises:
      ValueError: an argument is out of range.
    """

    def __init__(self, model: keras.Model) -> None:
        if not model.built:
            raise ValueError(
                f"The teacher {model.name!r} is not built, so it has no weights; expected a "
                "trained model. Call it on data, or model.build(input_shape)."
            )
        self.model = model

    def weights(self) -> WeightCopies | None:
        """Return the present weights of the model."""
        return WeightCopies.of(self.model)

    def network(self, student: keras.Model) -> keras.Model | None:  # noqa: ARG002
        """Return the model itself.

        Args:
          student: the model that is trained.
        """
        return self.model

    def note(self, student: keras.Model, score: float, kind: str) -> None:
        """Ignore the student.

        Args:
          student: the model that was trained.
          score: its loss.
          kind: "val_loss" or "loss".
        """


class BestStudentTeacher:
    """The best student of earlier trainings.

    It teaches nothing in the first training. The best student is the one whose last validation
    loss is lowest, or whose last training loss is where a training has no validation; one that was
    validated takes the place of one that was not.

    Args:
      directory: folder to keep it in, and to resume it from. Defaults to memory alone.

    Attributes:
      episodes: number of trainings that were noted.
      score: the best one's loss; infinity before the first.
      kind: "val_loss" or "loss"; empty before the first.

    Raises:
      CheckpointError: the files in the directory are damaged.
    """

    STEM = "teacher"

    def __init__(self, directory: str | Path | None = None) -> None:
        self.directory = None if directory is None else check_folder("directory", directory)
        self.episodes = 0
        self.score = math.inf
        self.kind = ""
        self._best: WeightCopies | None = None
        self._networks: list[tuple[Any, keras.Model]] = []
        if self.directory is not None:
            saved = checkpoint.read_newest(self.directory, self.STEM)
            if saved is not None:
                self.set_state(*saved)

    def weights(self) -> WeightCopies | None:
        """Return the weights of the best student so far."""
        return self._best

    def network(self, student: keras.Model) -> keras.Model | None:
        """Return a clone of the student with the best student's weights.

        Args:
          student: the model that is trained.
        """
        weights = self.weights()
        return None if weights is None else self._clone(student, weights)

    def note(self, student: keras.Model, score: float, kind: str) -> None:
        """Keep the student if it is the best so far, and write a checkpoint.

        Args:
          student: the model that was trained.
          score: its loss.
          kind: "val_loss" or "loss".
        """
        self.episodes += 1
        better = score < self.score and (kind == self.kind or kind == "val_loss" or not self.kind)
        validated_at_last = kind == "val_loss" and self.kind == "loss"
        if math.isfinite(score) and (better or validated_at_last):
            self._best, self.score, self.kind = WeightCopies.of(student), float(score), kind
        if self.directory is not None and self._best is not None:
            checkpoint.write_next(self.directory, self.STEM, *self.get_state())

    def get_state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return the state as arrays by name and plain data."""
        best = self._best or WeightCopies((), ())
        arrays = {f"weight/{place}": array for place, array in enumerate(best.arrays)}
        data = {"paths": list(best.paths), "episodes": self.episodes, "kind": self.kind}
        return arrays, data | {"score": self.score if math.isfinite(self.score) else None}

    def set_state(self, arrays: dict[str, np.ndarray], data: dict[str, Any]) -> None:
        """Restore a state of `get_state`.

        Args:
          arrays: by name, as `get_state` gave them.
          data: plain data, as `get_state` gave it.

        Raises:
          CheckpointError: it is no such state.
        """
        try:
            paths = tuple(str(path) for path in data["paths"])
            found = tuple(arrays[f"weight/{place}"] for place in range(len(paths)))
            score, kind, episodes = data["score"], str(data["kind"]), int(data["episodes"])
        except (KeyError, TypeError, ValueError) as error:
            raise checkpoint.CheckpointError(
                f"This is no teacher's state: {error!r} is missing or wrong. Expected what "
                "BestStudentTeacher.get_state() gave."
            ) from error
        self._best = WeightCopies(paths, found) if paths else None
        self.score = math.inf if score is None else float(score)
        self.kind, self.episodes = kind, episodes

    def _clone(self, student: keras.Model, weights: WeightCopies) -> keras.Model:
        network = next((one for known, one in self._networks if known is student), None)
        if network is None:
            network = _clone_of(student)
            self._networks = [(student, network)]
        shapes = [tuple(variable.shape) for variable in network.weights]
        if shapes != [tuple(array.shape) for array in weights.arrays]:
            raise ValueError(
                f"The best student of earlier trainings has weights of other shapes than model "
                f"{student.name!r}; expected students of one architecture. Use one MetaMomentum "
                "for each architecture."
            )
        network.set_weights(list(weights.arrays))
        return network

    def __deepcopy__(self, memo: dict[int, Any]) -> BestStudentTeacher:
        """Itself, so that copies share it."""
        memo[id(self)] = self
        return self


def _clone_of(model: keras.Model) -> keras.Model:
    """Return a model of the same architecture with weights of its own.

    Raises:
      ValueError: Keras cannot make one.
    """
    try:
        clone = keras.models.clone_model(model)
        if not clone.built:
            clone.build_from_config(model.get_build_config())
    except (TypeError, ValueError, NotImplementedError) as error:
        raise ValueError(
            f"The teacher's network is a copy of model {model.name!r}, and Keras cannot make one "
            f"of a {type(model).__name__}: {str(error).strip().splitlines()[0]} Expected a class "
            "with get_config(), or a Sequential or functional model. Use form=Pull(), which needs "
            "no copy, or give a trained model as the teacher."
        ) from error
    return clone


class RandomTeacher:
    """The control: a random network whose kernels have the norms of another teacher's.

    Each kernel is drawn anew for each training, w ~ N(0, 1) scaled to ‖w‖ = ‖w*‖. A gain by it
    comes of the pull, and not of a teacher's knowledge.

    Args:
      like: the other teacher, which takes note of the students.
      seed: of the draws. Defaults to 0.
    """

    def __init__(self, like: Teacher, seed: int = 0) -> None:
        self.like = like
        self._seed = seed
        self._drawn = 0

    def weights(self) -> WeightCopies | None:
        """Return the weights of the other teacher, with random kernels."""
        other = self.like.weights()
        if other is None:
            return None
        generator = np.random.default_rng([self._seed, self._drawn])
        self._drawn += 1
        arrays = list(other.arrays)
        for place in other.kernels():
            drawn = generator.normal(size=arrays[place].shape)
            drawn *= np.linalg.norm(arrays[place]) / np.linalg.norm(drawn)
            arrays[place] = drawn.astype(arrays[place].dtype)
        return WeightCopies(other.paths, tuple(arrays))

    def network(self, student: keras.Model) -> keras.Model | None:
        """Return a clone of the other teacher's network, with random kernels.

        Args:
          student: the model that is trained.
        """
        network = self.like.network(student)
        weights = self.weights()
        if network is None or weights is None:
            return None
        clone = _clone_of(network)
        clone.set_weights(list(weights.arrays))
        return clone

    def note(self, student: keras.Model, score: float, kind: str) -> None:
        """Tell the other teacher.

        Args:
          student: the model that was trained.
          score: its loss.
          kind: "val_loss" or "loss".
        """
        self.like.note(student, score, kind)

    def __deepcopy__(self, memo: dict[int, Any]) -> RandomTeacher:
        """Copy with the same draws to come and the same other teacher."""
        made = RandomTeacher(copy.deepcopy(self.like, memo), self._seed)
        made._drawn = self._drawn
        return made


def make_teacher(asked: Any, directory: str | Path | None) -> Teacher:
    """Return the teacher that a user asks for: of a model, "previous", or a `Teacher` itself.

    Raises:
      ValueError: it is something else, or a directory is given for one that has nothing to keep.
    """
    if isinstance(asked, str) and asked == "previous":
        return BestStudentTeacher(directory)
    if directory is not None:
        raise ValueError(
            f"MetaMomentum got directory={str(directory)!r} with a teacher of its own, which has "
            'nothing to keep; expected one with teacher="previous" alone. Leave it out.'
        )
    if isinstance(asked, keras.Model):
        return FixedTeacher(asked)
    if isinstance(asked, Teacher):
        return asked
    raise ValueError(
        f'MetaMomentum got teacher={asked!r}; expected a trained keras.Model, or "previous" for '
        "the best student of earlier trainings."
    )
