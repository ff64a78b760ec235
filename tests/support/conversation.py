"""What a client says, frame by frame: the handshake, and some of everything behind it. Fuzzers begin with these."""

from __future__ import annotations

import struct

from pamqp import body, commands, frame, header

HANDSHAKE = [
    frame.marshal(commands.Connection.StartOk({"capabilities": {}}, "PLAIN", "\0guest\0guest", "en_US"), 0),
    frame.marshal(commands.Connection.TuneOk(2047, 131072, 0), 0),
    frame.marshal(commands.Connection.Open("/"), 0),
    frame.marshal(commands.Channel.Open(), 1),
]
METHODS = [
    *[
        frame.marshal(method, 1)
        for method in (
            commands.Queue.Declare(queue="q", arguments={"x-max-length": 5, "x-dead-letter-exchange": ""}),
            commands.Queue.Declare(queue="", exclusive=True),
            commands.Exchange.Declare(exchange="x", exchange_type="headers"),
            commands.Queue.Bind(queue="q", exchange="amq.topic", routing_key="a.*.#", arguments={"n": {"m": [1, "s"]}}),
            commands.Exchange.Bind(destination="amq.fanout", source="amq.topic", routing_key="#"),
            commands.Exchange.Bind(destination="amq.topic", source="amq.fanout"),
            commands.Basic.Qos(0, 2, True),
            commands.Basic.Consume(queue="q", consumer_tag="t"),
            commands.Basic.Consume(queue="amq.rabbitmq.reply-to", no_ack=True),
            commands.Basic.Get(queue="q"),
            commands.Basic.Ack(1, True),
            commands.Basic.Nack(2, True, True),
            commands.Basic.Reject(1, False),
            commands.Basic.Recover(True),
            commands.Basic.Cancel("t"),
            commands.Confirm.Select(),
            commands.Tx.Select(),
            commands.Tx.Commit(),
            commands.Queue.Purge(queue="q"),
            commands.Queue.Delete(queue="q"),
            commands.Channel.Flow(False),
            commands.Channel.Close(200, "", 0, 0),
            commands.Channel.CloseOk(),
        )
    ],
    frame.marshal(commands.Connection.Close(200, "", 0, 0), 0),
    frame.marshal(commands.Connection.UpdateSecret("s", "r"), 0),
    b"".join(
        [
            frame.marshal(commands.Basic.Publish(exchange="amq.topic", routing_key="a.b.c", mandatory=True), 1),
            frame.marshal(
                header.ContentHeader(
                    0, 5, commands.Basic.Properties(expiration="10", headers={"CC": ["q"], "x": {"y": [None, True]}})
                ),
                1,
            ),
            frame.marshal(body.ContentBody(b"hello"), 1),
        ]
    ),
    frame.marshal(commands.Channel.Open(), 2),
    b"\x08\0\0\0\0\0\0\xce",
    struct.pack(">BHI", 1, 1, 0xFFFF_FFF0),
    struct.pack(">BHI", 2, 1, 14) + struct.pack(">HHQH", 60, 0, 2**63, 0) + b"\xce",
]
