"""The rules by layer class."""

from __future__ import annotations

from typing import Any

from net2net.rules.base import Rule

_RULES: dict[type | str, Rule] = {}


def register_rule(layer_class: type | str, rule: Rule) -> None:
    """Set the rule by which layers of a class grow.

    Rules are looked up by the exact class: a subclass may override `call`, so it needs a rule of
    its own, which can be the parent's.

    Args:
        layer_class: The layer class, or the full name of one that has no public name
            ("keras.src.ops.numpy.Add").
        rule: The rule.

    Raises:
        TypeError: If either is of another type.

    Example:
        >>> import keras, net2net
        >>> class MyDense(keras.layers.Dense):
        ...     pass
        >>> net2net.register_rule(MyDense, net2net.rule_for(keras.layers.Dense(1)))
    """
    if not isinstance(layer_class, type | str):
        raise TypeError(
            f"Expected a layer class, received {layer_class!r}. Hand in the class itself, for "
            "example `register_rule(MyLayer, MyRule())`."
        )
    if not isinstance(rule, Rule):
        raise TypeError(
            f"Expected an instance of `net2net.Rule`, received {rule!r}. Subclass `net2net.Rule` "
            "and hand in an instance."
        )
    _RULES[layer_class] = rule


def rule_for(layer: Any) -> Rule | None:
    """Return the rule for a layer or an operation of `keras.ops`, None where there is none.

    Args:
        layer: a Keras layer or operation.

    Example:
        >>> import keras, net2net
        >>> net2net.rule_for(keras.layers.Dense(3)).width(keras.layers.Dense(3))
        3
    """
    kind = type(layer)
    return _RULES.get(kind) or _RULES.get(f"{kind.__module__}.{kind.__qualname__}")


def registered_rules() -> dict[type | str, Rule]:
    """Return every class that has a rule, with its rule."""
    return dict(_RULES)
