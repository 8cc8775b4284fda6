import pytest
from helpers.selectors import dataset

from keras_qan import QANCallback, selection
from keras_qan.actions import Decay, Hold, Raise, Restart, label
from keras_qan.observations import WeightStatistics
from keras_qan.qan import presets
from keras_qan.qan.rewards import Equation9, LogLossDrop
from keras_qan.storage.serialization import to_config


@pytest.mark.parametrize("name", presets.NAMES)
def test_a_preset_is_a_callbacks_keyword_arguments(name):
    arguments = presets.by_name(name, seed=3)
    callback = QANCallback(**arguments)
    assert callback.settings.agent.seed == 3
    assert to_config(list(callback.settings.actions)) == to_config(list(arguments["actions"]))


def test_the_default_preset_is_what_a_callback_without_a_policy_is_made_of():
    bare = QANCallback(policy=None)
    assert bare.settings.config() == QANCallback(**presets.default()).settings.config()


def test_the_transfer_preset_is_what_the_shipped_policy_was_made_with():
    found, made = QANCallback().settings.config(), QANCallback(**presets.transfer()).settings
    assert found.pop("schedule") == {"class": "LinearFall", "begin": 0.5}  # it learned on a cosine
    assert found == {name: value for name, value in made.config().items() if name != "schedule"}


def test_the_papers_settings_are_those_of_the_paper():
    found = presets.paper()
    # Section 4: the rate is cut by 5 % or set back; a decision at every mini-batch; equation 9.
    assert [label(action) for action in found["actions"]] == ["Decay(0.95)", "Restart()"]
    assert (type(found["actions"][0]), type(found["actions"][1])) == (Decay, Restart)
    assert found["decide_every"] == 1
    assert type(found["reward"]) is Equation9
    assert sum(part.size(1) for part in found["observations"]) == 193
    agent = found["agent"]
    assert (agent.learning.gamma, agent.learning.batch_size, agent.double) == (0.99, 32, False)


def test_the_default_preset_looks_to_the_validation_loss_over_the_whole_episode():
    found = presets.default()
    assert type(found["reward"]) is LogLossDrop
    assert found["agent"].learning.gamma == 1.0
    # As many steps as an episode has decisions.
    assert found["agent"].learning.n_step >= 20


def test_presets_share_no_object():
    assert presets.default()["agent"] is not presets.default()["agent"]


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValueError, match=r"no preset 'papr'; expected one of default, paper"):
        presets.by_name("papr")


@pytest.mark.parametrize(("rate_actions", "hold"), [(True, 2), (False, 0)])
def test_with_a_selection_the_agent_holds_unless_it_knows_better(rate_actions, hold):
    selector = selection.ClassMix(dataset(), 4, 8, slots=3)
    found = presets.with_selection(presets.default(7), selector, rate_actions)
    assert isinstance(found["actions"][hold], Hold)
    assert any(isinstance(action, Raise) for action in found["actions"]) is rate_actions
    moves = found["actions"][-2:]
    assert [type(action) for action in moves] == [selection.PushHardest, selection.PushRarest]
    assert [action.selector for action in moves] == [selector] * 2
    agent = found["agent"]
    assert (agent.seed, agent.default_action, agent.margin) == (7, hold, presets.SELECTION_MARGIN)
    assert isinstance(found["observations"][-1], selection.ClassExtremes)
    # Some dozens of trainings are too few for 192 statistics of the weights.
    assert not any(isinstance(part, WeightStatistics) for part in found["observations"])
    raw = presets.with_selection(presets.default(7), selector, rate_actions, raw=True)
    assert [action.label for action in raw["actions"][-4:]] == [0, 1, 2, 3]
