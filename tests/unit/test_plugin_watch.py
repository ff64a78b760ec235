"""A plugin in whose code the event loop stands still is named in the log, with the place; others are not watched."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from functools import partial
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import Any

import pytest
import trio
import trio.testing

from amqp_broker.broker.plugin_types import EXCHANGE_TYPE, PluginType
from amqp_broker.server.driver import ServerDriver
from amqp_broker.server.plugin_watch import PluginWatch, watch_plugins
from tests.support.client import Client
from tests.support.memory_broker import MemoryBroker, MemoryDriver

CODE = """
def route(entered, go_on):
    entered.set()
    helper(go_on)

def helper(go_on):
    go_on.wait(60)
"""


def plugin(name: str, value: str) -> PluginType:
    return PluginType(EXCHANGE_TYPE, EntryPoint(name, value, "amqp_broker.exchange_types"))


@pytest.fixture
def slow() -> Iterator[ModuleType]:
    """A module of a package, with a function that returns when it is told to."""
    module = ModuleType("slow_package.routing")
    exec(compile(CODE, "slow_package/routing.py", "exec"), module.__dict__)
    sys.modules[module.__name__] = module
    yield module
    del sys.modules[module.__name__]


class Stopped:
    """A thread that stands still in a function until the test ends."""

    def __init__(self, function: Any) -> None:
        entered, self._go_on = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=function, args=(entered, self._go_on))
        self.thread.start()
        entered.wait()

    def __enter__(self) -> int:
        assert self.thread.ident is not None
        return self.thread.ident

    def __exit__(self, *_: object) -> None:
        self._go_on.set()
        self.thread.join()


def said(caplog: pytest.LogCaptureFixture) -> list[tuple[str, dict[str, Any]]]:
    return [(record.getMessage(), record.__dict__["fields"]) for record in caplog.records]


def test_it_is_named_once_and_again_when_it_goes_on(caplog: pytest.LogCaptureFixture, slow: ModuleType) -> None:
    caplog.set_level(logging.INFO, "amqp_broker")
    plugins = {one.value: one for one in (plugin("other", "other:Type"), plugin("slow", "slow_package.routing:Type"))}
    now_s = 100.0
    with Stopped(slow.route) as thread_id:
        watch = PluginWatch(plugins, thread_id, lambda: now_s)
        now_s += 4.9
        watch.look()
        assert said(caplog) == []
        for _ in range(2):
            now_s += 0.1
            watch.look()
    ((event, fields),) = said(caplog)
    assert (event, fields["type"], fields["stands_s"]) == ("plugin hangs", "slow", 5.0)
    assert fields["where"].startswith("slow_package/routing.py:")
    caplog.clear()
    now_s += 2
    watch.loop_turns()
    assert [(event, fields["stood_s"]) for event, fields in said(caplog)] == [("plugin goes on", 7.1)]
    watch.loop_turns()
    assert len(said(caplog)) == 1


def test_another_module_of_its_package_counts_and_nothing_of_others(
    caplog: pytest.LogCaptureFixture, slow: ModuleType
) -> None:
    with Stopped(slow.route) as thread_id:
        for value, count in (("slow_package.types:Type", 1), ("slow:Type", 0), ("slow_package2:Type", 0)):
            caplog.clear()
            now_s = iter([0.0, 60.0])
            PluginWatch({value: plugin("p", value)}, thread_id, lambda: next(now_s)).look()  # noqa: B023
            assert len(said(caplog)) == count


def test_a_thread_that_is_gone_is_nobodys(caplog: pytest.LogCaptureFixture, slow: ModuleType) -> None:
    with Stopped(slow.route) as thread_id:
        pass
    now_s = iter([0.0, 60.0])
    PluginWatch({"slow_package:T": plugin("p", "slow_package:T")}, thread_id, lambda: next(now_s)).look()
    assert said(caplog) == []


def test_a_loop_that_stands_still_is_noticed(slow: ModuleType) -> None:
    """The plugin is let go by the line in the log, and by nothing else."""
    named = threading.Event()

    class Noticing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage() == "plugin hangs":
                named.set()

    async def stand_still() -> None:
        one = plugin("slow", "slow_package.routing:Type")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(watch_plugins, {one.value: one}, patience_s=0.01, interval_s=0.001))
            await trio.testing.wait_all_tasks_blocked()
            slow.route(threading.Event(), named)
            nursery.cancel_scope.cancel()

    handler, logger = Noticing(), logging.getLogger("amqp_broker")
    logger.addHandler(handler)
    try:
        trio.run(stand_still)
    finally:
        logger.removeHandler(handler)
    assert named.is_set()


def test_what_is_in_the_box_is_not_watched() -> None:
    driver = ServerDriver()
    driver.plugin_is_used(plugin("x-random", "amqp_broker.plugins.random_choice:RandomMatcher"))
    assert driver.plugins == {}
    for _ in range(2):
        driver.plugin_is_used(plugin("slow", "slow_package.routing:Type"))
    assert list(driver.plugins) == ["slow_package.routing:Type"]


class NotingDriver(MemoryDriver):
    """Notes which plugins are used."""

    def plugin_is_used(self, plugin: PluginType) -> None:
        USED.append(plugin.name)


class NotingBroker(MemoryBroker):
    """Has that driver."""

    driver_type = NotingDriver


USED: list[str] = []


def test_the_driver_is_told_when_an_exchange_is_made() -> None:
    USED.clear()
    channel = Client(NotingBroker()).open().channel()
    channel.exchange("x", "direct")
    assert USED == []
    channel.exchange("y", "x-random")
    assert USED == ["x-random"]
