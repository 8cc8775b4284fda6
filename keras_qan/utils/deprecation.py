"""Old public names that warn and lead to the new ones for one version."""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any


def moved_names(
    module_name: str, moved: Mapping[str, str], *, stacklevel: int = 2
) -> Callable[[str], Any]:
    """Return a module's `__getattr__` that leads old names to the new ones.

    Each old name warns at its first use with a `DeprecationWarning`. Assign the function under
    `if not TYPE_CHECKING:`, or type checkers accept every name of the module.

    Args:
      module_name: the module that had the old names, `__name__`.
      moved: old name → new name in the same module, or `"package.module:Name"` elsewhere.
      stacklevel: of the warning, 3 where another function calls the one returned. Defaults to 2.

    Example:
      >>> find = moved_names("math", {"square_root": "sqrt"})
      >>> with warnings.catch_warnings():
      ...     warnings.simplefilter("ignore")
      ...     find("square_root")(9.0)
      3.0
    """

    @functools.cache
    def __getattr__(name: str) -> Any:  # noqa: N807
        if name not in moved:
            raise AttributeError(f"module {module_name!r} has no attribute {name!r}")
        home, _, new_name = moved[name].rpartition(":")
        warnings.warn(
            f"{module_name}.{name} is now {(home or module_name)}.{new_name}; the old name goes "
            "with the next version. Use the new one.",
            DeprecationWarning,
            stacklevel=stacklevel,
        )
        return getattr(importlib.import_module(home or module_name), new_name)

    return __getattr__
