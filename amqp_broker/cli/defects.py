"""With ``--log-format json`` every line is JSON, also what Python itself would print of a defect of ours.

That is an error which ends the process, one in a thread or in a finalizer, and a warning. Does not hold errors that
somebody handles (``logs.log_internal_error``).
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
import warnings
from types import TracebackType
from typing import TextIO

from amqp_broker.cli.exit_codes import ExitCode
from amqp_broker.logs import log_event


def tell_defects_as_events() -> None:
    """Take over from Python, for the rest of this process."""
    sys.excepthook = _ended
    sys.unraisablehook = lambda found: _log("finalizer" if found.err_msg is None else found.err_msg, found.exc_value)
    threading.excepthook = lambda found: _log("thread" if found.thread is None else found.thread.name, found.exc_value)
    warnings.showwarning = _warned


def _ended(kind: type[BaseException], error: BaseException, _: TracebackType | None) -> None:
    log_event(
        logging.ERROR,
        "failed",
        reason=f"a defect of amqp-broker: {_named(error)}",
        exit_code=int(ExitCode.INTERNAL_ERROR),
        traceback=_told(error),
    )


def _log(where: str, error: BaseException | None) -> None:
    if error is not None:
        log_event(logging.ERROR, "internal error", where=where, error=_named(error), traceback=_told(error))


def _warned(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    log_event(
        logging.WARNING, "warning of Python", reason=f"{category.__name__}: {message}", where=f"{filename}:{lineno}"
    )


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _told(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))
