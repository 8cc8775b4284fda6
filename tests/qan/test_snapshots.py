"""What is done on every device of a student whose variables are mirrored."""

import tensorflow as tf

from keras_qan.qan.model_access import (
    MirroredVariable,
    ModelAccess,
    assign_rates,
    clear_loss_sums,
    loss_sums,
)


class TwoWorkers:
    """Another worker, whose losses sum to 10 over 4 examples."""

    def gather(self, values):
        return tf.stack([values, tf.constant([10.0, 4.0])])


def student(team=None):
    def numbers(*values):
        return [tf.Variable(value) for value in values]

    return ModelAccess(
        kernels=[],
        rates=numbers(0.1, 0.2),
        loss_total=tf.Variable(3.0),
        loss_count=tf.Variable(2.0),
        mirrors=MirroredVariable([numbers(0.1), numbers(0.2)], numbers(5.0), numbers(2.0), team),
    )


def test_rates_are_assigned_on_every_device():
    one = student()
    assign_rates(one, tf.constant([0.25, 0.5]))
    assert [float(rate) for rate in one.rates] == [0.25, 0.5]
    assert [[float(rate) for rate in rates] for rates in one.mirrors.rates] == [[0.25], [0.5]]


def test_losses_are_summed_over_devices():
    assert loss_sums(student()).numpy().tolist() == [8.0, 4.0]


def test_losses_are_summed_over_workers():
    assert loss_sums(student(TwoWorkers())).numpy().tolist() == [18.0, 8.0]


def test_sums_are_set_back_on_every_device_and_only_where_asked():
    one = student()
    clear_loss_sums(one, tf.constant(False))
    assert loss_sums(one).numpy().tolist() == [8.0, 4.0]
    clear_loss_sums(one, tf.constant(True))
    assert loss_sums(one).numpy().tolist() == [0.0, 0.0]


def test_one_device_needs_no_mirrors():
    alone = student()._replace(mirrors=MirroredVariable())
    assign_rates(alone, tf.constant([0.25, 0.5]))
    assert [float(rate) for rate in alone.rates] == [0.25, 0.5]
    assert loss_sums(alone).numpy().tolist() == [3.0, 2.0]
