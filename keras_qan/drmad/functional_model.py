"""The model as pure functions of its weights: loss, gradient, Hessian-vector product."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_qan.drmad.data import Batch, BatchRecording
from keras_qan.drmad.hyperparameters import Hyperparameter, InitialScale, LearningRate, Momentum
from keras_qan.drmad.losses import ExampleLoss
from keras_qan.drmad.model_info import ModelInfo

Tensors = list[tf.Tensor]

# Random layers count how often they drew; each step begins at a multiple of this.
_DRAWS_PER_STEP = 1024


class FunctionalModel:
    """The user's model, its training data and its hyperparameters, as functions of the weights.

    The model's own layers are called through `stateless_call`. Its weights are given at each call
    and never assigned.

    Args:
      model: a built Keras model with one output.
      loss: loss of each example.
      hyperparameters: the hyperparameters to tune.
      train: training examples.
      validation: validation examples.
      learning_rate: α of a training whose rate is not tuned.
      momentum: γ of a training whose momentum is not tuned.
      seed: of the random layers.
      devices: devices that share each batch. Defaults to TensorFlow's own choice.

    Raises:
      ValueError: the model cannot be trained this way; the message says why.
    """

    def __init__(
        self,
        model: keras.Model,
        loss: ExampleLoss,
        hyperparameters: Sequence[Hyperparameter],
        train: BatchRecording,
        validation: BatchRecording,
        *,
        learning_rate: float,
        momentum: float,
        seed: int,
        devices: Sequence[str] = ("",),
    ) -> None:
        self.model = model
        self.train = train
        self.validation = validation
        self.devices = tuple(devices)
        self.hyperparameters = list(hyperparameters)
        self.info = _model_info(model, loss, train, learning_rate, momentum)
        self._in_loss = [n for n, h in enumerate(self.hyperparameters) if h.in_loss]
        self._rate, self._rate_place = self._only(LearningRate("universal"))
        self._momentum, self._momentum_place = self._only(Momentum())
        self._scale, self._scale_place = self._only(InitialScale())
        self.initial_weights = [_numpy(v) for v in model.trainable_variables]
        self.initial_state = [_numpy(v) for v in model.non_trainable_variables]
        self._seeds = _seed_places(model, seed)

    def _only(self, default: Any) -> tuple[Any, int | None]:
        """Hyperparameter of the default's class and its place, or the default and None."""
        for place, found in enumerate(self.hyperparameters):
            if isinstance(found, type(default)):
                return found, place
        return default, None

    @property
    def tunes_start(self) -> bool:
        """True if the initial weights depend on a hyperparameter."""
        return self._scale_place is not None

    def restart_from(self, weights: list[np.ndarray], state: list[np.ndarray]) -> None:
        """Set the weights that every training starts from."""
        self.initial_weights, self.initial_state = weights, state

    # The update.

    def rates(self, values: Tensors, progress: tf.Tensor) -> tf.Tensor:
        """α of each weight tensor at this point of the training, `[W]`."""
        if self._rate_place is None:
            return tf.fill([len(self.info.shapes)], self._number(self.info.learning_rate))
        return self._rate.rates(values[self._rate_place], progress, self.info)

    def gamma(self, values: Tensors, progress: tf.Tensor) -> tf.Tensor:
        """γ at this point of the training, `[]`."""
        if self._momentum_place is None:
            return self._number(self.info.momentum)
        return self._momentum.momentum(values[self._momentum_place], progress)

    def start(self, values: Tensors, weights: Tensors) -> Tensors:
        """Weights that the training starts from."""
        if self._scale_place is None:
            return weights
        return self._scale.scaled(values[self._scale_place], weights, self.info)

    def _number(self, value: float) -> tf.Tensor:
        return tf.constant(value, self.info.dtype)

    # The training loss.

    def gradient(
        self, weights: Tensors, values: Tensors, state: Tensors, step: tf.Tensor
    ) -> tuple[tf.Tensor, Tensors, Tensors]:
        """Training loss of a step's batch, its gradient, and the state after the step.

        Args:
          weights: the trainable weights.
          values: the hyperparameters' values.
          state: the weights that are not trained.
          step: number of the step, from which batch and random layers' draws follow.
        """
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(weights)
            loss, new_state = self._loss(weights, values, state, step)
        return loss, _dense(tape.gradient(loss, weights), weights), new_state

    def products(
        self, weights: Tensors, values: Tensors, state: Tensors, step: tf.Tensor, vector: Tensors
    ) -> tuple[Tensors, Tensors, Tensors]:
        """Gradient g of a step's training loss, and the derivatives of ⟨g, vector⟩.

        Reverse over reverse: on a CPU it took two thirds of the time of forward over reverse.

        Returns:
          g; H · vector; and for each hyperparameter (∂g/∂value)ᵀ · vector, zero for those that are
          not in the loss.
        """
        direct = [values[place] for place in self._in_loss]
        with tf.GradientTape(watch_accessed_variables=False) as outer:
            outer.watch([weights, direct])
            with tf.GradientTape(watch_accessed_variables=False) as inner:
                inner.watch(weights)
                loss, _ = self._loss(weights, values, state, step)
            gradient = _dense(inner.gradient(loss, weights), weights)
            along = dot(gradient, vector)
        hessian, mixed = outer.gradient(along, [weights, direct])
        found = dict(zip(self._in_loss, mixed, strict=True))
        by_value = [found.get(place) for place in range(len(values))]
        return gradient, _dense(hessian, weights), _dense(by_value, values)

    def _loss(
        self, weights: Tensors, values: Tensors, state: Tensors, step: tf.Tensor
    ) -> tuple[tf.Tensor, Tensors]:
        state = self._seeded(state, step)
        batch = self.train.batch(step)
        size = tf.shape(batch.index)[0]
        terms, states = [], []
        for number, device in enumerate(self.devices):
            with tf.device(device or None):
                share = batch
                if len(self.devices) > 1:
                    ends = [size * (number + k) // len(self.devices) for k in (0, 1)]
                    share = self.train.examples(batch.index[ends[0] : ends[1]])
                term, new_state = self._share(weights, values, state, share, size)
                terms.append(term)
                states.append(new_state)
        for place in self._in_loss:
            penalty = self.hyperparameters[place].penalty(values[place], weights, self.info)
            if penalty is not None:
                terms.append(penalty)
        return tf.add_n(terms), _mean_state(states)

    def _share(
        self, weights: Tensors, values: Tensors, state: Tensors, batch: Batch, size: tf.Tensor
    ) -> tuple[tf.Tensor, Tensors]:
        outputs, new_state, own = self.model.stateless_call(
            weights, state, batch.x, training=True, return_losses=True
        )
        losses = self.info.loss(batch.y, outputs, batch.weight)
        for place in self._in_loss:
            losses = self.hyperparameters[place].weigh(
                values[place], losses, outputs, batch, self.info
            )
        loss = tf.reduce_sum(losses) / tf.cast(size, losses.dtype)
        loss += _sum_of(own, loss.dtype) / len(self.devices)
        return tf.cast(loss, self.info.dtype), [tf.convert_to_tensor(s) for s in new_state]

    def _seeded(self, state: Tensors, step: tf.Tensor) -> Tensors:
        """State with random layers' counters set for the step."""
        state = list(state)
        for place, seed in self._seeds.items():
            count = tf.cast(step, tf.uint32) * _DRAWS_PER_STEP
            state[place] = tf.cast(
                tf.stack([tf.constant(seed, tf.uint32), count]), state[place].dtype
            )
        return state

    # The validation loss.

    def validation_loss(self, weights: Tensors, state: Tensors, batch: Batch) -> tf.Tensor:
        """Mean loss of a validation batch times its size, as `evaluate` sums it up.

        The model's own regularisers and added losses are in it; tuned penalties are not.
        """
        outputs, _, own = self.model.stateless_call(
            weights, state, batch.x, training=False, return_losses=True
        )
        losses = self.info.loss(batch.y, outputs, batch.weight)
        size = tf.cast(tf.shape(batch.index)[0], losses.dtype)
        total = tf.reduce_sum(losses) + size * _sum_of(own, losses.dtype)
        return tf.cast(total, self.info.dtype)


def _sum_of(own: Sequence[Any], dtype: tf.DType) -> tf.Tensor:
    """Sum of a model's regularisers and added losses, `[]`."""
    terms = [tf.cast(tf.reduce_sum(term), dtype) for term in own]
    return tf.add_n(terms) if terms else tf.zeros([], dtype)


def dot(left: Tensors, right: Tensors) -> tf.Tensor:
    """Σ over all tensors of ⟨left, right⟩, `[]`."""
    return tf.add_n([tf.reduce_sum(a * b) for a, b in zip(left, right, strict=True)])


def _dense(found: Sequence[Any], like: Tensors) -> Tensors:
    """Gradients as dense tensors; a missing one is zero."""
    return [
        tf.zeros_like(other) if tensor is None else tf.convert_to_tensor(tensor)
        for tensor, other in zip(found, like, strict=True)
    ]


def _mean_state(states: list[Tensors]) -> Tensors:
    if len(states) == 1:
        return states[0]
    return [
        tf.add_n(list(parts)) / len(parts) if parts[0].dtype.is_floating else parts[0]
        for parts in zip(*states, strict=True)
    ]


def _numpy(variable: Any) -> np.ndarray:
    return np.array(keras.ops.convert_to_numpy(variable))


def _model_info(
    model: keras.Model,
    loss: ExampleLoss,
    train: BatchRecording,
    learning_rate: float,
    momentum: float,
) -> ModelInfo:
    _refuse_mixed_precision(model)
    outputs = getattr(model, "outputs", None)
    if not outputs or len(outputs) > 1:
        kind = len(outputs) if outputs else "an unknown number of"
        raise ValueError(
            f"build_model returned a model with {kind} outputs; expected a functional or "
            "sequential model with one. Join them in the model."
        )
    dtypes = {str(keras.backend.standardize_dtype(v.dtype)) for v in model.trainable_variables}
    if len(dtypes) > 1:
        raise ValueError(
            f"build_model returned a model with weights of {sorted(dtypes)}; expected one type. "
            "Give all layers the same dtype."
        )
    paths = [v.path for v in model.trainable_variables]
    of_weight = _layer_names(model)
    layers = list(dict.fromkeys(of_weight))
    inputs = model.inputs
    return ModelInfo(
        paths=tuple(paths),
        shapes=tuple(tuple(v.shape) for v in model.trainable_variables),
        layers=tuple(layers),
        layer_of=tuple(layers.index(name) for name in of_weight),
        dtype=tf.as_dtype(dtypes.pop()),
        input_shape=tuple(inputs[0].shape[1:]) if len(inputs) == 1 else None,
        num_examples=train.num_examples,
        num_classes=int(outputs[0].shape[-1] or 0),
        loss=loss,
        learning_rate=learning_rate,
        momentum=momentum,
    )


def _layer_names(model: keras.Model) -> list[str]:
    """Layer of each trainable weight: its name, or its path where two layers share a name."""
    owners = {
        id(variable): layer
        for layer in model._flatten_layers()
        for variable in layer._trainable_variables
    }
    by_name: dict[str, set[int]] = {}
    for layer in owners.values():
        by_name.setdefault(layer.name, set()).add(id(layer))
    found = []
    for variable in model.trainable_variables:
        layer = owners.get(id(variable))
        if layer is not None and len(by_name[layer.name]) == 1:
            found.append(layer.name)
        else:
            found.append(variable.path.rsplit("/", 1)[0])
    return found


def _refuse_mixed_precision(model: keras.Model) -> None:
    for layer in model._flatten_layers():
        policy = layer.dtype_policy
        half = policy.compute_dtype in ("float16", "bfloat16")
        if half or policy.compute_dtype != policy.variable_dtype:
            raise ValueError(
                f"The layer {layer.name} has the dtype policy {policy.name}; expected float32 or "
                "float64 throughout. Mixed precision is refused: the reverse pass multiplies by "
                "Hessians, which are differences of gradients and drown in half precision's "
                "rounding, and loss scaling is not differentiated. Build the model with "
                "dtype='float32'."
            )


def _seed_places(model: keras.Model, seed: int) -> dict[int, int]:
    """Places of random layers' counters among the state, and the seed of each."""
    places = {id(v): place for place, v in enumerate(model.non_trainable_variables)}
    generators = [g for layer in model._flatten_layers() for g in layer._seed_generators]
    found = [places[id(g.state)] for g in generators if id(g.state) in places]
    drawn = np.random.SeedSequence(seed, spawn_key=(7,)).generate_state(max(1, len(found)))
    return {place: int(drawn[number]) for number, place in enumerate(found)}
