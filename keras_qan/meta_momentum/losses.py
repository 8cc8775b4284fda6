"""The forms of a teacher's pull: on weights after each update, or by a loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import keras
import tensorflow as tf

from keras_qan.meta_momentum.matching import (
    chosen_kernels,
    matching_kernels,
    matching_layers,
    watched_layers,
)
from keras_qan.meta_momentum.teachers import Teacher
from keras_qan.storage.serialization import configurable
from keras_qan.utils.validation import check_number


@runtime_checkable
class TeacherLoss(Protocol):
    """A form of the pull."""

    def default_steps(self, strength: float) -> int | None:
        """Number of steps that it lasts by default; None for the whole training."""
        ...

    def bind(self, model: keras.Model, layers: Sequence[str] | None) -> BoundLoss:
        """Return the form for one model."""
        ...


class BoundLoss:
    """A form for one model; this base class does nothing.

    Attributes:
      is_loss: whether it adds to the loss.
    """

    is_loss = False

    @property
    def network(self) -> keras.Model | None:
        """The teacher's network within the training step; a new one has to be compiled anew."""
        return None

    def teach(self, teacher: Teacher) -> bool:  # noqa: ARG002
        """Take over the teacher's knowledge; return whether there is any."""
        return False

    def attach(self) -> None:
        """Begin to watch the model."""

    def detach(self) -> None:
        """Restore the model."""

    def after_update(self, strength: tf.Tensor) -> None:
        """Act on the weights after an update."""

    def loss(self, x: Any, y_pred: Any) -> tf.Tensor:
        """Return the term of the loss, `[]`, before it is multiplied by the strength."""
        raise NotImplementedError


@configurable
class Pull:
    """On weights: w ← w + c_t (w* − w) after each update t (the original's meta-momentum).

    c_t is the strength times the fade. Kernels are watched, biases are not, as in the original. It
    lasts for 1/strength steps by default: a constant pull would by then have covered
    1 − 1/e = 63 % of the way.
    """

    def default_steps(self, strength: float) -> int | None:
        """Return 1/strength, rounded.

        Args:
          strength: of the pull, in [0, 1].
        """
        return max(1, round(1.0 / strength)) if strength else 1

    def bind(self, model: keras.Model, layers: Sequence[str] | None) -> BoundLoss:
        """Return the form for a model, with variables for the teacher's kernels.

        Args:
          model: the student.
          layers: names of the layers to watch; None for the form's default.
        """
        return _BoundPull(model, layers)


class _BoundPull(BoundLoss):
    def __init__(self, model: keras.Model, layers: Sequence[str] | None) -> None:
        self._model, self._layers = model, layers
        self._kernels = chosen_kernels(model, layers)
        with model.distribute_strategy.scope():
            self._targets = [
                tf.Variable(
                    tf.zeros(kernel.shape, tf.as_dtype(kernel.dtype)),
                    trainable=False,
                    aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
                )
                for kernel in self._kernels
            ]

    def teach(self, teacher: Teacher) -> bool:
        weights = teacher.weights()
        if weights is None:
            return False
        found = matching_kernels(self._model, self._kernels, weights, self._layers)
        for target, array in zip(self._targets, found, strict=True):
            target.assign(tf.cast(array, target.dtype))
        return True

    def after_update(self, strength: tf.Tensor) -> None:
        def pull() -> tf.Tensor:
            for kernel, target in zip(self._kernels, self._targets, strict=True):
                present = tf.convert_to_tensor(kernel.value)
                share = tf.cast(strength, present.dtype)
                kernel.value.assign(present + share * (tf.convert_to_tensor(target) - present))
            return tf.constant(True)

        if self._model.distribute_strategy.num_replicas_in_sync > 1:
            pull()  # variables of several replicas cannot be assigned to within a condition
        else:
            tf.cond(strength > 0.0, pull, lambda: tf.constant(False))


