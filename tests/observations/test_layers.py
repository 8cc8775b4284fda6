import keras
import pytest
from keras import layers

from keras_qan.observations import watched_kernels


@pytest.fixture(scope="module")
def small():
    return keras.Sequential(
        [
            layers.Input((8, 8, 1)),
            layers.Conv2D(2, 3, name="first"),
            layers.BatchNormalization(name="norm"),
            layers.Conv2D(3, 3, name="second"),
            layers.Flatten(),
            layers.Dense(4, name="head"),
        ],
        name="small",
    )


def shapes(kernels):
    return [tuple(kernel.shape) for kernel in kernels]


def test_the_first_convolution_is_watched_by_default(small):
    assert shapes(watched_kernels(small, None)) == [(3, 3, 1, 2)]


def test_a_convolution_behind_a_dense_layer_is_still_the_default():
    model = keras.Sequential(
        [
            layers.Input((4, 4)),
            layers.Dense(6),
            layers.Conv1D(2, 3),
        ]
    )
    assert shapes(watched_kernels(model, None)) == [(3, 6, 2)]


def test_the_first_kernel_is_watched_where_there_is_no_convolution():
    model = keras.Sequential([layers.Input((5,)), layers.Dense(3), layers.Dense(2)])
    assert shapes(watched_kernels(model, None)) == [(5, 3)]


def test_layers_are_watched_by_name_and_in_the_order_asked_for(small):
    assert shapes(watched_kernels(small, ["head", "first"])) == [(48, 4), (3, 3, 1, 2)]


def test_layers_are_watched_by_position_among_the_kernels(small):
    assert shapes(watched_kernels(small, [1, -1])) == [(3, 3, 2, 3), (48, 4)]


@pytest.mark.parametrize("position", [3, -4])
def test_a_position_beyond_the_kernels_is_refused(small, position):
    with pytest.raises(
        ValueError, match="has 3 trainable kernels; expected a position from 0 to 2"
    ):
        watched_kernels(small, [position])


def test_an_unknown_name_is_refused_with_a_suggestion(small):
    with pytest.raises(ValueError, match=r"'frist'.*Did you mean 'first'\?.*first, head, second"):
        watched_kernels(small, ["frist"])


def test_a_layer_without_a_kernel_is_refused(small):
    with pytest.raises(ValueError, match=r"'norm'.*no layer of that name with a trainable kernel"):
        watched_kernels(small, ["norm"])


def test_a_frozen_first_convolution_is_passed_over(small):
    model = keras.models.clone_model(small)
    model.get_layer("first").trainable = False
    assert shapes(watched_kernels(model, None)) == [(3, 3, 2, 3)]
    with pytest.raises(ValueError, match="'first'"):
        watched_kernels(model, ["first"])


def test_a_frozen_model_has_no_kernel_by_default_and_nothing_to_watch_by_position():
    model = keras.Sequential([layers.Input((5,)), layers.Dense(3)], name="still")
    model.trainable = False
    with pytest.raises(ValueError, match=r"'still' has no trainable kernel.*TrainingState\(\)"):
        watched_kernels(model, None)
    assert watched_kernels(model, (0, -1)) == []


def test_positions_count_other_matrices_and_then_any_weights_where_there_is_no_kernel():
    embedding = keras.Sequential([layers.Input((1,)), layers.Embedding(20, 4)])
    assert shapes(watched_kernels(embedding, (0, -1))) == [(20, 4), (20, 4)]
    with pytest.raises(ValueError, match="position from 0 to 0"):
        watched_kernels(embedding, [1])
    scales = keras.Sequential([layers.Input((5,)), layers.BatchNormalization()])
    assert shapes(watched_kernels(scales, (0, -1))) == [(5,), (5,)]
    with pytest.raises(ValueError, match="no trainable kernel"):
        watched_kernels(scales, None)


def test_the_factors_of_lora_are_watched_where_kernels_are_frozen():
    model = keras.Sequential([layers.Input((6,)), layers.Dense(5, name="dense")])
    model.layers[0].enable_lora(2)
    model.layers[0].bias.trainable = False
    assert shapes(watched_kernels(model, (0, -1))) == [(6, 2), (2, 5)]


def test_layers_of_nested_models_are_found_by_name_and_by_default():
    inner = keras.Sequential([layers.Input((8, 8, 1)), layers.Conv2D(2, 3, name="deep")], name="in")
    outer_input = layers.Input((8, 8, 1))
    outputs = layers.Dense(1, name="top")(layers.Flatten()(inner(outer_input)))
    model = keras.Model(outer_input, outputs)
    assert shapes(watched_kernels(model, None)) == [(3, 3, 1, 2)]
    assert shapes(watched_kernels(model, ["deep", "top"])) == [(3, 3, 1, 2), (72, 1)]


def test_a_layer_with_several_kernels_gives_them_all():
    model = keras.Sequential([layers.Input((8, 8, 3)), layers.SeparableConv2D(4, 3, name="both")])
    assert shapes(watched_kernels(model, ["both"])) == [(3, 3, 3, 1), (1, 1, 3, 4)]
