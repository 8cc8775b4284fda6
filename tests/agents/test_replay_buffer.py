import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_qan.agents.replay_buffer import ReplayBuffer


def frame(number):
    """A transition whose every part tells its number."""
    return np.array([number, -number], np.float32), number % 7, np.float32(number % 5 - 1.5)


class Story:
    """A replay memory, and beside it a plain list of all that was ever written."""

    def __init__(self, capacity, n_step=1, gamma=1.0):
        self.replay = ReplayBuffer(2, capacity, n_step, gamma)
        self.capacity, self.n_step, self.gamma = capacity, n_step, gamma
        self.rows = []
        self.written = 0
        self.lost = 0

    def add(self, ends=False):
        observation, action, reward = frame(self.written)
        discount = np.float32(0.0 if ends else 1.0)
        self.replay.add(
            tf.constant(observation),
            tf.constant(action, tf.int64),
            tf.constant(reward),
            tf.constant(discount),
        )
        self.rows.append((self.written, action, reward, discount))
        self.lost = max(self.lost, len(self.rows) - self.capacity)
        self.written += 1

    def add_episode(self, length, ends=True):
        for step in range(length):
            self.add(ends=ends and step == length - 1)

    def rewind(self, count):
        self.replay.rewind(count)
        del self.rows[len(self.rows) - count :]

    def expected(self):
        """Every n-step transition that can be told from the rows still held, by its first row."""
        found = {}
        for start in range(self.lost, len(self.rows)):
            reward, discount = 0.0, 1.0
            for k in range(self.n_step):
                if start + k >= len(self.rows):
                    break
                _, _, r, goes_on = self.rows[start + k]
                reward += self.gamma**k * r
                if goes_on == 0.0:
                    discount = 0.0
                    break
            else:
                k = self.n_step
            if discount == 0.0:
                found[self.rows[start][0]] = (reward, 0.0, None)
            elif k == self.n_step and start + k < len(self.rows):
                after = self.rows[start + k][0]
                found[self.rows[start][0]] = (reward, self.gamma ** (self.n_step - 1), after)
        return found

    def check(self, draws=64, seed=0):
        """Every sample is one of the expected, and all the expected are within reach."""
        expected = self.expected()
        assert int(self.replay.num_samples()) == len(expected)
        if not expected:
            return
        drawn = self.replay.sample(draws, tf.constant([seed, 1], tf.int64))
        seen = set()
        for observation, action, reward, discount, after in zip(
            *(part.numpy() for part in drawn), strict=True
        ):
            number = int(observation[0])
            assert number in expected, f"{number} is gone, or its outcome not known"
            known_reward, known_discount, known_after = expected[number]
            assert observation[1] == -number
            assert action == number % 7
            assert reward == pytest.approx(known_reward, abs=1e-4)
            assert discount == pytest.approx(known_discount, abs=1e-5)
            if known_after is not None:
                assert after.tolist() == [known_after, -known_after]
            seen.add(number)
        if draws >= 20 * len(expected):
            assert seen == set(expected)


def test_n_step_returns_by_hand():
    # Rewards of rows 0 to 4 are -1.5, -0.5, 0.5, 1.5 and 2.5; the episode ends with row 4.
    story = Story(10, n_step=2, gamma=0.5)
    story.add_episode(5)
    assert story.expected() == {
        0: (-1.5 - 0.25, 0.5, 2),
        1: (-0.5 + 0.25, 0.5, 3),
        2: (0.5 + 0.75, 0.5, 4),
        3: (1.5 + 1.25, 0.0, None),
        4: (2.5, 0.0, None),
    }
    story.check(draws=100)


@pytest.mark.slow
@settings(max_examples=25)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    n_step=st.integers(1, 6),
    gamma=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    capacity=st.integers(7, 30),
)
def test_samples_equal_a_plain_list_of_all_transitions(lengths, n_step, gamma, capacity):
    story = Story(capacity, n_step, gamma)
    for length in lengths[:-1]:
        story.add_episode(length)
        story.check()
    story.add_episode(lengths[-1], ends=False)
    story.check()


@pytest.mark.slow
@settings(max_examples=25)
@given(
    steps=st.lists(
        st.tuples(st.integers(1, 25), st.booleans(), st.booleans()), min_size=1, max_size=6
    ),
    n_step=st.integers(1, 4),
    capacity=st.integers(5, 20),
)
def test_an_abandoned_episode_leaves_no_trace(steps, n_step, capacity):
    story = Story(capacity, n_step)
    for length, is_abandoned, is_restored in steps:
        story.add_episode(length, ends=not is_abandoned)
        if is_abandoned:
            story.rewind(length)
            # What the episode had overwritten is gone, and what it wrote is not to be seen.
            story.lost = min(story.lost, len(story.rows))
        if is_restored:
            kept = story.replay.arrays()
            story.replay.restore(kept)
        story.check()


