"""The federation links of one server: those that policies ask for run, and no others; who looks is told how they are.

Loads what a link is made of when there is the first upstream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypedDict

import trio

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.policies import FEDERATION_SET, FEDERATION_UPSTREAM
from amqp_broker.broker.problems import AdministrationError, NotThere
from amqp_broker.logs import log_internal_error
from amqp_broker.network.wake_up import WakeUp

if TYPE_CHECKING:
    from amqp_broker.broker.observer import Observer
    from amqp_broker.server.ends import ServeStream
    from amqp_broker.server.federation.link import Link
    from amqp_broker.server.federation.link_name import LinkName
    from amqp_broker.server.federation.upstreams import WantedLink

LOOK_S: Final = 0.1  # how often federated queues are asked whether they are short of messages


class LinkInfo(TypedDict):
    """One link."""

    id: str
    vhost: str
    kind: str  # exchange or queue
    name: str
    upstream: str
    upstream_name: str
    state: str  # starting, running, error or paused
    reason: str  # why it does not run
    since_ms: int  # since 1970
    forwarded: int  # messages, since the link is there
    uri: str
    consumer_tag: str
    connection: str  # what its connections are called


def federation_of(broker: Broker) -> Federation:
    """The links of the server that serves this broker.

    Raises:
        AdministrationError: nobody serves it.
    """
    component = broker.components.get(FEDERATION_UPSTREAM)
    if not isinstance(component, UpstreamParameters):
        raise AdministrationError("this broker has no federation")
    return component.federation


class UpstreamParameters:
    """The component ``federation-upstream``, which hears of policies that federate, too."""

    def __init__(self, federation: Federation) -> None:
        self.federation = federation

    def check(self, name: str, value: object) -> None:
        """Refuse what is no upstream."""
        from amqp_broker.server.federation.definition import check_upstream

        check_upstream(name, value)

    def changed(self) -> None:
        """Some were set or cleared."""
        self.federation.changed()


class SetParameters:
    """The component ``federation-upstream-set``."""

    def __init__(self, federation: Federation) -> None:
        self._federation = federation

    def check(self, name: str, value: object) -> None:
        """Refuse what is no set of upstreams."""
        from amqp_broker.server.federation.definition import check_upstream_set

        check_upstream_set(name, value)

    def changed(self) -> None:
        """Some were set or cleared."""
        self._federation.changed()


class _Running:
    """A link that runs."""

    def __init__(self, link: Link, wanted: WantedLink) -> None:
        self.link = link
        self.wanted = wanted
        self.scope = trio.CancelScope()


class Federation:
    """The links of one server.

    Args:
        serve_stream: has a conversation of the broker with itself over a stream, about a virtual host.
    """

    def __init__(self, serve_stream: ServeStream) -> None:
        self._serve_stream = serve_stream
        self._wake_up = WakeUp()
        self._running: dict[LinkName, _Running] = {}
        self._ending: set[LinkName] = set()  # one of the same name waits for them
        self._observer: Observer | None = None

    def register(self, broker: Broker) -> None:
        """Be what parameters of federation concern."""
        broker.components.register(FEDERATION_UPSTREAM, UpstreamParameters(self))
        broker.components.register(FEDERATION_SET, SetParameters(self))

    def changed(self) -> None:
        """Upstreams, or what policies ask for, may be others now."""
        self._wake_up.set()

    # --- running

    async def run(self, broker: Broker) -> None:
        """Run what there is until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                while True:
                    if self._running or _has_upstreams(broker):
                        self._follow(broker, nursery)
                    await self._pause()
        finally:
            self._look_on(broker, None)

    async def _pause(self) -> None:
        """Wait for a change; meanwhile ask federated queues how they are, for nobody tells when one runs empty."""
        queue_links = [running.link for name, running in self._running.items() if name.kind == "queue"]
        await trio.lowlevel.checkpoint()
        while queue_links:
            with trio.move_on_after(LOOK_S):
                await self._wake_up.wait()
                return
            for link in queue_links:
                link.look_at_consumers()
        await self._wake_up.wait()

    def _follow(self, broker: Broker, nursery: trio.Nursery) -> None:
        """End what is gone or different, and start what is new."""
        from amqp_broker.server.federation.upstreams import WantedLinks

        wanted = WantedLinks(broker).all()
        for name, running in list(self._running.items()):
            if name not in wanted:
                self._end(name, running, is_over=True)
            elif wanted[name] != running.wanted:
                self._end(name, running, is_over=False)
        for name, one in wanted.items():
            if name not in self._running and name not in self._ending:
                self._start(broker, nursery, name, one)
        self._look_on(broker, self._running)

    def _end(self, name: LinkName, running: _Running, *, is_over: bool) -> None:
        del self._running[name]
        self._ending.add(name)
        if not is_over or not running.link.end():
            running.scope.cancel()

    def _look_on(self, broker: Broker, running: dict[LinkName, _Running] | None) -> None:
        """Be told of bindings, consumers and what is deleted, as long as there is a link."""
        if running and self._observer is None:
            from amqp_broker.server.federation.onlooker import FederationOnlooker

            self._observer = FederationOnlooker(self.changed, lambda: [one.link for one in self._running.values()])
            broker.observers.add(self._observer, of_messages=False)
        elif not running and self._observer is not None:
            broker.observers.remove(self._observer)
            self._observer = None

    def _start(self, broker: Broker, nursery: trio.Nursery, name: LinkName, wanted: WantedLink) -> None:
        from amqp_broker.broker.exchanges.exchange import Exchange
        from amqp_broker.server.ends import Ends
        from amqp_broker.server.federation.exchange_link import ExchangeLink
        from amqp_broker.server.federation.queue_link import QueueLink

        ends, upstream, policy = Ends(broker, self._serve_stream), wanted.upstream, wanted.policy
        link: Link
        if isinstance(wanted.federated, Exchange):
            link = ExchangeLink(broker, ends, name, upstream, policy, wanted.federated)
        else:
            link = QueueLink(broker, ends, name, upstream, policy, wanted.federated)
        running = self._running[name] = _Running(link, wanted)
        nursery.start_soon(self._run_one, name, running)

    async def _run_one(self, name: LinkName, running: _Running) -> None:
        with running.scope:
            try:
                await running.link.run()
            except Exception as error:
                log_internal_error("federation link", error, link="/".join(name))
                running.link.fail("internal error; see the broker's log")
                await trio.sleep_forever()
        running.link.removed()
        self._ending.discard(name)
        self._wake_up.set()

    def restart(self, identity: str) -> None:
        """Have a link connect anew, whatever it does now.

        Raises:
            NotThere: there is none of that id.
        """
        for name, running in self._running.items():
            if name.identity == identity:
                self._end(name, running, is_over=False)
                return
        raise NotThere(f"there is no federation link '{identity}'")

    def pause(self, broker: Broker, virtual_host: str, upstream: str, *, is_paused: bool, who: str) -> None:
        """Have all links to an upstream stop, or go on; it stays so when the broker starts again.

        Raises:
            NotThere: there is no such upstream.
        """
        parameter = broker.existing_virtual_host(virtual_host).parameters.get((FEDERATION_UPSTREAM, upstream))
        if parameter is None:
            raise NotThere(f"there is no federation upstream '{upstream}' in virtual host '{virtual_host}'")
        value = {key: one for key, one in parameter.value.items() if key != "paused"}
        if is_paused:
            value["paused"] = True
        parameters = broker.administration.on_behalf_of(who).parameters
        parameters.set_parameter(virtual_host, FEDERATION_UPSTREAM, upstream, value)

    # --- looking

    def all(self) -> list[LinkInfo]:
        """How they are, by virtual host, kind and name."""
        return [_described(running.link) for _, running in sorted(self._running.items())]


def _has_upstreams(broker: Broker) -> bool:
    return any(
        component == FEDERATION_UPSTREAM for host in broker.virtual_hosts.values() for component, _ in host.parameters
    )


def _described(link: Link) -> LinkInfo:
    name, state = link.name, link.state
    return LinkInfo(
        id=name.identity,
        vhost=name.virtual_host,
        kind=name.kind,
        name=name.name,
        upstream=name.upstream,
        upstream_name=name.upstream_name,
        state=state.state,
        reason=state.reason,
        since_ms=state.since_ms,
        forwarded=state.forwarded,
        uri=state.uri,
        consumer_tag=link.upstream.consumer_tag,
        connection=link.connection_name,
    )
