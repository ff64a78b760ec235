"""The supervisor of several processes: it starts them, sees them end, and ends them. It serves nobody and runs no trio.

A process is a fork of the supervisor, with what was loaded in memory that they share. One that is killed is started
again, and its virtual hosts stand still until it is back; one that ends by itself has said why, and all end with it.
Pipes tell a process that clients may come and that the supervisor is gone; they end with who holds the other end.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from amqp_broker.explanations import system_reason
from amqp_broker.logs import log_event
from amqp_broker.server.service_manager import ServiceManager

ENDINGS: Final = (signal.SIGTERM, signal.SIGINT)
SIGNALS: Final = (*ENDINGS, signal.SIGCHLD, signal.SIGHUP)
RESTART_PAUSE_S: Final = 1.0  # between two starts of one process
SIGNS: Final = 4  # of life that a process gives in the time in which the service manager wants one
KILLED: Final = 128  # and the signal's number: the exit code of who was ended by one


class Supervisor:
    """The supervisor.

    Args:
        count: of the processes.
        run: is one of them: it is called in a process of its own, with its number and the pipes that it reads and
            writes (alive, start, ready), and returns an exit code. It writes its number to the last one when it can
            serve, and again at least ``SIGNS`` times in the time in which ``manager`` wants a sign of life.
        may_start: called when all can serve, before the first client comes; with what tells whether that is still to
            be, to be asked now and then.
        stop_listening: called when the end begins.
        manager: is told that the broker is there.
    """

    def __init__(
        self,
        count: int,
        run: Callable[[int, int, int, int], int],
        may_start: Callable[[Callable[[], bool]], None],
        stop_listening: Callable[[], None],
        manager: ServiceManager,
    ) -> None:
        self._count = count
        self._run = run
        self._may_start = may_start
        self._stop_listening = stop_listening
        self._manager = manager
        self._processes: dict[int, int] = {}  # numbers by the system's
        self._started_s: dict[int, float] = {}
        self._waiting: dict[int, float] = {}  # to be started again, and when
        self._heard_s: dict[int, float] = {}  # when each that can serve has last said so
        self._is_ending = False
        self._is_told_to_end = False  # by a signal; it ends by itself as well
        self._exit_code = 0
        self._failure: Exception | None = None
        self.ending_since_s = time.monotonic()
        self._alive, self._life = os.pipe()
        self._start, self._starting = os.pipe()
        self._ready_pipe, self._ready_end = os.pipe()
        os.set_blocking(self._ready_pipe, False)
        self._signals, self._wake = socket.socketpair()
        for one_end in (self._signals, self._wake):
            one_end.setblocking(False)

    def supervise(self) -> int:
        """Start them, and return when all have ended; with the exit code.

        Raises:
            Exception: what ``may_start`` has raised.
        """
        for one in SIGNALS:
            signal.signal(one, _only_wake)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        for number in range(self._count):
            self._fork(number)
        while self._processes or self._waiting:
            readable, _, _ = select.select([self._signals.fileno(), self._ready_pipe], [], [], self._pause_s())
            self._obey_signals()
            if self._ready_pipe in readable:
                self._hear()
            self._see_who_ended()
            self._start_again()
            if self._all_are_alive():
                self._manager.alive()
        if self._failure is not None:
            raise self._failure
        return self._exit_code

    def _all_are_alive(self) -> bool:
        """Whether no process that can serve has fallen silent; those that start or end are not waited for."""
        since_s = time.monotonic() - self._manager.alive_every_s
        return self._is_ending or all(heard_s >= since_s for heard_s in self._heard_s.values())

    def _pause_s(self) -> float | None:
        """How long nothing is to be done; None where nothing ever is."""
        pauses = [self._manager.alive_every_s] if self._manager.alive_every_s else []
        pauses += [max(at_s - time.monotonic(), 0.0) for at_s in self._waiting.values()]
        return min(pauses, default=None)

    def _fork(self, number: int) -> None:
        """Start a process; later, where the system has no room for it now."""
        self._started_s[number] = time.monotonic()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # none is the child's while it has our handlers
        try:
            process = os.fork()
        except OSError as error:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            log_event(logging.ERROR, "process not started", process=number, reason=system_reason(error))
            self._waiting[number] = self._started_s[number] + RESTART_PAUSE_S
            return
        if process:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            self._processes[process] = number
            return
        code = 1
        try:  # nothing of the supervisor's may be done here: its locks and files are the supervisor's to give back
            signal.set_wakeup_fd(-1)
            for one in (signal.SIGTERM, signal.SIGCHLD):
                signal.signal(one, signal.SIG_DFL)
            for one in (signal.SIGINT, signal.SIGHUP):  # Ctrl-C reaches all of a terminal's: the supervisor sees to it;
                signal.signal(one, signal.SIG_IGN)  # certificates are read after this anyway
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            for descriptor in (self._life, self._starting, self._ready_pipe):
                if descriptor >= 0:
                    os.close(descriptor)
            code = self._run(number, self._alive, self._start, self._ready_end)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            with suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _obey_signals(self) -> None:
        with suppress(BlockingIOError):
            for number in self._signals.recv(4096):
                self._obey(number)

    def _is_still_to_start(self) -> bool:
        """Whether clients are still to come: no signal has come meanwhile that ends all."""
        self._obey_signals()
        return not self._is_ending

    def _obey(self, number: int) -> None:
        if number == signal.SIGHUP:
            self._manager.reloading()
            self._send(signal.SIGHUP)
            self._manager.reloaded()
        elif number in ENDINGS and self._is_told_to_end:  # a second one
            self._exit_code = KILLED + number
            self._send(signal.SIGKILL)
        elif number in ENDINGS:
            self._is_told_to_end = True
            if not self._is_ending:
                self._end()

    def _end(self) -> None:
        self._is_ending, self.ending_since_s = True, time.monotonic()
        self._waiting.clear()
        self._stop_listening()
        self._manager.stopping()
        self._send(signal.SIGTERM)

    def _send(self, number: signal.Signals) -> None:
        for process in self._processes:
            os.kill(process, number)

    def _hear(self) -> None:
        """Note who can serve, and goes on doing so."""
        try:
            numbers = os.read(self._ready_pipe, 4096)
        except BlockingIOError:
            return
        self._heard_s.update(dict.fromkeys(numbers, time.monotonic()))
        if self._starting >= 0 and len(self._heard_s) == self._count and not self._is_ending:
            try:
                self._may_start(self._is_still_to_start)
            except Exception as error:
                if self._is_still_to_start():  # else it has failed for that
                    self._failure = error
                    self._end()
            if not self._is_ending:
                os.close(self._starting)
                self._starting = -1
                self._manager.ready()

    def _see_who_ended(self) -> None:
        for process in list(self._processes):
            found, status = os.waitpid(process, os.WNOHANG)
            if not found:
                continue
            number = self._processes.pop(process)
            self._hear()  # what it has said before: the next with its number has still to begin
            self._heard_s.pop(number, None)
            code = os.waitstatus_to_exitcode(status)
            if code < 0 and not self._is_ending:
                log_event(logging.ERROR, "process killed", process=number, signal=-code)
                self._waiting[number] = self._started_s[number] + RESTART_PAUSE_S
            elif not self._is_ending:
                self._exit_code = self._exit_code or code
                self._end()
            elif code > 0:
                self._exit_code = self._exit_code or code

    def _start_again(self) -> None:
        for number, at_s in list(self._waiting.items()):
            if time.monotonic() >= at_s:
                del self._waiting[number]
                self._fork(number)


def _only_wake(number: int, frame: object) -> None:
    """The signal's number was written to the socket that the supervisor reads."""
