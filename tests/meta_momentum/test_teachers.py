"""Who teaches: the best of earlier students, kept across kills; and the control."""

from __future__ import annotations

import copy
import math

import keras
import numpy as np
import pytest
from helpers.students import data, student

from keras_qan import CheckpointError, MetaMomentum, meta_momentum
from keras_qan.meta_momentum import (
    BestStudentTeacher,
    ConstantStrength,
    Features,
    FixedTeacher,
    RandomTeacher,
)

X, Y = data(32)


def fit(model, pull, **more):
    model.fit(X, Y, batch_size=16, shuffle=False, verbose=0, callbacks=[pull], **more)


def same(weights, model):
    return all(
        np.array_equal(a, b) for a, b in zip(weights.arrays, model.get_weights(), strict=True)
    )


@pytest.mark.slow
def test_the_first_training_has_no_teacher_and_the_second_is_pulled_to_the_first_student():
    pull = MetaMomentum("previous", strength=0.5, steps=2, fade=ConstantStrength())
    plain, first, second = (student(seed=0), student(seed=0), student(seed=1))
    plain.fit(X, Y, batch_size=16, shuffle=False, verbose=0)
    fit(first, pull)
    for one, other in zip(plain.get_weights(), first.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    second.optimizer.learning_rate = 0.0
    start, target = second.get_weights()[0], first.get_weights()[0]
    fit(second, pull)
    np.testing.assert_allclose(second.get_weights()[0], 0.25 * start + 0.75 * target, atol=1e-6)


def test_the_best_is_the_one_with_the_lowest_validation_loss():
    teacher, students = BestStudentTeacher(), [student(seed=n) for n in range(4)]
    for one, score in zip(students, [0.5, 0.3, math.nan, 0.4], strict=True):
        teacher.note(one, score, "val_loss")
    assert (teacher.episodes, teacher.score) == (4, 0.3)
    assert same(teacher.weights(), students[1])


def test_a_student_that_was_validated_takes_the_place_of_one_that_was_not():
    teacher, students = BestStudentTeacher(), [student(seed=n) for n in range(3)]
    teacher.note(students[0], 0.1, "loss")
    teacher.note(students[1], 0.5, "val_loss")
    teacher.note(students[2], 0.2, "loss")
    assert same(teacher.weights(), students[1])
    assert (teacher.score, teacher.kind) == (0.5, "val_loss")


def test_without_validation_the_last_training_loss_counts():
    pull = MetaMomentum("previous")
    model = student()
    history = model.fit(X, Y, epochs=2, verbose=0, shuffle=False, callbacks=[pull]).history
    assert pull.teacher.score == pytest.approx(history["loss"][-1])
    assert pull.teacher.kind == "loss"


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_with_its_teacher(tmp_path):
    pull = MetaMomentum("previous", directory=tmp_path / "teacher")
    first = student()
    fit(first, pull, validation_data=(X, Y))
    again = MetaMomentum("previous", directory=tmp_path / "teacher")
    assert again.teacher.episodes == 1
    assert again.teacher.score == pull.teacher.score
    assert same(again.teacher.weights(), first)
    for path in (tmp_path / "teacher").iterdir():
        path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(CheckpointError):
        MetaMomentum("previous", directory=tmp_path / "teacher")


@pytest.mark.slow
def test_an_evaluation_does_not_become_the_teacher():
    pull = MetaMomentum("previous")
    fit(student(), pull)
    pull.keeps = False
    fit(student(seed=1), pull)
    assert pull.teacher.episodes == 1


@pytest.mark.slow
def test_students_of_another_architecture_are_refused_by_what_does_not_match():
    pull = MetaMomentum("previous")
    fit(student(), pull)
    wide = keras.Sequential(
        [keras.layers.Input((6, 6, 1)), keras.layers.Conv2D(5, 3, name="first"),
         keras.layers.Flatten(), keras.layers.Dense(2, name="logits")]
    )  # fmt: skip
    wide.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    expected = r"2 do not match \(first/kernel \(3, 3, 1, 5\): .* is \(3, 3, 1, 3\); logits/kernel"
    with pytest.raises(ValueError, match=expected):
        fit(wide, pull)
    soft = MetaMomentum(pull.teacher, strength=0.5, form=Features())
    with pytest.raises(ValueError, match="weights of other shapes"):
        fit(wide, soft)
    other = keras.Sequential([keras.layers.Input((6, 6, 1)), keras.layers.Flatten(),
                              keras.layers.Dense(2, name="head")])  # fmt: skip
    with pytest.raises(ValueError, match=r"logits/kernel .*: the teacher has none"):
        fit(student(), MetaMomentum(other))


def test_the_layers_that_both_share_are_enough():
    other = keras.Sequential(
        [keras.layers.Input((6, 6, 1)), keras.layers.Conv2D(3, 3, name="first"),
         keras.layers.Flatten(), keras.layers.Dense(7), keras.layers.Dense(5)]
    )  # fmt: skip
    model = student(keras.optimizers.SGD(0.0))
    fit(
        model, MetaMomentum(other, strength=0.9, steps=9, layers=["first"], fade=ConstantStrength())
    )
    np.testing.assert_allclose(
        model.get_weights()[0] - other.get_weights()[0],
        0.01 * (student().get_weights()[0] - other.get_weights()[0]),
        atol=1e-5,
    )


def test_a_random_teacher_has_the_norms_of_another_and_nothing_else_of_it():
    model = student()
    teacher = RandomTeacher(FixedTeacher(model), seed=3)
    first, second = teacher.weights(), teacher.weights()
    for number in (0, 2):  # the kernels
        known, drawn = model.get_weights()[number], first.arrays[number]
        assert np.linalg.norm(drawn) == pytest.approx(np.linalg.norm(known), rel=1e-5)
        cosine = np.sum(known * drawn) / np.linalg.norm(known) / np.linalg.norm(drawn)
        assert abs(cosine) < 0.5
        assert not np.array_equal(drawn, second.arrays[number])
    again = RandomTeacher(FixedTeacher(model), seed=3).weights()
    np.testing.assert_array_equal(again.arrays[0], first.arrays[0])
    assert RandomTeacher(BestStudentTeacher()).weights() is None


@pytest.mark.slow
def test_a_random_teacher_hears_of_students_in_anothers_stead():
    pull = MetaMomentum(RandomTeacher(BestStudentTeacher()), strength=0.2)
    fit(student(), pull)
    fit(student(seed=1), copy.deepcopy(pull))
    assert pull.teacher.like.episodes == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strength": 1.0}, r"strength is 1.0; expected a number in \[0, 1\)"),
        ({"strength": -0.1}, "strength is -0.1"),
        ({"strength": math.nan}, "strength is nan"),
        ({"steps": 0}, "steps is 0; expected at least 1"),
        ({"steps": 2.5}, "steps is 2.5; expected a whole number"),
        ({"layers": "first"}, "expected a list of layer names"),
        ({"layers": []}, "expected a list of layer names"),
        ({"form": Features}, "expected Pull"),
        ({"fade": 0.5}, "expected a schedule"),
        ({"teacher": "best"}, "expected a trained keras.Model"),
        ({"teacher": keras.Sequential([keras.layers.Dense(2)])}, "is not built"),
        ({"teacher": BestStudentTeacher(), "directory": "x"}, "nothing to keep"),
    ],
)
def test_bad_arguments_are_refused_with_what_to_do(arguments, message):
    with pytest.raises(ValueError, match=message):
        MetaMomentum(**{"teacher": "previous", **arguments})


def test_a_layer_that_is_not_there_is_refused_with_its_nearest_names():
    with pytest.raises(ValueError, match="Did you mean 'first'"):
        fit(student(), MetaMomentum(student(seed=1), layers=["frist"]))


def test_a_teacher_with_weights_that_are_no_numbers_is_refused():
    teacher = student(seed=1)
    teacher.layers[0].kernel.assign(np.full((3, 3, 1, 3), np.nan))
    with pytest.raises(ValueError, match="not finite"):
        fit(student(), MetaMomentum(teacher))


def test_a_state_of_something_else_is_refused():
    with pytest.raises(CheckpointError, match=r"BestStudentTeacher\.get_state"):
        BestStudentTeacher().set_state({}, {"paths": ["a"]})


@pytest.mark.parametrize(
    ("former", "present"),
    [
        ("Constant", "ConstantStrength"),
        ("Given", "FixedTeacher"),
        ("Linear", "LinearFade"),
        ("Previous", "BestStudentTeacher"),
    ],
)
def test_former_names_give_the_new_classes_with_a_warning(former, present):
    with pytest.warns(DeprecationWarning, match=f"{former} is now .*{present}"):
        assert getattr(meta_momentum, former) is getattr(meta_momentum, present)
