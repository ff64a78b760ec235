"""The exit codes of ``amqp-broker``. Documented in its ``--help`` as well; keep the two together."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

INTERRUPTED: Final = 130  # by Ctrl-C, as a shell shows it


class ExitCode(IntEnum):
    """The exit codes; anything else is a signal's, 128 plus its number as the shell shows it."""

    OK = 0  # done, or ended by SIGTERM or Ctrl-C
    INTERNAL_ERROR = 1  # a defect of ours
    WRONG_USE = 2  # a wrong command line, setting or configuration file
    CANNOT_LISTEN = 3  # a port in use, an address that is not here
    CANNOT_USE_DATA_FOLDER = 4  # held by another broker, or not to be written
    JOURNAL_DAMAGED = 5  # the journal is not what was written
    JOURNAL_FAILED = 6  # the disk failed: the journal's while the broker ran, or that of a command's output
    NOT_RUNNING = 7  # no broker answers that could be asked to change something
    REFUSED = 8  # the broker that was asked refused: no such user, a name that is taken, a wrong pattern
    NOT_SUPPORTED = 9  # the journal is intact, and holds what this release does not know
    CANNOT_JOIN = 10  # etcd, or what the cluster has in it, cannot be used


EPILOG = (
    "Exit codes: 0 done, or ended by SIGTERM or Ctrl-C; 1 a defect of amqp-broker; 2 a wrong command line, setting or "
    "configuration file; 3 cannot listen; 4 cannot use the data folder; 5 the journal is damaged; 6 the disk failed; "
    "7 no broker runs with that data folder; 8 the broker refused what was asked; 9 the journal holds what this "
    "release does not know; 10 the node cannot be part of its cluster."
)
