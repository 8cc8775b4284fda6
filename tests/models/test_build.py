import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_qan.models import UnknownModelError, build, names

SMALL = ["mlp", "cnn", "cnn_bn", "wrn-10-1"]


def single_kernels(model):
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    return sum(int(np.prod(layer.kernel.shape[-2:])) for layer in convolutions)


def trainable(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (32, 32, 3)])
def test_every_model_maps_images_to_logits(name, shape):
    model = build(name, shape, 10)
    logits = model(np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32))
    assert logits.shape == (2, 10)
    assert logits.dtype == "float32"
    assert not model.compiled
    # Logits, not probabilities.
    assert np.abs(np.asarray(logits).sum(axis=1) - 1.0).min() > 1e-4


@pytest.mark.parametrize("name", SMALL)
def test_a_seed_repeats_the_weights_bit_for_bit_whatever_the_global_seed(name):
    keras.utils.set_random_seed(1)
    first = build(name, (8, 8, 1), 10, seed=4).get_weights()
    keras.utils.set_random_seed(2)
    again = build(name, (8, 8, 1), 10, seed=4).get_weights()
    other = build(name, (8, 8, 1), 10, seed=5).get_weights()
    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
    kernels = [
        (one, two) for one, two in zip(first, other, strict=True) if one.ndim > 1 and one.std() > 0
    ]
    assert kernels
    assert not any(np.array_equal(one, two) for one, two in kernels)


def test_no_global_generator_is_touched():
    def draw(between):
        keras.utils.set_random_seed(3)
        between()
        return np.random.random(), float(keras.random.uniform(()))

    if draw(lambda: None) != draw(lambda: None):
        pytest.skip("this Keras does not set its global generator back by set_random_seed")
    assert draw(lambda: build("cnn_bn", (8, 8, 1), 10, seed=1)) == draw(lambda: None)


def test_layers_of_one_shape_start_with_different_weights():
    model = build("wrn-16-1", (8, 8, 1), 10)
    first = model.get_layer("group_1_block_1_conv_1").get_weights()[0]
    second = model.get_layer("group_1_block_1_conv_2").get_weights()[0]
    assert first.shape == second.shape
    assert not np.array_equal(first, second)


def test_names_of_layers_do_not_depend_on_what_was_built_before():
    first = [layer.name for layer in build("cnn", (8, 8, 1), 10).layers]
    assert first == [layer.name for layer in build("cnn", (8, 8, 1), 10).layers]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["cnn", "cnn_bn"])
def test_the_convolutions_hold_the_promised_number_of_kernels(name, channels):
    assert single_kernels(build(name, (28, 28, channels), 10)) == 16 * channels + 512


def test_the_cnn_has_the_promised_layers():
    kinds = [type(layer).__name__ for layer in build("cnn", (28, 28, 1), 10).layers]
    assert kinds == [
        "InputLayer",
        "Conv2D",
        "MaxPooling2D",
        "Conv2D",
        "MaxPooling2D",
        "Flatten",
        "Dense",
        "Dense",
    ]


def wrn_parameters(depth, width, channels, classes):
    """Counted from the paper's Table 1, layer by layer."""
    blocks = (depth - 4) // 6
    total = 9 * channels * 16
    before = 16
    for planes in (16 * width, 32 * width, 64 * width):
        for _ in range(blocks):
            total += 2 * before + 9 * before * planes  # normalise, convolve
            total += 2 * planes + 9 * planes * planes
            total += before * planes if before != planes else 0
            before = planes
    return total + 2 * before + before * classes + classes


@pytest.mark.parametrize(("depth", "width"), [(10, 1), (16, 1), (16, 2), (22, 1)])
def test_wide_residual_networks_have_the_parameters_of_the_papers_table(depth, width):
    model = build(f"wrn-{depth}-{width}", (32, 32, 3), 10)
    assert trainable(model) == wrn_parameters(depth, width, 3, 10)