class _BoundOutputLoss(BoundLoss):
    """A loss on the answers of the teacher's network to the student's inputs."""

    is_loss = True

    def __init__(self, model: keras.Model) -> None:
        if model.distribute_strategy.num_replicas_in_sync > 1:
            raise ValueError(
                "MetaMomentum's losses on features and answers got a model that is trained on "
                f"{model.distribute_strategy.num_replicas_in_sync} replicas; expected one. Use "
                "form=Pull(), which works under a strategy."
            )
        self._model = model
        self._network: keras.Model | None = None

    def teach(self, teacher: Teacher) -> bool:
        network = teacher.network(self._model)
        if network is None:
            return False
        if network is not self._network:
            self.set_network(network)
        self._network = network
        return True

    def set_network(self, network: keras.Model) -> None:
        """Take a new teacher's network."""

    @property
    def network(self) -> keras.Model | None:
        return self._network

    def answer(self, x: Any) -> Any:
        """Answer of the teacher's network, in inference mode."""
        assert self._network is not None
        return self._network(x, training=False)


class _WholeTraining:
    """A form that lasts for the whole training by default."""

    def default_steps(self, strength: float) -> int | None:  # noqa: ARG002
        """The whole training."""
        return None


@configurable
class Features(_WholeTraining):
    """On features: a loss c_t · mean over watched layers l of mean((f_l − f*_l)²).

    f_l and f*_l are the outputs of layer l of student and teacher on the same batch; the inner
    mean is over examples and units. The idea is DrMAD's regression of a student's features on an
    earlier network's. It lasts for the whole training by default.
    """

    def bind(self, model: keras.Model, layers: Sequence[str] | None) -> BoundLoss:
        """Return the form for a model, with the layers to watch.

        Args:
          model: the student.
          layers: names of the layers to watch; None for the form's default.
        """
        return _BoundFeatures(model, layers)


class _BoundFeatures(_BoundOutputLoss):
    def __init__(self, model: keras.Model, layers: Sequence[str] | None) -> None:
        super().__init__(model)
        self._layers = watched_layers(model, layers)
        self._own = _Outputs(self._layers)
        self._theirs = _Outputs([])

    def set_network(self, network: keras.Model) -> None:
        self._theirs = _Outputs(matching_layers(self._model, self._layers, network))

    def attach(self) -> None:
        self._own.attach()

    def detach(self) -> None:
        self._own.detach()

    def loss(self, x: Any, y_pred: Any) -> tf.Tensor:  # noqa: ARG002
        self._theirs.attach()
        try:
            self.answer(x)
        finally:
            self._theirs.detach()
        terms = []
        for layer, own, other in zip(self._layers, self._own.seen, self._theirs.seen, strict=True):
            if own is None or other is None or own.shape[1:] != other.shape[1:]:
                raise ValueError(
                    f"Layer {layer.name!r} gives {_shape(own)} in the student and {_shape(other)} "
                    "in the teacher; expected the same shape in both. Name the layers whose "
                    "outputs have the same shape: MetaMomentum(teacher, layers=[...])."
                )
            difference = tf.cast(own, tf.float32) - tf.stop_gradient(tf.cast(other, tf.float32))
            terms.append(tf.reduce_mean(tf.square(difference)))
        return tf.add_n(terms) / len(terms)


@configurable
class Distillation(_WholeTraining):
    """On answers: a loss c_t · T² KL(softmax(z*/T) ‖ softmax(z/T)), mean over examples.

    z and z* are the logits of student and teacher (Hinton, Vinyals & Dean 2015, section 2; T² keeps
    the gradients' size). Deviation: it is added to the model's own loss, which keeps its weight of
    one. Where the answers of a batch are probabilities (none is negative, and those of each example
    add up to one), z is their logarithm, which is the same up to a constant. It lasts for the whole
    training by default.

    Args:
      temperature: T, above 0. Defaults to 2.

    Raises:
      ValueError: an argument is out of range.
    """

    def __init__(self, temperature: float = 2.0) -> None:
        usual = "2 to 5 soften the teacher's answers; 1 leaves them as they are."
        self.temperature = check_number("temperature", temperature, above=0, hint=usual)

    def bind(self, model: keras.Model, layers: Sequence[str] | None) -> BoundLoss:
        """Return the form for a model.

        Args:
          model: the student.
          layers: names of the layers to watch; None for the form's default.

        Raises:
          ValueError: layers are named.
        """
        if layers is not None:
            raise ValueError(
                f"MetaMomentum got layers={list(layers)} with form=Distillation(), which looks at "
                "the model's answers alone; expected layers=None. Leave it out, or use Features()."
            )
        return _BoundDistillation(model, self.temperature)


