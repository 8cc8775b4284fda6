"""Time and peak memory of widening every stage of ResNet50 by half."""

from __future__ import annotations

import threading
import time

import keras

import net2net
from benchmarks.common.machine import resident_bytes


class Peak:
    """The most memory held while a block runs, looked at every 2 ms."""

    def __enter__(self) -> Peak:
        self.start = self.most = resident_bytes()
        self.running = True
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while self.running:
            self.most = max(self.most, resident_bytes())
            time.sleep(0.002)

    def __exit__(self, *_: object) -> None:
        self.running = False
        self.thread.join()


def widths_by_half(model: keras.Model) -> dict[str, int]:
    """Return one and a half times the width for one layer of every group."""
    widths, grown = {}, set()
    for path, one in net2net.widenable(model).items():
        if one and path not in grown:
            widths[path] = one.width + one.width // 2
            grown.update(one.group)
    return widths


def measure(repeats: int = 3) -> list[dict]:
    rows = []
    for optimizer in (None, "adam"):
        model = keras.applications.ResNet50(weights=None)
        if optimizer:
            model.compile(optimizer, "categorical_crossentropy")
            model.optimizer.build(model.trainable_variables)
        held = model.count_params() * 4 + (
            sum(v.value.numpy().nbytes for v in model.optimizer.variables) if optimizer else 0
        )
        widths = widths_by_half(model)
        for repeat in range(repeats):
            with Peak() as peak:
                start = time.perf_counter()
                big = net2net.grow(model, widths)
                seconds = time.perf_counter() - start
            state = big.count_params() * 4 + (
                sum(v.value.numpy().nbytes for v in big.optimizer.variables) if optimizer else 0
            )
            rows.append(
                {
                    "optimizer": optimizer or "none",
                    "repeat": repeat,
                    "seconds": round(seconds, 2),
                    "old_megabytes": round(held / 2**20, 1),
                    "new_megabytes": round(state / 2**20, 1),
                    "extra_peak_megabytes": round((peak.most - peak.start) / 2**20, 1),
                    "extra_peak_over_new": round((peak.most - peak.start) / state, 2),
                    "old_and_peak_over_old": round((held + peak.most - peak.start) / held, 2),
                }
            )
            print(rows[-1], flush=True)
            del big
    return rows
