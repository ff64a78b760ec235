"""The shovels of one server: those that parameters name run, and no others; who looks is told how they are.

Loads what a shovel is made of when there is the first one.
"""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypedDict

import trio

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.problems import AdministrationError, NotThere, NotValid
from amqp_broker.logs import log_event, log_internal_error
from amqp_broker.network.wake_up import WakeUp

if TYPE_CHECKING:
    from amqp_broker.server.ends import ServeStream
    from amqp_broker.server.shovels.shovel import Shovel

COMPONENT: Final = "shovel"
BY: Final = "shovel"


class ShovelInfo(TypedDict):
    """One shovel."""

    name: str
    vhost: str
    state: str  # starting, running, terminated or paused
    reason: str  # why it does not run
    since_ms: int  # since 1970
    carried: int  # messages, since the broker has started
    source: str
    source_uri: str
    destination: str
    destination_uri: str
    ack_mode: str


def shovels_of(broker: Broker) -> Shovels:
    """The shovels of the server that serves this broker.

    Raises:
        AdministrationError: nobody serves it.
    """
    shovels = broker.components.get(COMPONENT)
    if not isinstance(shovels, Shovels):
        raise AdministrationError("this broker has no shovels")
    return shovels


class Shovels:
    """The shovels of one server.

    Args:
        serve_stream: has a conversation of the broker with itself over a stream, about a virtual host.
    """

    def __init__(self, serve_stream: ServeStream) -> None:
        self._serve_stream = serve_stream
        self._wake_up = WakeUp()
        self._refused: dict[tuple[str, str], str] = {}
        self._running: dict[tuple[str, str], tuple[Shovel, trio.CancelScope, str]] = {}

    # --- the component (``broker/components.py``)

    def check(self, name: str, value: object) -> None:
        """Refuse what is no shovel."""
        from amqp_broker.server.shovels.definition import read_definition

        read_definition(name, value)

    def changed(self) -> None:
        """Some were set or cleared."""
        self._wake_up.set()

    # --- running

    async def run(self, broker: Broker) -> None:
        """Run what there is until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                self._follow(broker, nursery)
                await self._wake_up.wait()

    def _follow(self, broker: Broker, nursery: trio.Nursery) -> None:
        """Stop what is gone or different, and start what is new."""
        wanted = {
            (host.name, name): parameter
            for host in broker.virtual_hosts.values()
            for (component, name), parameter in host.parameters.items()
            if component == COMPONENT
        }
        for key, (_, _, text) in list(self._running.items()):
            if key not in wanted or wanted[key].text() != text:
                self._stop(key)
        for key, parameter in wanted.items():
            if key not in self._running:
                self._start(broker, nursery, *key, parameter.text())

    def _stop(self, key: tuple[str, str]) -> None:
        shovel, scope, _ = self._running.pop(key)
        scope.cancel()
        shovel.remove()

    def _start(self, broker: Broker, nursery: trio.Nursery, virtual_host: str, name: str, text: str) -> None:
        from amqp_broker.server.ends import Ends
        from amqp_broker.server.shovels.definition import read_definition
        from amqp_broker.server.shovels.shovel import Shovel

        try:
            definition = read_definition(name, json.loads(text))
        except NotValid as error:  # an earlier release has kept it without a look
            if self._refused.get((virtual_host, name)) != text:
                self._refused[virtual_host, name] = text
                log_event(logging.ERROR, "shovel refused", shovel=name, vhost=virtual_host, reason=str(error))
            return
        shovel = Shovel(broker, Ends(broker, self._serve_stream), virtual_host, name, definition)
        scope = trio.CancelScope()
        self._running[virtual_host, name] = (shovel, scope, text)
        nursery.start_soon(self._run_one, broker, shovel, scope)

    async def _run_one(self, broker: Broker, shovel: Shovel, scope: trio.CancelScope) -> None:
        administration = broker.administration.on_behalf_of(BY)
        with scope:
            try:
                await shovel.run()
            except Exception as error:
                log_internal_error("shovel", error, shovel=shovel.name)
                shovel.fail("internal error; see the broker's log")
                return
            with suppress(AdministrationError):  # somebody else has cleared it in this moment
                broker.handle(
                    lambda: administration.parameters.clear_parameter(shovel.virtual_host, COMPONENT, shovel.name)
                )

    def restart(self, virtual_host: str, name: str) -> None:
        """Have one connect anew, whatever it does now.

        Raises:
            NotThere: there is none of that name.
        """
        if (virtual_host, name) not in self._running:
            raise NotThere(f"there is no shovel '{name}' in virtual host '{virtual_host}'")
        self._stop((virtual_host, name))
        self._wake_up.set()

    def pause(self, broker: Broker, virtual_host: str, name: str, *, is_paused: bool, who: str) -> None:
        """Have one stop carrying, or go on; it stays so when the broker starts again.

        Raises:
            NotThere: there is none of that name.
        """
        parameters = broker.existing_virtual_host(virtual_host).parameters
        parameter = parameters.get((COMPONENT, name))
        if parameter is None:
            raise NotThere(f"there is no shovel '{name}' in virtual host '{virtual_host}'")
        value = {key: one for key, one in parameter.value.items() if key != "paused"}
        if is_paused:
            value["paused"] = True
        broker.administration.on_behalf_of(who).parameters.set_parameter(virtual_host, COMPONENT, name, value)

    # --- looking

    def all(self) -> list[ShovelInfo]:
        """How they are, by virtual host and name."""
        return [_described(shovel) for _, (shovel, _, _) in sorted(self._running.items())]


def _described(shovel: Shovel) -> ShovelInfo:
    definition, state = shovel.definition, shovel.state
    source, destination = definition.source, definition.destination
    to_exchange = "the exchange of each message" if destination.exchange is None else f"exchange {destination.exchange}"
    return ShovelInfo(
        name=shovel.name,
        vhost=shovel.virtual_host,
        state=state.state,
        reason=state.reason,
        since_ms=state.since_ms,
        carried=state.carried,
        source=f"queue {source.queue}" if source.queue else f"exchange {source.exchange}",
        source_uri=state.source_uri or str(definition.source_uris[0]),
        destination=f"queue {destination.queue}" if destination.queue else to_exchange,
        destination_uri=state.destination_uri or str(definition.destination_uris[0]),
        ack_mode=str(definition.mode),
    )
