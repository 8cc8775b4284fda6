"""Channel maps: composition, blocks, runs, splits, and how they are drawn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from net2net.channel_map import ChannelMap, Structure, concatenate_maps, draw_map


def some_map(source, share):
    fresh = np.arange(len(source)) >= max(source) + 1
    return ChannelMap(np.array(source), np.array(share), fresh, max(source) + 1, offset=0)


def test_one_map_after_another_multiplies_shares():
    first = some_map([0, 1, 0], [0.25, 1.0, 0.75])
    second = some_map([0, 1, 2, 2], [1.0, 1.0, 0.4, 0.6])
    both = first.then(second)
    assert both.source.tolist() == [0, 1, 0, 0]
    np.testing.assert_allclose(both.share, [0.25, 1.0, 0.3, 0.45])
    assert both.fresh.tolist() == [False, False, True, True]


def test_blocks_and_runs_are_told_apart():
    one = some_map([0, 1, 0], [0.5, 1.0, 0.5])
    assert one.tile(2).untile(2).equals(one)
    assert one.repeat(2).unrepeat(2).equals(one)
    assert one.tile(2).unrepeat(2) is None
    assert one.repeat(2).untile(2) is None


def test_joined_blocks_split_again():
    first, second = some_map([0, 1, 1], [1.0, 0.5, 0.5]), some_map([0, 1], [1.0, 1.0])
    parts = concatenate_maps([first, second]).split([2, 2])
    assert parts[0].equals(first)
    assert parts[1].equals(second)


def test_copies_behind_another_block_do_not_split():
    assert some_map([0, 1, 2, 0], [0.5, 1.0, 1.0, 0.5]).split([2, 1]) is None


structures = st.builds(
    Structure, blocks=st.integers(1, 3), runs=st.integers(1, 3), equal=st.booleans()
)


@given(
    structure=structures,
    units=st.integers(1, 4),
    steps=st.integers(1, 5),
    seed=st.integers(0, 99),
    cut=st.booleans(),
)
def test_every_drawn_map_shares_out_one_and_has_its_structure(structure, units, steps, seed, cut):
    size = units * structure.blocks * structure.runs
    if cut and structure.blocks == 1 and units > 1:
        structure = structure.combine(Structure(edges=(structure.runs,)))
    new_size = size + steps * structure.step(size)
    one = draw_map(size, new_size, structure, np.random.default_rng(seed))
    assert one.new_size == new_size
    assert one.satisfies(structure)
    np.testing.assert_allclose(np.bincount(one.source, one.share), np.ones(size), rtol=1e-14)
    assert np.all(one.share > 0)
    # Each old channel is there exactly once as itself.
    assert sorted(one.source[~one.fresh]) == list(range(size))


def test_copies_have_different_shares():
    one = draw_map(2, 20, Structure(), np.random.default_rng(0))
    assert len(set(one.share)) == 20


def test_sizes_that_do_not_divide_have_no_step():
    assert Structure(blocks=2).step(5) is None
    assert Structure(runs=3).step(6) == 3
    assert Structure(equal=True).step(5) == 5


def test_maps_of_other_sizes_do_not_follow_one_another():
    with pytest.raises(AssertionError, match=r"sizes"):
        ChannelMap.identity(2).then(ChannelMap.identity(3))
