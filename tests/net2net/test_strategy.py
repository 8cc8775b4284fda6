import keras
import pytest
import tensorflow as tf

import net2net


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.distribute is TensorFlow's")
def test_a_model_grows_under_its_own_strategy_wherever_it_is_called():
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    with strategy.scope():
        model = keras.Sequential(
            [keras.Input((3,)), keras.layers.Dense(4, name="a"), keras.layers.Dense(2)]
        )
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    model.fit(tf.ones([8, 3]), tf.ones([8, 2]), verbose=0)
    for grown in (net2net.widen(model, "a", 8), net2net.deepen(model, "a")):
        assert grown.distribute_strategy is strategy
        assert grown.optimizer.built
    assert not tf.distribute.has_strategy()
