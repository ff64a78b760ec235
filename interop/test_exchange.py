"""exchange.declare, delete, bind and unbind, and how each type routes."""

from __future__ import annotations

from interop.raw_client import ChannelUnderTest, Client, Exchange
from interop.under_test import BrokerUnderTest


def test_declare_of_an_unknown_type(broker: BrokerUnderTest, client: Client, ch: ChannelUnderTest, x: str) -> None:
    ch.send(Exchange.Declare, exchange=x, exchange_type="x-nope")
    if broker.differs("unknown-exchange-type"):
        ch.expect_close(406, "unknown exchange type 'x-nope'", cause=Exchange.Declare)
    else:
        client.expect_connection_close(503, "unknown exchange type 'x-nope'", cause=Exchange.Declare)