def test_after_an_abandoned_episode_longer_than_the_memory_the_next_is_learned_from():
    story = Story(10)
    story.add_episode(4)
    story.add_episode(35, ends=False)
    story.rewind(35)
    assert int(story.replay.num_samples()) == 0
    story.add_episode(5)
    assert int(story.replay.num_samples()) == 5


@pytest.mark.parametrize("written", [0, 3, 8, 11, 16, 21])
def test_a_restored_memory_goes_on_bit_for_bit(written):
    first = Story(8, n_step=2)
    for number in range(written):
        first.add(ends=number % 5 == 4)
    kept = first.replay.arrays()
    assert len(kept["reward"]) == min(written, 8)
    second = Story(8, n_step=2)
    second.add_episode(6)
    second.replay.restore(kept)
    second.written, second.rows, second.lost = first.written, list(first.rows), first.lost
    for story in (first, second):
        story.add_episode(3)
        story.check(seed=written)
    seed = tf.constant([4, 2], tf.int64)
    samples = [story.replay.sample(30, seed) for story in (first, second)]
    for one, two in zip(*samples, strict=True):
        assert one.numpy().tobytes() == two.numpy().tobytes()
    arrays = [story.replay.arrays() for story in (first, second)]
    assert arrays[0].keys() == arrays[1].keys()
    for name in arrays[0]:
        np.testing.assert_array_equal(arrays[0][name], arrays[1][name])


def test_the_same_seed_gives_the_same_sample_and_another_seed_another():
    story = Story(50)
    story.add_episode(40)

    def draw(seed):
        sample = story.replay.sample(20, tf.constant(seed, tf.int64))
        return sample.observation.numpy().tolist()

    assert draw([3, 1]) == draw([3, 1])
    assert draw([3, 1]) != draw([3, 2])
    assert draw([3, 1]) != draw([4, 1])


def test_samples_are_uniform():
    story = Story(10)
    story.add_episode(10)
    sample = story.replay.sample(10_000, tf.constant([0, 0], tf.int64))
    counts = np.bincount(sample.observation.numpy()[:, 0].astype(int), minlength=10)
    # A binomial's standard deviation is 30.
    assert np.abs(counts - 1000).max() < 150


def test_rows_of_another_state_size_or_a_larger_memory_are_refused():
    story = Story(6)
    story.add_episode(6)
    kept = story.replay.arrays()
    with pytest.raises(ValueError, match=r"'observation' of shape \(6, 2\)"):
        ReplayBuffer(3, 6, 1, 1.0).restore(kept)
    with pytest.raises(ValueError, match=r"expected exactly \(5"):
        ReplayBuffer(2, 5, 1, 1.0).restore(kept)


def test_a_ring_that_went_round_is_refused_by_a_larger_memory():
    # Its rows stand where their number modulo its own capacity says.
    story = Story(6)
    story.add_episode(8)
    with pytest.raises(ValueError, match="settings it was saved with"):
        ReplayBuffer(2, 9, 1, 1.0).restore(story.replay.arrays())


@pytest.mark.parametrize("name", ["written", "ended", "oldest", "reward", "observation"])
def test_a_missing_array_is_refused_and_nothing_changed(name):
    story = Story(6)
    story.add_episode(4)
    kept = Story(6)
    kept.add_episode(2)
    arrays = kept.replay.arrays()
    del arrays[name]
    with pytest.raises(ValueError, match=name):
        story.replay.restore(arrays)
    story.check()


def test_an_option_of_k_decisions_discounts_as_k_steps():
    # γ = 1/2; rewards 1, 2, 4 of options over 3, 1 and 1 decisions.
    replay = ReplayBuffer(2, capacity=9, n_step=2, gamma=0.5)
    for reward, discount in ((1.0, 0.25), (2.0, 1.0), (4.0, 0.0)):
        replay.add(
            tf.constant([reward, 0.0]),
            tf.constant(0, tf.int64),
            tf.constant(reward),
            tf.constant(discount),
        )
    drawn = replay.sample(64, tf.constant([0, 1], tf.int64))
    found = {
        float(observation[0]): (float(reward), float(discount))
        for observation, reward, discount in zip(
            drawn.observation, drawn.reward, drawn.discount, strict=True
        )
    }
    # 1 + γ³ 2, and γ⁴ before the next value, one γ of which is the agent's; 2 + γ 4 to the end.
    assert found == {1.0: (1.25, 0.125), 2.0: (4.0, 0.0), 4.0: (4.0, 0.0)}
