"""Named features as columns."""

from __future__ import annotations

import pytest

from keras_qan.early_stopping.curves import FeatureTable


def test_numbers_stay_and_names_become_columns():
    table = FeatureTable(
        [{"rate": 0.1, "kind": "sgd", "wide": True}, {"rate": 0.3, "kind": "adam"}]
    )
    assert table.columns == (("kind", "adam"), ("kind", "sgd"), ("rate", None), ("wide", None))
    assert table.encode([{"rate": 0.5, "kind": "adam", "wide": False}]).tolist() == [[1, 0, 0.5, 0]]


def test_what_is_missing_becomes_the_mean_and_what_was_never_seen_counts_as_none():
    table = FeatureTable([{"rate": 1.0}, {"rate": 3.0}, {}])
    assert table.encode([{}, {"depth": 7}, {"rate": 9.0}]).tolist() == [[2.0], [2.0], [9.0]]


def test_only_asked_for_names_are_taken():
    table = FeatureTable([{"rate": 1.0, "depth": 2}], names={"depth", "width"})
    assert table.columns == (("depth", None),)


@pytest.mark.parametrize("value", [float("nan"), None, [1], {"a": 1}])
def test_what_is_neither_number_nor_name_is_refused(value):
    with pytest.raises(ValueError, match="finite number"):
        FeatureTable([{"rate": value}])


def test_a_name_where_numbers_were_is_refused():
    with pytest.raises(ValueError, match="rate='high'"):
        FeatureTable([{"rate": 1.0}]).encode([{"rate": "high"}])
