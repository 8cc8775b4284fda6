"""The rates that the shipped policy chose, replayed without the callback, on one device and two.

PYTHONPATH=benchmarks/distribute python benchmarks/distribute/replay.py
"""

from __future__ import annotations

import keras
import numpy as np
import run
from absl import app


def main(_: list[str]) -> None:
    rows = [row for row in run.read() if row.get("callback") == "shipped policy"]
    rates = next(row["rates"] for row in rows if row["strategy"] == "one_device")

    class Replay(keras.callbacks.Callback):
        """Sets what was found after each step; before the first, what was found after it."""

        def on_train_batch_begin(self, batch: int, logs: object = None) -> None:  # noqa: ARG002
            """Sets the rate."""
            self.model.optimizer.learning_rate = rates[max(batch - 1, 0)]

    found = []
    for strategy in run.two_cpus().values():
        losses = run.Losses()
        data = run.images(64 * 50).take(20)
        run.student(strategy).fit(data, verbose=0, shuffle=False, callbacks=[Replay(), losses])
        found.append(np.asarray(losses.found))
    print([f"{value:.0e}" for value in np.abs(found[0] - found[1]) / found[0]])


if __name__ == "__main__":
    app.run(main)