@pytest.mark.slow
def test_wrn_40_4_has_the_papers_8_9_million_parameters():
    model = build("wrn-40-4", (32, 32, 3), 10)
    assert trainable(model) == wrn_parameters(40, 4, 3, 10)
    assert 8.9e6 <= trainable(model) < 9.0e6
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    # 1 + 3 groups of 6 blocks of 2, and one projection a group: the 40 of the name.
    assert len(convolutions) == 1 + 36 + 3


@pytest.mark.slow
def test_groups_halve_the_image_twice():
    model = build("wrn-16-1", (32, 32, 3), 10)
    shapes = [model.get_layer(f"group_{group}_block_2_add").output.shape for group in (1, 2, 3)]
    assert shapes == [(None, 32, 32, 16), (None, 16, 16, 32), (None, 8, 8, 64)]


def test_wide_kernels_start_with_hes_standard_deviation_over_the_fan_out():
    kernel = build("wrn-10-4", (32, 32, 3), 10).get_layer("group_3_block_1_conv_2").get_weights()[0]
    assert kernel.std() == pytest.approx(np.sqrt(2 / (9 * 256)), rel=0.01)


def test_weight_decay_adds_half_lambda_times_the_squares_of_the_kernels():
    model = build("cnn", (8, 8, 1), 10, weight_decay=5e-4)
    squares = sum(float((w**2).sum()) for w in model.get_weights() if w.ndim > 1)
    assert float(sum(model.losses)) == pytest.approx(5e-4 / 2 * squares, rel=1e-5)
    assert build("cnn", (8, 8, 1), 10).losses == []


def test_logits_stay_float32_in_mixed_precision():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = build("cnn", (8, 8, 1), 10)
    finally:
        keras.config.set_dtype_policy(before)
    assert model.output.dtype == "float32"
    assert model.get_layer("conv_1").compute_dtype == "float16"


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "mlp",
        "cnn",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ["cnn_bn", "wrn-10-1"]),
    ],
)
def test_a_model_learns_a_little(name):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(32, 8, 8, 1)).astype(np.float32)
    y = generator.integers(0, 3, 32)
    model = build(name, (8, 8, 1), 3, weight_decay=1e-4)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    losses = model.fit(x, y, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


@pytest.mark.slow
def test_every_name_that_is_offered_can_be_built():
    for name in names():
        if name != "wrn-28-10":  # 36 million parameters
            assert build(name, (8, 8, 1), 10).name == name


@pytest.mark.parametrize(
    ("wrong", "near"), [("cnnn", "cnn"), ("CNN-BN", "cnn_bn"), ("wrn-16", "wrn-16-1"), ("q", "cnn")]
)
def test_an_unknown_name_gets_near_names(wrong, near):
    with pytest.raises(UnknownModelError, match=rf"Received the model '{wrong}'.*{near}"):
        build(wrong, (8, 8, 1), 10)


@pytest.mark.parametrize(
    ("wrong", "near"), [("wrn-41-4", "wrn-40-4"), ("wrn-4-1", "wrn-10-1"), ("wrn-16-0", "wrn-16-1")]
)
def test_a_depth_that_does_not_divide_into_groups_gets_the_next_one(wrong, near):
    with pytest.raises(ValueError, match=rf"{wrong}.*6·n \+ 4.*Try {near}"):
        build(wrong, (8, 8, 1), 10)


@pytest.mark.parametrize("shape", [(), (8, 8), (0, 8, 1), (2, 8, 1), (1, 8, 8, 1)])
def test_a_shape_that_is_no_image_is_refused(shape):
    with pytest.raises(ValueError, match=r"input_shape for the model 'cnn' is .*height, width"):
        build("cnn", shape, 10)


def test_arguments_out_of_range_are_refused():
    with pytest.raises(ValueError, match="num_classes is 1"):
        build("cnn", (8, 8, 1), 1)
    with pytest.raises(ValueError, match="seed is -1"):
        build("cnn", (8, 8, 1), 10, seed=-1)
    with pytest.raises(ValueError, match="weight_decay is -1"):
        build("cnn", (8, 8, 1), 10, weight_decay=-1.0)


def test_importing_the_room_does_not_load_keras():
    code = "import sys, keras_qan.models; print('keras' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