class _BoundDistillation(_BoundOutputLoss):
    def __init__(self, model: keras.Model, temperature: float) -> None:
        super().__init__(model)
        self._temperature = temperature

    def loss(self, x: Any, y_pred: Any) -> tf.Tensor:
        answers = self.answer(x)
        for whose, answer in (("student", y_pred), ("teacher", answers)):
            if (
                not hasattr(answer, "shape")
                or len(answer.shape) < 2
                or answer.shape[-1] in (None, 1)
            ):
                raise ValueError(
                    f"The {whose}'s answer is {_shape(answer)}; expected one tensor of logits "
                    "[..., classes] with two classes or more. Use form=Features() or Pull()."
                )
        if y_pred.shape[1:] != answers.shape[1:]:
            raise ValueError(
                f"The student answers with {_shape(y_pred)} and the teacher with "
                f"{_shape(answers)}; expected the same classes. Use a teacher of the same task, or "
                "form=Features() with the layers that both share."
            )
        own = _logits(y_pred) / self._temperature
        other = tf.stop_gradient(_logits(answers)) / self._temperature
        difference = tf.nn.log_softmax(other) - tf.nn.log_softmax(own)
        divergence = tf.reduce_sum(tf.nn.softmax(other) * difference, axis=-1)
        return self._temperature**2 * tf.reduce_mean(divergence)


#: How far the sums of probabilities lie from one by rounding, at most; of 16 bits.
ROUNDING, ROUNDING_OF_16_BITS = 1e-4, 2e-2


def _logits(answer: Any) -> tf.Tensor:
    """Return logits; the logarithms of an answer that is probabilities, however they were made."""
    is_short = answer.dtype in (tf.float16, tf.bfloat16)
    rounding = ROUNDING_OF_16_BITS if is_short else ROUNDING
    answer = tf.cast(answer, tf.float32)
    is_one = tf.abs(tf.reduce_sum(answer, axis=-1) - 1.0) < rounding
    are_probabilities = tf.logical_and(tf.reduce_all(answer >= 0.0), tf.reduce_all(is_one))
    return tf.where(are_probabilities, tf.math.log(tf.maximum(answer, 1e-7)), answer)


def _shape(tensor: Any) -> str:
    return str(tuple(tensor.shape)) if hasattr(tensor, "shape") else "nothing to compare"


class _Outputs:
    """Records the outputs of layers while a model is called, without a second forward pass."""

    def __init__(self, layers: Sequence[keras.layers.Layer]) -> None:
        self._layers = list(layers)
        self._before: list[Any] = []
        self.seen: list[Any] = [None] * len(self._layers)

    def attach(self) -> None:
        self._before = [vars(layer).get("call") for layer in self._layers]
        for number, layer in enumerate(self._layers):
            layer.call = self._recording(number, layer.call)

    def detach(self) -> None:
        for layer, before in zip(self._layers, self._before, strict=False):
            if before is not None:
                layer.call = before
            elif "call" in vars(layer):
                del layer.call
        self._before = []

    def _recording(self, number: int, call: Callable[..., Any]) -> Callable[..., Any]:
        def recording(*arguments: Any, **named: Any) -> Any:
            outputs = call(*arguments, **named)
            self.seen[number] = keras.tree.flatten(outputs)[0]
            return outputs

        return recording
