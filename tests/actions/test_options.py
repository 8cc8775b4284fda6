"""What the options do with the rate, and when they end."""

import numpy as np
import pytest

from keras_qan import actions
from keras_qan.actions import (
    ActionSet,
    Anneal,
    Decay,
    Hold,
    Option,
    OptionContext,
    RangeTest,
    TriangularCycle,
    WarmUp,
)

RATE = np.array([0.1, 0.4])


def point(number=0, rate=RATE, progress=0.5, **more):
    """A decision of an option that began at `RATE` halfway through the training."""
    return OptionContext(rate, RATE, RATE, progress, 0.5, number, **more)


def factors(option, number):
    """The rates of the first decisions, over the one that it began with."""
    return [float((option.rate_at(point(n)) / RATE)[0]) for n in range(number)]


def test_a_warm_up_rises_along_a_line():
    assert factors(WarmUp(0.5, 2.0, 4), 4) == pytest.approx([0.5, 1.0, 1.5, 2.0])
    assert [WarmUp(decisions=4).is_over(point(n)) for n in (1, 3, 4)] == [False, False, True]


def test_a_triangular_cycle_ends_where_it_began():
    assert factors(TriangularCycle(4.0, 4), 4) == pytest.approx([2.5, 4.0, 2.5, 1.0])
    assert factors(TriangularCycle(4.0, 3), 3) == pytest.approx([3.0, 3.0, 1.0])
    assert [TriangularCycle(4.0, 4).is_over(point(n)) for n in (3, 4)] == [False, True]


def test_a_range_test_raises_until_the_loss_rises_and_goes_back_once():
    test = RangeTest(0.5, 4.0, 0.25, decisions=5)
    risen = {"log_loss": -1.0, "log_loss_before": -2.0}
    fallen = {"log_loss": -2.0, "log_loss_before": -1.0}
    # The losses before its first raise say nothing of it.
    np.testing.assert_allclose(test.rate_at(point(**risen)), 0.5 * RATE)
    lowered = point(1, 0.5 * RATE, **risen, last_change=np.log(0.5))
    assert not test.is_over(lowered)
    np.testing.assert_allclose(test.rate_at(lowered), 2.0 * RATE)
    raised = point(2, 2.0 * RATE, **fallen, last_change=np.log(4.0))
    assert not test.is_over(raised)
    np.testing.assert_allclose(test.rate_at(raised), 8.0 * RATE)
    too_far = point(3, 8.0 * RATE, **risen, last_change=np.log(4.0))
    assert not test.is_over(too_far)
    np.testing.assert_allclose(test.rate_at(too_far), 2.0 * RATE)
    assert test.is_over(point(4, 2.0 * RATE, **fallen, last_change=np.log(0.25)))
    assert test.is_over(point(5, 8.0 * RATE, **fallen, last_change=np.log(4.0)))


def test_an_anneal_takes_the_middle_of_the_interval_and_reaches_zero_at_the_end():
    # Two decisions are left, halfway and at three quarters: cosines of an eighth, three eighths.
    found = [
        Anneal().rate_at(point(n, progress=p, interval=0.25)) for n, p in ((0, 0.5), (1, 0.75))
    ]
    shares = [0.5 * (1.0 + np.sqrt(0.5)), 0.5 * (1.0 - np.sqrt(0.5))]
    np.testing.assert_allclose(found, np.outer(shares, RATE))
    np.testing.assert_allclose(Anneal().rate_at(point(9, progress=1.0)), 0.0 * RATE, atol=1e-9)
    assert not Anneal().is_over(point(99, progress=1.0))


def test_an_anneal_over_decisions_leaves_a_share():
    assert factors(Anneal(0.2, 2), 2) == pytest.approx([0.6, 0.2])
    assert [Anneal(0.2, 2).is_over(point(n)) for n in (1, 2)] == [False, True]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WarmUp(0.0), "WarmUp's start"),
        (lambda: WarmUp(1.0), "WarmUp's factor"),
        (lambda: WarmUp(decisions=1), "WarmUp's decisions"),
        (lambda: RangeTest(1.5), "RangeTest's start"),
        (lambda: RangeTest(back=1.0), "RangeTest's back"),
        (lambda: TriangularCycle(decisions=1), "TriangularCycle's decisions"),
        (lambda: Anneal(1.0), "Anneal's share"),
        (lambda: Anneal(decisions=3), "Anneal's share.*leave decisions out"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_hierarchical_set_holds_an_option_of_each_kind_and_flat_actions():
    chosen = actions.hierarchical()
    kinds = [type(action) for action in chosen if isinstance(action, Option)]
    assert kinds == [WarmUp, RangeTest, TriangularCycle, Anneal]
    assert any(isinstance(action, Hold) for action in chosen)
    assert actions.label(Anneal(0.2, 3)) == "Anneal(0.2, 3)"


def test_in_a_set_the_option_under_way_has_come_to_its_point_and_others_begin():
    whole = ActionSet([WarmUp(2.0, 3.0, 2), Anneal(0.5, 2), Decay(0.5)], (1e-6, 10.0))
    first, under_way = point(rate=2.0 * RATE)._replace(start_rate=2.0 * RATE), point(1, 2.0 * RATE)
    now = whole.at(first, under_way, 0)
    rates = [now.next_rates(n, 2.0 * RATE, RATE, RATE, 0.5) for n in range(3)]
    np.testing.assert_allclose(rates, np.outer([3.0, 1.5, 1.0], RATE))
    np.testing.assert_allclose(
        whole.at(first).next_rates(0, 2.0 * RATE, RATE, RATE, 0.5), 4.0 * RATE
    )


def test_a_set_without_options_is_the_same_at_every_decision():
    flat = ActionSet(actions.default(), (1e-6, 1.0))
    assert flat.at(point()) is flat
