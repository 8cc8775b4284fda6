"""Callbacks in the hands of another Keras."""

import pytest

from keras_qan import QANCallback
from keras_qan.diagnostics import SlopeRatio
from keras_qan.early_stopping import CurveStopping
from keras_qan.meta_momentum import MetaMomentum

tf_keras = pytest.importorskip("tf_keras", reason="Keras 2 comes with the extra `learn`")


@pytest.mark.parametrize("kind", [QANCallback, SlopeRatio, CurveStopping, MetaMomentum])
def test_a_model_of_keras_2_is_refused_by_name(kind):
    callback = kind.__new__(kind)
    with pytest.raises(TypeError, match=f"{kind.__name__} got a model of Keras 2; expected"):
        tf_keras.callbacks.CallbackList([callback])
