"""Colour, label and order of an arm, the same in every figure of a run."""

from collections.abc import Iterable

# Okabe and Ito's colours, which people with any colour vision can tell apart; the learned arm has
# the strongest, and the two plain controls are black and grey.
_KNOWN = {
    "qan": "#0072B2",
    "random": "#888888",
    "constant": "#000000",
    "step_decay": "#E69F00",
    "cosine": "#009E73",
    "one_cycle": "#D55E00",
    "warm_restarts": "#CC79A7",
    "plateau": "#D55E00",
    "adamw": "#CC79A7",
}
_SPARE = ("#56B4E9", "#B8A900", "#7A4EAB", "#8C5A2B")
_LABELS = {"qan": "QAN", "plateau": "ReduceLROnPlateau", "adamw": "AdamW, 0.001"}


def arm_colours(arms: Iterable[str]) -> dict[str, str]:
    """Return a colour for each arm; known arms always have the same one.

    Args:
        arms: names of all arms of a run.

    Returns:
        Hexadecimal colours by arm.

    Example:
        >>> arm_colours(["mine", "qan"])
        {'mine': '#56B4E9', 'qan': '#0072B2'}
    """
    ordered = sorted(set(arms))
    others = [arm for arm in ordered if arm not in _KNOWN]
    spare = {arm: _SPARE[index % len(_SPARE)] for index, arm in enumerate(others)}
    return {arm: _KNOWN.get(arm) or spare[arm] for arm in ordered}


def arm_label(arm: str) -> str:
    """Return an arm's name for a legend.

    Example:
        >>> arm_label("qan"), arm_label("one_cycle")
        ('QAN', 'one cycle')
    """
    return _LABELS.get(arm, arm.replace("_", " "))


def drawing_order(arms: Iterable[str]) -> list[str]:
    """Return the arms with the learned one first and the plain controls last.

    Example:
        >>> drawing_order(["constant", "cosine", "qan", "random"])
        ['qan', 'cosine', 'random', 'constant']
    """
    rank = {"qan": 0, "random": 2, "constant": 3}
    return sorted(arms, key=lambda arm: (rank.get(arm, 1), arm))
