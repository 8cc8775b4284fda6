"""Callbacks in the hands of another Keras."""

import functools

import keras
import numpy as np
import pytest

from keras_qan import QANCallback
from keras_qan.diagnostics import SlopeRatio
from keras_qan.early_stopping import CurveStopping
from keras_qan.meta_momentum import MetaMomentum
from keras_qan.utils import backend
from keras_qan.utils.backend import compile_function

tf_keras = pytest.importorskip("tf_keras", reason="Keras 2 comes with the extra `learn`")


@pytest.mark.parametrize("kind", [QANCallback, SlopeRatio, CurveStopping, MetaMomentum])
def test_a_model_of_keras_2_is_refused_by_name(kind):
    callback = kind.__new__(kind)
    with pytest.raises(TypeError, match=f"{kind.__name__} got a model of Keras 2; expected"):
        tf_keras.callbacks.CallbackList([callback])


def test_functions_of_many_shapes_are_compiled_without_a_warning(caplog):
    double = compile_function(lambda values: 2.0 * values)
    with caplog.at_level("WARNING"):
        for size in range(1, 12):
            assert np.asarray(double(keras.ops.ones(size))).tolist() == [2.0] * size
    assert "retracing" not in caplog.text


def test_what_is_compiled_for_a_shape_is_not_kept_for_ever(monkeypatch):
    compiled = functools.lru_cache(maxsize=2)(backend._compiled.__wrapped__)
    monkeypatch.setattr(backend, "_compiled", compiled)
    double = compile_function(lambda values: 2.0 * values)
    for size in (1, 2, 3, 1):
        assert np.asarray(double(keras.ops.ones(size))).tolist() == [2.0] * size
    assert compiled.cache_info().currsize == 2
    assert backend.MOST_COMPILED < 1_000
