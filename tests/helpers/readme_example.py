"""The README's example, with the package that is installed: `python -m helpers.readme_example`."""

from __future__ import annotations

import re
import sysconfig
from pathlib import Path

import keras
import numpy as np

import keras_qan

README = Path(__file__).parents[2] / "README.md"


def main() -> None:
    """Run every snippet; fail where the package is not the installed one."""
    place = Path(keras_qan.__file__)
    assert place.is_relative_to(sysconfig.get_path("purelib")), f"{place} is not installed"
    x = np.random.default_rng(0).normal(size=(128, 4)).astype("float32")
    train = x, (x.sum(axis=1) > 0).astype("int64")
    for snippet in re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL):
        arrays = snippet.replace("(train,", "(*train,").replace("evaluate(val)", "evaluate(*val)")
        exec(arrays, {"build_model": build_model, "train": train, "val": train})
    print(f"keras_qan {keras_qan.__version__} from {place.parent} runs the README's example")


def build_model() -> keras.Model:
    """Return a small compiled classifier."""
    model = keras.Sequential([keras.layers.Dense(8, "relu"), keras.layers.Dense(2, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


if __name__ == "__main__":
    main()
