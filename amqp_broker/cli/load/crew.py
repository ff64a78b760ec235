"""The processes of a load: one has all publishers, another all consumers, each loops over its connections."""

from __future__ import annotations

import contextlib
import multiprocessing
import selectors
import signal
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from amqp_broker.cli.load.consuming import Consumer
from amqp_broker.cli.load.figures import IS_ENDING, Figures
from amqp_broker.cli.load.link import BrokerRefused
from amqp_broker.cli.load.plan import Plan
from amqp_broker.cli.load.publishing import Publisher

LOOK_EVERY_S = 0.1
PATIENCE_S = 60.0
FINISH_S = 5.0  # for what is unsent or unconfirmed at the end


class Crew:
    """One process.

    Args:
        plan: what is done.
        is_publishing: whether it has the publishers, or else the consumers.
    """

    def __init__(self, plan: Plan, *, is_publishing: bool) -> None:
        context = multiprocessing.get_context("spawn")
        self.figures = Figures(context.RawArray("Q", len(Figures().cells)))
        self._here, there = context.Pipe()
        arguments = (plan, self.figures.cells, there, is_publishing)
        self._process: BaseProcess = context.Process(target=_work, args=arguments, daemon=True)
        with _deaf_to_ctrl_c():
            self._process.start()
        there.close()

    def await_ready(self) -> None:
        """Return when all of its connections are open.

        Raises:
            BrokerRefused: one could not be.
        """
        if not self._here.poll(PATIENCE_S):
            raise BrokerRefused("the load could not be prepared within a minute")
        self.check()

    def begin(self) -> None:
        """Let it begin."""
        self._here.send(None)

    def check(self) -> None:
        """Raise what went wrong in it.

        Raises:
            BrokerRefused: something did.
        """
        with contextlib.suppress(EOFError):
            while self._here.poll():
                text = self._here.recv()
                if text:
                    raise BrokerRefused(text)

    def end(self) -> None:
        """Let it end, also if it has not begun, and wait for that."""
        self.figures.cells[IS_ENDING] = 1
        self._here.close()
        self._process.join(2 * FINISH_S)
        if self._process.is_alive():
            self._process.kill()


@contextlib.contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Have processes that are started meanwhile ignore Ctrl-C from their first moment on: it is the parent who ends."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _work(plan: Plan, cells: Any, parent: Connection, is_publishing: bool) -> None:
    figures = Figures(cells)
    try:
        if is_publishing:
            publishers = [Publisher(plan, figures) for _ in range(plan.publishers)]
            if may_begin(parent):
                _publish(publishers, figures)
        else:
            consumers = [Consumer(plan, figures) for _ in range(plan.consumers)]
            if may_begin(parent):
                _consume(consumers, figures)
    except BrokerRefused as refused:
        with contextlib.suppress(OSError):  # nobody may listen any more
            parent.send(str(refused))


def may_begin(parent: Connection) -> bool:
    """Wait until it begins; false when it ends before it has begun, because the other crew could not be had."""
    try:
        parent.send("")
        parent.recv()
    except (EOFError, OSError):
        return False
    return True


def _publish(publishers: list[Publisher], figures: Figures) -> None:
    """Publish until the end, and then let what was begun be sent and confirmed."""
    with selectors.DefaultSelector() as selector:
        for one in publishers:
            one.begin(time.monotonic_ns())
            selector.register(one.link.socket, selectors.EVENT_READ, one)
        while not figures[IS_ENDING]:
            now_ns = time.monotonic_ns()
            for one in publishers:
                one.publish(now_ns)
            waits = [one.wait_s(now_ns) for one in publishers]
            _send_and_receive(selector, min((wait for wait in waits if wait is not None), default=LOOK_EVERY_S))
        end_s = time.monotonic() + FINISH_S
        while not all(one.is_settled for one in publishers) and time.monotonic() < end_s:
            _send_and_receive(selector, LOOK_EVERY_S)


def _send_and_receive(selector: selectors.BaseSelector, wait_s: float) -> None:
    for key in list(selector.get_map().values()):
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if key.data.link.has_unsent else 0)
        if key.events != events:
            selector.modify(key.fileobj, events, key.data)
    for key, events in selector.select(min(wait_s, LOOK_EVERY_S)):
        if events & selectors.EVENT_WRITE:
            key.data.link.send_rest()
        if events & selectors.EVENT_READ:
            key.data.receive(time.monotonic_ns())


def _consume(consumers: list[Consumer], figures: Figures) -> None:
    with selectors.DefaultSelector() as selector:
        for one in consumers:
            one.begin(time.monotonic_ns())
            selector.register(one.link.socket, selectors.EVENT_READ, one)
            one.receive(time.monotonic_ns())
        while not figures[IS_ENDING]:
            for key, _ in selector.select(LOOK_EVERY_S):
                key.data.link.send_rest()
                key.data.receive(time.monotonic_ns())
