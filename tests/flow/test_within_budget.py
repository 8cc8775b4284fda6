"""The plans of the rallies within a budget: what they cost, and where they grow to."""

import numpy as np
import pytest

import net2net
from benchmarks.rally.within_budget import ALTERNATIVES, FULL, PLANS, build, growth

ALL = PLANS | ALTERNATIVES


@pytest.mark.parametrize("arm", [arm for arm in ALL if arm != "from nothing"])
def test_each_arm_spends_half_of_what_from_nothing_does(arm):
    assert sum(ALL[arm].costs) == pytest.approx(0.5)
    assert len(ALL[arm].widths) == len(ALL[arm].costs)
    assert len(ALL[arm].rates) in (0, len(ALL[arm].costs))


@pytest.mark.parametrize("arm", ["rally", "depth before width", "width before depth"])
def test_the_stages_lead_to_the_full_network(arm):
    first, *later = ALL[arm].widths
    model, before = build((8, 8, 1), 10, first, 0), first
    for widths in later:
        grown, deepened = growth(before, widths)
        model = net2net.grow(model, grown, deepened)
        before = widths
    full = build((8, 8, 1), 10, FULL, 0)
    assert [weight.shape for weight in model.weights] == [weight.shape for weight in full.weights]


def test_from_nothing_the_third_convolution_is_no_identity():
    kernels = [
        build((8, 8, 1), 10, FULL, seed).get_layer("conv_2_deeper").kernel for seed in (0, 1)
    ]
    center = np.asarray(kernels[0])[1, 1]
    assert not np.allclose(center, np.eye(32))
    assert not np.allclose(*map(np.asarray, kernels))
