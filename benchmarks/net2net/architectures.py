"""Small models of the structures that people grow; rebuilt here from public descriptions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

L, ops = keras.layers, keras.ops


def block(x: Any, width: int, pre: bool = True, attention: Any = None, act: str = "gelu") -> Any:
    """A transformer block, normalised before or after."""
    attention = attention or L.MultiHeadAttention(2, 4)
    y = L.LayerNormalization()(x) if pre else x
    x = L.Add()([x, attention(y, y)])
    x = x if pre else L.LayerNormalization()(x)
    y = L.LayerNormalization()(x) if pre else x
    y = L.Dense(width)(L.Dense(2 * width, act)(y))
    x = L.Add()([x, y])
    return x if pre else L.LayerNormalization()(x)


def words(length: int = 6) -> Any:
    return keras.Input((length,), dtype="int32")


def mlp() -> Any:
    layers = [L.Dense(8, "relu"), L.Dropout(0.2), L.Dense(6, "tanh"), L.Dense(2, "softmax")]
    return keras.Sequential([keras.Input((6,)), *layers])


def lenet() -> Any:
    layers = [L.Conv2D(4, 5, activation="tanh"), L.AveragePooling2D(2), L.Flatten()]
    return keras.Sequential(
        [keras.Input((16, 16, 1)), *layers, L.Dense(8, "tanh"), L.Dense(10, "softmax")]
    )


def vgg() -> Any:
    layers: list[Any] = [keras.Input((16, 16, 3))]
    for width in (4, 6):
        layers += [L.Conv2D(width, 3, padding="same", activation="relu"), L.MaxPooling2D(2)]
    return keras.Sequential([*layers, L.Flatten(), L.Dense(8, "relu"), L.Dense(3)])


def resnet(pre: bool) -> Any:
    inputs = keras.Input((12, 12, 3))
    x = L.Conv2D(4, 3, padding="same")(inputs)
    for width in (4, 6):
        y = L.ReLU()(L.BatchNormalization()(x)) if pre else x
        y = L.ReLU()(L.BatchNormalization()(L.Conv2D(width, 3, padding="same")(y)))
        y = L.BatchNormalization()(L.Conv2D(width, 3, padding="same")(y))
        short = x if x.shape[-1] == width else L.Conv2D(width, 1)(x)
        x = L.Add()([short, y])
        x = x if pre else L.ReLU()(x)
    return keras.Model(inputs, L.Dense(2)(L.GlobalAveragePooling2D()(x)))


def inception() -> Any:
    inputs = keras.Input((8, 8, 3))
    parts = [L.Conv2D(3, k, padding="same", activation="relu")(inputs) for k in (1, 3, 5)]
    parts.append(L.Conv2D(2, 1)(L.MaxPooling2D(3, 1, padding="same")(inputs)))
    x = L.Conv2D(4, 1, activation="relu")(L.Concatenate()(parts))
    return keras.Model(inputs, L.Dense(2)(L.GlobalMaxPooling2D()(x)))


def densenet() -> Any:
    inputs = keras.Input((8, 8, 3))
    x = L.Conv2D(4, 3, padding="same")(inputs)
    for _ in range(2):
        y = L.Conv2D(3, 3, padding="same")(L.ReLU()(L.BatchNormalization()(x)))
        x = L.Concatenate()([x, y])
    return keras.Model(inputs, L.Dense(2)(L.GlobalAveragePooling2D()(x)))


def mobilenet() -> Any:
    inputs = keras.Input((8, 8, 3))
    x = L.Conv2D(4, 1)(inputs)
    y = L.ReLU(6.0)(L.BatchNormalization()(L.Conv2D(8, 1)(x)))
    y = L.ReLU(6.0)(L.BatchNormalization()(L.DepthwiseConv2D(3, padding="same")(y)))
    s = L.Reshape((1, 1, 8))(L.GlobalAveragePooling2D()(y))
    s = L.Conv2D(8, 1, activation="sigmoid")(L.Conv2D(2, 1, activation="silu")(s))
    x = L.Add()([x, L.Conv2D(4, 1)(L.Multiply()([y, s]))])
    return keras.Model(inputs, L.Dense(2)(L.GlobalAveragePooling2D()(x)))


def convnext() -> Any:
    inputs = keras.Input((8, 8, 3))
    x = L.LayerNormalization()(L.Conv2D(4, 2, strides=2)(inputs))
    y = L.LayerNormalization()(L.DepthwiseConv2D(3, padding="same")(x))
    x = L.Add()([x, L.Dense(4)(L.Dense(8, "gelu")(y))])
    return keras.Model(inputs, L.Dense(2)(L.GlobalAveragePooling2D()(x)))


def unet() -> Any:
    inputs = keras.Input((None, None, 1))
    a = L.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    b = L.Conv2D(6, 3, padding="same", activation="relu")(L.MaxPooling2D(2)(a))
    u = L.Concatenate()([L.Conv2DTranspose(4, 2, strides=2)(b), a])
    return keras.Model(inputs, L.Conv2D(1, 1, activation="sigmoid")(L.Conv2D(4, 3)(u)))


def autoencoder() -> Any:
    inputs = keras.Input((8, 8, 1))
    x = L.Dense(5, name="code")(L.Flatten()(L.Conv2D(4, 3, strides=2)(inputs)))
    x = L.Reshape((2, 2, 4))(L.Dense(16, "relu")(x))
    x = L.Conv2DTranspose(4, 3, strides=2, padding="same", activation="relu")(x)
    return keras.Model(inputs, L.Conv2D(1, 1)(L.UpSampling2D()(x)))


def vae() -> Any:
    inputs = keras.Input((6,))
    x = L.Dense(8, "relu")(inputs)
    mean, log = L.Dense(3)(x), L.Dense(3)(x)
    z = mean + ops.exp(0.5 * log) * 0.1
    return keras.Model(inputs, [L.Dense(6)(L.Dense(8, "relu")(z)), mean, log])


def alphazero() -> Any:
    inputs = keras.Input((6, 6, 3))
    x = L.ReLU()(L.BatchNormalization()(L.Conv2D(4, 3, padding="same")(inputs)))
    policy = L.Dense(36)(L.Flatten()(L.Conv2D(2, 1, activation="relu")(x)))
    value = L.Dense(6, "relu")(L.Flatten()(L.Conv2D(1, 1, activation="relu")(x)))
    return keras.Model(inputs, [policy, L.Dense(1, "tanh")(value)])


def wavenet() -> Any:
    inputs = keras.Input((16, 1))
    x = L.Conv1D(4, 1)(inputs)
    skips = []
    for rate in (1, 2):
        one = L.Conv1D(4, 2, padding="causal", dilation_rate=rate, activation="tanh")(x)
        two = L.Conv1D(4, 2, padding="causal", dilation_rate=rate, activation="sigmoid")(x)
        y = L.Multiply()([one, two])
        skips.append(L.Conv1D(3, 1)(y))
        x = L.Add()([x, L.Conv1D(4, 1)(y)])
    return keras.Model(inputs, L.Conv1D(5, 1)(L.ReLU()(L.Add()(skips))))


def gated_convolution() -> Any:
    inputs = keras.Input((8, 3))
    one, two = ops.split(L.Conv1D(8, 3, padding="same")(inputs), 2, axis=-1)
    return keras.Model(inputs, L.Dense(2)((one * ops.sigmoid(two))[:, -1]))


def recurrent(kind: Any, both: bool) -> Any:
    first = kind(4, return_sequences=True)
    first = L.Bidirectional(first) if both else first
    return keras.Sequential([keras.Input((6, 3)), first, kind(3), L.Dense(2)])


def seq2seq() -> Any:
    one, two = words(), words(5)
    _, h, c = L.LSTM(4, return_state=True)(L.Embedding(9, 5, mask_zero=True)(one))
    x = L.LSTM(4, return_sequences=True)(L.Embedding(9, 5)(two), initial_state=[h, c])
    return keras.Model([one, two], L.Dense(9)(x))


def tagger() -> Any:
    inputs = words()
    x = L.Bidirectional(L.LSTM(4, return_sequences=True))(L.Embedding(9, 6, mask_zero=True)(inputs))
    return keras.Model(inputs, L.TimeDistributed(L.Dense(3, "softmax"))(L.Dense(5, "relu")(x)))


def video() -> Any:
    layers = [L.TimeDistributed(L.Conv2D(3, 3)), L.ConvLSTM2D(4, 3), L.GlobalAveragePooling2D()]
    return keras.Sequential([keras.Input((3, 8, 8, 1)), *layers, L.Dense(2)])


def encoder(pre: bool) -> Any:
    inputs = words()
    x = L.Embedding(9, 8)(inputs)
    x = x if pre else L.LayerNormalization()(x)
    x = block(block(x, 8, pre), 8, pre)
    return keras.Model(inputs, L.Dense(2)(L.GlobalAveragePooling1D()(x)))


def decoder() -> Any:
    inputs = words()
    x = L.Embedding(9, 8)(inputs)
    for _ in range(2):
        y = L.LayerNormalization()(x)
        x = x + L.MultiHeadAttention(2, 4)(y, y, use_causal_mask=True)
        x = x + L.Dense(8)(L.Dense(16, "gelu")(L.LayerNormalization()(x)))
    return keras.Model(inputs, L.Dense(9)(L.LayerNormalization()(x)))


def llama() -> Any:
    inputs = words()
    x = L.Embedding(9, 8)(inputs)
    y = L.RMSNormalization()(x)
    x = x + L.GroupQueryAttention(4, 4, 2, use_bias=False)(y, y, use_causal_mask=True)
    y = L.RMSNormalization()(x)
    x = x + L.Dense(8)(L.Dense(12, "silu")(y) * L.Dense(12)(y))
    return keras.Model(inputs, L.Dense(9)(L.RMSNormalization()(x)))


def vit() -> Any:
    inputs = keras.Input((8, 8, 3))
    x = L.Reshape((16, 8))(L.Conv2D(8, 2, strides=2)(inputs))
    return keras.Model(inputs, L.Dense(2)(L.GlobalAveragePooling1D()(block(x, 8))))


def mixer() -> Any:
    inputs = keras.Input((6, 4))
    x = L.Dense(8)(inputs)
    y = L.Permute((2, 1))(L.LayerNormalization()(x))
    x = L.Add()([x, L.Permute((2, 1))(L.Dense(6)(L.Dense(5, "gelu")(y)))])
    x = L.Add()([x, L.Dense(8)(L.Dense(12, "gelu")(L.LayerNormalization()(x)))])
    return keras.Model(inputs, L.Dense(2)(L.GlobalAveragePooling1D()(x)))


def hand_made_attention() -> Any:
    inputs = keras.Input((6, 5))
    q, k, v = (L.Dense(8)(inputs) for _ in range(3))
    q, k, v = (ops.transpose(ops.reshape(one, (-1, 6, 2, 4)), (0, 2, 1, 3)) for one in (q, k, v))
    weights = ops.softmax(ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))) * 0.5, axis=-1)
    x = ops.reshape(ops.transpose(ops.matmul(weights, v), (0, 2, 1, 3)), (-1, 6, 8))
    return keras.Model(inputs, L.Dense(3)(x))


def two_towers() -> Any:
    one, two = words(1), words(1)
    towers = []
    for ids in (one, two):
        x = L.Flatten()(L.Embedding(9, 4)(ids))
        towers.append(L.Dense(5)(L.Dense(6, "relu")(x)))
    return keras.Model([one, two], L.Dot(axes=1)(towers))


def wide_and_deep() -> Any:
    ids, numbers = words(1), keras.Input((4,))
    x = L.Concatenate()([L.Flatten()(L.Embedding(9, 4)(ids)), numbers])
    return keras.Model(
        [ids, numbers], L.Dense(1)(L.Concatenate()([numbers, L.Dense(8, "relu")(x)]))
    )


def cross_network() -> Any:
    inputs = keras.Input((6,))
    x = L.Dense(6)(inputs)
    crossed = L.Add()([L.Multiply()([inputs, L.Dense(6)(x)]), x])
    return keras.Model(inputs, L.Dense(1)(L.Concatenate()([crossed, L.Dense(8, "relu")(inputs)])))


def factorization_machine() -> Any:
    inputs = words(4)
    x = L.Embedding(9, 5)(inputs)
    pair = ops.square(ops.sum(x, axis=1)) - ops.sum(ops.square(x), axis=1)
    return keras.Model(inputs, L.Dense(1)(pair))


def tabnet() -> Any:
    inputs = keras.Input((6,))
    x = L.BatchNormalization()(inputs)
    one, two = ops.split(L.BatchNormalization()(L.Dense(8)(x)), 2, axis=-1)
    hidden = one * ops.sigmoid(two)
    mask = L.Softmax()(L.BatchNormalization()(L.Dense(6)(hidden)))
    y = L.Dense(4, "relu")(L.Multiply()([x, mask]))
    return keras.Model(inputs, L.Dense(1)(L.Add()([hidden, y])))


def mixture_of_experts() -> Any:
    inputs = keras.Input((6,))
    gates = L.Dense(2, "softmax")(inputs)
    experts = [L.Dense(3)(L.Dense(5, "relu")(inputs)) for _ in range(2)]
    stacked = ops.stack(experts, axis=1)
    return keras.Model(inputs, ops.sum(stacked * ops.expand_dims(gates, -1), axis=1))


def siamese() -> Any:
    inner = keras.Sequential([keras.Input((6,)), L.Dense(8, "relu"), L.Dense(4)], name="inner")
    one, two = keras.Input((6,)), keras.Input((6,))
    return keras.Model([one, two], L.Dense(1)(ops.abs(inner(one) - inner(two))))


def applications(name: str, size: int, **settings: Any) -> Callable[[], Any]:
    def build() -> Any:
        function = getattr(keras.applications, name)
        return function(weights=None, input_shape=(size, size, 3), classes=10, **settings)

    return build


ARCHITECTURES: dict[str, Callable[[], Any]] = {
    "MLP": mlp, "LeNet": lenet, "VGG": vgg, "ResNet v1": lambda: resnet(False),
    "ResNet v2": lambda: resnet(True), "Inception": inception, "DenseNet": densenet,
    "MobileNet v3": mobilenet, "ConvNeXt": convnext, "U-Net": unet, "autoencoder": autoencoder,
    "VAE": vae, "AlphaZero": alphazero, "WaveNet": wavenet, "gated convolution": gated_convolution,
    "LSTM": lambda: recurrent(L.LSTM, False), "GRU, bidirectional": lambda: recurrent(L.GRU, True),
    "seq2seq": seq2seq, "tagger": tagger, "ConvLSTM": video,
    "transformer encoder, pre-norm": lambda: encoder(True),
    "transformer encoder, post-norm": lambda: encoder(False), "transformer decoder": decoder,
    "Llama": llama, "ViT": vit, "MLP-Mixer": mixer, "attention by hand": hand_made_attention,
    "two towers": two_towers, "wide and deep": wide_and_deep, "cross network": cross_network,
    "factorization machine": factorization_machine, "TabNet": tabnet,
    "mixture of experts": mixture_of_experts, "siamese": siamese,
    "applications.MobileNet": applications("MobileNet", 32, alpha=0.25),
    "applications.MobileNetV2": applications("MobileNetV2", 32, alpha=0.35),
    "applications.MobileNetV3Small": applications("MobileNetV3Small", 32, alpha=0.75),
    "applications.ResNet50": applications("ResNet50", 32),
    "applications.VGG16": applications("VGG16", 32),
    "applications.EfficientNetB0": applications("EfficientNetB0", 32),
}  # fmt: skip


def some_targets(model: Any, inputs: Any, seed: int = 2) -> Any:
    generator = np.random.default_rng(seed)
    found = keras.tree.map_structure(
        lambda y: generator.normal(size=tuple(y.shape)).astype("float32"), model(inputs)
    )
    return found[0] if isinstance(found, list) and len(found) == 1 else found
