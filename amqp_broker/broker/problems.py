"""Errors that say why a request of an administrator was not done. Nothing was changed then."""

from __future__ import annotations

from collections.abc import Sequence


class AdministrationError(Exception):
    """A request of an administrator that cannot be done, and nothing was changed; the text says why."""


class NotThere(AdministrationError):
    """A request about a name that nothing has."""


class AlreadyThere(AdministrationError):
    """A request to create what is there already under that name."""


class Protected(AdministrationError):
    """A request to delete what is protected from that."""


class NotValid(AdministrationError):
    """A value is not what it should be.

    ``str()`` of it is what RabbitMQ's management API and its command line say, beginning with ``Validation failed``.

    Args:
        problems: what is wrong, one line each.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("Validation failed\n\n" + "".join(f"{problem}\n" for problem in problems))
        self.problems = tuple(problems)
