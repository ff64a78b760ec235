"""Declarations in the sources for mypyc, which may compile them (docs/architecture.md, "Compiled").

To the interpreter all of this means nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr as mypyc_attr
else:

    def mypyc_attr(**attributes):
        """For a class: ``allow_interpreted_subclasses=True`` lets tests derive from it where it is compiled."""
        return lambda decorated_class: decorated_class
