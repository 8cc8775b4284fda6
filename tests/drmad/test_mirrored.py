"""Two devices that share each batch find the same as one; in a process of their own."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

CODE = """
    import sys
    import numpy as np
    import tensorflow as tf
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    from helpers.drmad_cases import data, tuner
    from keras_qan import drmad

    some = [drmad.L2(per="weight"), drmad.LearningRate(), drmad.LossWeights("example")]
    one = tuner(some)
    unneeded = {"optuna", "tf_agents", "keras_qan.plots.figures"} & set(sys.modules)
    assert not unneeded, unneeded
    # The strategy in scope is taken by itself.
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        two = tuner(some)
    assert len(two._model.devices) == 2
    for method in ("drmad", "exact"):
        left, right = (t.hypergradient(method=method) for t in (one, two))
        for name in left:
            np.testing.assert_allclose(left[name], right[name], rtol=1e-9, atol=1e-15)
    two.search(outer_steps=2)
    loss = two.best_model().evaluate(*data(seed=1), verbose=0)[0]
    assert abs(loss - two.val_loss) < 1e-5
    print("same")
"""


@pytest.mark.slow
def test_a_mirrored_strategy_finds_the_hypergradient_of_one_device_and_loads_nothing_unneeded():
    tests = Path(__file__).parents[1]
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CODE)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tests.parent), str(tests)])},
    )
    assert ran.stdout.strip().endswith("same"), ran.stderr[-3000:]
