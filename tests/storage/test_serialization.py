import json
import math

import keras
import pytest

from keras_qan.actions import Decay, Follow, Hold, OneCycle, Restart, StepDecay
from keras_qan.agents import DQN, Exploration, Learning
from keras_qan.observations import WeightStatistics
from keras_qan.storage import serialization
from keras_qan.storage.serialization import configurable, from_config, is_configurable, to_config


def test_what_is_written_is_plain_data_with_the_class_and_its_arguments():
    config = to_config([Decay(0.5), Follow(OneCycle(0.25)), Restart(), 3, None, "x"])
    assert json.loads(json.dumps(config)) == [
        {"class": "Decay", "factor": 0.5},
        {
            "class": "Follow",
            "schedule": {"class": "OneCycle", "warm_up": 0.25, "start": 0.04, "end": 4e-6},
        },
        {"class": "Restart", "rate": None},
        3,
        None,
        "x",
    ]


def test_nested_objects_come_back_equal():
    made = DQN(
        hidden=(8,), exploration=Exploration(0.5, 0.2, 7), learning=Learning(n_step=3), seed=4
    )
    again = from_config(json.loads(json.dumps(to_config(made))))
    assert type(again) is DQN
    assert to_config(again) == to_config(made)
    assert (again.hidden, again.exploration.decisions, again.learning.n_step) == ((8,), 7, 3)


def test_an_unknown_class_is_refused_with_those_that_are_known():
    with pytest.raises(ValueError, match=r"the class 'Popen'; expected one of .*'Decay'.*import"):
        from_config({"class": "Popen", "args": ["true"]})


@pytest.mark.parametrize("config", [{}, {"class": None}, {"class": ["Decay"]}, {"factor": 0.5}])
def test_a_mapping_that_names_no_class_is_refused(config):
    with pytest.raises(ValueError, match="names the class"):
        from_config(config)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"speed": 1}, "configuration of Decay does not fit its constructor"),
        ({"factor": "fast"}, "Decay's factor is 'fast'; expected a number"),
        ({"factor": None}, "Decay's factor is None; expected a number"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        from_config({"class": "Decay", **arguments})


def test_a_constructor_s_own_refusal_is_passed_on():
    with pytest.raises(ValueError, match="Decay's factor is 2"):
        from_config({"class": "Decay", "factor": 2.0})


class Unregistered(Decay):
    pass


@pytest.mark.parametrize("value", [Unregistered(0.5), object(), {"a": 1}, Decay, len])
def test_what_is_not_registered_cannot_be_written(value):
    assert not is_configurable(value)
    with pytest.raises(TypeError, match=r"class is not registered.*serialization\.configurable"):
        to_config([value])


def test_an_own_class_can_be_registered():
    @configurable
    class OwnAction:
        def __init__(self, share=0.5):
            self.share = share

    try:
        found = from_config(to_config(OwnAction(0.25)))
        assert type(found) is OwnAction
        assert found.share == 0.25
    finally:
        del serialization._classes["OwnAction"]


def test_a_subclass_with_arguments_of_its_own_keeps_them():
    @configurable
    class SlowDecay(Decay):
        def __init__(self, factor=0.5, after=0.25):
            super().__init__(factor)
            self.after = after

    try:
        made = SlowDecay(0.75, 0.5)
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(made))
        assert type(again) is type(from_config(to_config(made))) is SlowDecay
        assert (again.factor, again.after) == (0.75, 0.5)
    finally:
        del serialization._classes["SlowDecay"]


def test_another_class_cannot_take_the_name_of_a_registered_one():
    with pytest.raises(ValueError, match="Decay"):
        configurable(type("Decay", (), {"__module__": "elsewhere"}))
    assert type(from_config({"class": "Decay", "factor": 0.5})) is Decay


def test_a_class_that_is_defined_anew_takes_its_own_place():
    # As when a notebook's cell is run again.
    def define():
        return configurable(type("Cell", (), {"__module__": "__main__"}))

    try:
        define()
        second = define()
        assert type(from_config({"class": "Cell"})) is second
    finally:
        del serialization._classes["Cell"]


@pytest.mark.parametrize(
    "made",
    [
        Decay(0.25),
        Hold(),
        Restart(),
        Follow(StepDecay(0.5, (0.25, 0.5))),
        WeightStatistics(["conv", 1]),
        DQN(hidden=(3, 4), learning=Learning(gamma=0.5)),
    ],
    ids=lambda made: type(made).__name__,
)
def test_keras_saving_makes_an_equal_object(made):
    config = keras.saving.serialize_keras_object(made)
    assert config["registered_name"] == f"keras_qan>{type(made).__name__}"
    again = keras.saving.deserialize_keras_object(json.loads(json.dumps(config)))
    assert type(again) is type(made)
    assert to_config(again) == to_config(made)


def test_numbers_that_are_none_survive_in_python():
    assert math.isnan(from_config(to_config(math.nan)))
