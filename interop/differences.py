"""The list of differences from RabbitMQ 3.10.8 that are meant to stay. The suite reads it: a test asks
`broker.differs("tune-refusal")` and expects our way only where an entry says so. Nothing else may differ.

An entry that no test asks for any more is named at the end of a run, so that the list cannot rot.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Difference:
    """One difference: what each broker does, why ours stays as it is, and where that can be read."""

    topic: str
    rabbitmq: str
    ours: str
    why: str
    source: str
    series: tuple[str, ...] = ("3.10", "4.0")
    """The RabbitMQs that do so; the others do as we do."""


DIFFERENCES: dict[str, Difference] = {
    difference.topic: difference
    for difference in [
        Difference(
            topic="permission-withdrawn",
            rabbitmq="a channel may go on doing what it has done before, although the permission was withdrawn, until "
            "it has been idle for a while",
            ours="the next operation is refused",
            why="A withdrawn permission is gone at once. RabbitMQ remembers the last twelve checks of each channel.",
            source="rabbit_channel:check_resource_access/4 and its permission_cache; measured, both happen",
        ),
        Difference(
            topic="client-id-in-a-pattern",
            rabbitmq="an MQTT client's identifier that stands for `{client_id}` in a topic permission is a part of the "
            "pattern: a client that calls itself `.*` may use any topic",
            ours="it matches itself and nothing else",
            why="A client chooses its identifier, so it would choose its permissions as well.",
            source="rabbit_auth_backend_internal:expand_topic_permission/2; measured",
        ),
        Difference(
            topic="stomp-error-receipt",
            rabbitmq="an ERROR of STOMP does not say which receipt its frame had asked for",
            ours="it has the header `receipt-id`",
            why="A client that waits for a receipt learns that none will come.",
            source="STOMP 1.2, ERROR: the header should be there; measured",
        ),
        Difference(
            topic="tune-refusal",
            rabbitmq="connection.tune-ok outside the limits: silence, and the socket ends after 3 s; the log says why",
            ours="connection.close 530 `NOT_ALLOWED - negotiated channel_max = 2048 is higher than the maximum allowed "
            "value (2047)` and its kin",
            why="The client learns what is wrong. RabbitMQ has the text and the branch that would send it, "
            "but does not reach it.",
            source="rabbit_reader:fail_negotiation/4 and handle_method0/3 of 3.10.8; measured",
        ),
        Difference(
            topic="amqp-0-8",
            rabbitmq="a protocol header of AMQP 0-8 is answered with connection.start of version 8-0",
            ours="it is answered with the header of 0-9-1, as any version that is not spoken",
            why="No client of 0-8 is left; the method formats differ.",
            source="rabbit_reader:handshake/2",
        ),
        Difference(
            topic="long-start-ok",
            rabbitmq="a connection.start-ok over 4096 bytes is refused in silence",
            ours="up to 8192 bytes are taken",
            why="Tokens (JWT) in the response are often longer than 4096 bytes; RabbitMQ raised the limit for them.",
            source="RabbitMQ's initial_frame_max: 4096 in 3.10.8, 8192 later",
        ),
        Difference(
            topic="undecodable-properties",
            rabbitmq="properties that cannot be decoded crash the channel: connection.close 541 `INTERNAL_ERROR`",
            ours="connection.close 501 `FRAME_ERROR`, which blames basic.publish",
            why="The client sent something malformed; that is its error and not an internal one.",
            source="AMQP 0-9-1 section 4.2; measured on 3.10.8, where rabbit_binary_parser has no matching clause",
        ),
        Difference(
            topic="expired-at-the-head-of-priorities",
            rabbitmq="a message with a TTL that is published to a priority queue in front of others is not expired, "
            "but delivered however late",
            ours="it dies when its time has come, as at the head of any queue",
            why="A TTL promises that a message is not delivered after it; RabbitMQ looks for expired messages after a "
            "publish only where the queue was empty before it.",
            source="rabbit_amqqueue_process:deliver_or_enqueue/3, the optimisation by QLen; measured",
        ),
        Difference(
            topic="crash",
            rabbitmq="wrong arguments of queue.declare that crash the channel's process, connection.close 541 "
            "`INTERNAL_ERROR`: an x-queue-type that does not exist, when the server is to name the queue, and an "
            "x-queue-master-locator that is no text",
            ours="the former is refused with 406 and the usual text; the latter, which means nothing on one machine, "
            "is taken",
            why="A crash is no behaviour to rely on; the client learns what is wrong, and its other channels live on.",
            source="rabbit_amqqueue:declare/6 asks rabbit_queue_type:discover/1 before it checks; found by the fuzzer",
        ),
        Difference(
            topic="cancel-sent-with-its-consume",
            rabbitmq="basic.cancel that is sent without waiting for the consume-ok of its consumer mostly crashes the "
            "channel's process: connection.close 541 `INTERNAL_ERROR`",
            ours="consume-ok, the messages that were there (as many as the prefetch allows), cancel-ok",
            why="A client may send without waiting; each method takes effect before the next.",
            source="rabbit_channel:handle_method/3 of basic.cancel, when the event of consume-ok is still on its way; "
            "measured",
        ),
        Difference(
            topic="methods-sent-with-their-commit",
            rabbitmq="a method that is sent without waiting for the commit-ok before it: connection.close 504 "
            "`CHANNEL_ERROR - unexpected command while processing 'tx.commit'`, when the commit had messages and "
            "its queues have not confirmed them yet",
            ours="it takes effect after the commit",
            why="As above. RabbitMQ's channel does nothing else while it waits for its queues.",
            source="rabbit_channel:handle_method/3 where tx is committing; measured",
        ),
        Difference(
            topic="quorum-global-prefetch",
            rabbitmq="basic.qos with global set, after a consumer of a quorum queue has started: does nothing to it",
            ours="it limits the channel, that consumer included",
            why="A limit that was asked for and not refused is kept. Before the consumer starts, both answer 540.",
            source="rabbit_quorum_queue:consume/3 looks at the limiter once; measured",
        ),
        Difference(
            topic="stream-offset-crash",
            rabbitmq="an x-stream-offset that is text without a unit of time, a boolean, a float or a table: "
            "connection.close 541 `INTERNAL_ERROR`",
            ours="channel.close 406 `invalid arg 'x-stream-offset' for queue 'q' in vhost '/': "
            "{invalid_stream_offset_arg,...}`, as both answer text like `0h`",
            why="A crash of the channel is nothing to imitate; RabbitMQ has the text.",
            source="measured",
        ),
        Difference(
            topic="stream-dead-letters",
            rabbitmq="what dies in a classic queue never arrives in a stream that is its dead-letter target",
            ours="it arrives, as in RabbitMQ 4.0",
            why="It is lost, and RabbitMQ has mended it.",
            source="measured",
            series=("3.10",),
        ),
        Difference(
            topic="single-active-consumer-cancelled",
            rabbitmq="basic.cancel of the single active consumer of a classic queue: the next one gets nothing of what "
            "waits until a message is requeued or acknowledged; a publish crashes the queue",
            ours="the next one gets what waits at once, as when the channel of the active one closes",
            why="Messages that wait while a consumer is ready are the mistake that consumers are there to prevent.",
            source="rabbit_amqqueue_process:handle_call/3 of basic_cancel does not run the queue; measured",
            series=("3.10",),
        ),
        Difference(
            topic="quorum-counts",
            rabbitmq="quorum queues: the consumer_count of queue.declare-ok includes consumers that are gone but have "
            "unacknowledged messages, and each basic.get not settled yet, and of single active consumers only the "
            "active one; the message_count of basic.get-ok includes messages behind it that have expired",
            ours="consumers are counted, and messages that can still be delivered, as for classic queues",
            why="The count is there to tell whether somebody consumes; a client that only holds a message does not.",
            source="rabbit_fifo:query_stat/1, which takes the size of its map of whoever has messages; apply/3 for "
            "#checkout{spec = {dequeue, _}}; measured, and found by the fuzzer",
        ),
        Difference(
            topic="global-prefetch-and-get",
            rabbitmq="basic.qos with global counts what basic.get took before it on the channel, and settling that "
            "does not give the room back: the channel's consumers may wait for ever",
            ours="what basic.get takes does not count",
            why="RabbitMQ's own remark there says that it is not right; basic.get has nothing to do with prefetch.",
            source="rabbit_channel:handle_method/3 for #'basic.qos'{global = true}, notify_limiter/2",
        ),
        Difference(
            topic="quorum-credit",
            rabbitmq="quorum queue with x-delivery-limit, a consumer with a prefetch: each message that dies of the "
            "limit gives its room back twice, and the consumer gets more than its prefetch",
            ours="the prefetch is kept to",
            why="A consumer that asks for one message at a time means it.",
            source="rabbit_fifo:return_one/6 gives credit back by complete/5, and return/6 once more; measured",
            series=("3.10",),
        ),
        Difference(
            topic="quorum-count-when-a-connection-ends",
            rabbitmq="a connection ends that consumes a quorum queue on several channels: what one of them held may be "
            "delivered to another that is about to end as well, and has been delivered once more than anybody saw; "
            "with x-delivery-limit it may die of that",
            ours="all channels of the connection end, and then what they held is delivered again",
            why="A delivery to nobody is no delivery.",
            source="rabbit_reader:terminate_channels/1 ends one process beside the other; found by the fuzzer",
        ),
        Difference(
            topic="redelivered-after-a-kill",
            rabbitmq="after kill -9 all messages of classic queues are marked redelivered, those as well that nobody "
            "had got",
            ours="those are that had been delivered, as after a clean stop; but for what was delivered in the last "
            "10 ms",
            why="Whoever looks for duplicates where the mark is set has less to look for.",
            source="rabbit_variable_queue:init/6 takes all for delivered where a shutdown has left no terms; measured",
        ),
        Difference(
            topic="quorum-refusal-per-channel",
            rabbitmq="quorum queue with reject-publish that has overflowed and is not yet at four fifths of its limit "
            "again: a channel that publishes to it for the first time may, up to one message beyond the limit; those "
            "that were refused before may not",
            ours="nobody may until it is at four fifths",
            why="How full the queue is does not depend on who asks.",
            source="rabbit_fifo:apply/3 for #register_enqueuer{} asks is_over_limit/1 and not what the others were "
            "told; measured",
        ),
        Difference(
            topic="forged-x-death",
            rabbitmq="a header x-death whose array holds something else than tables, or a count that is no number, "
            "crashes the queue in which the message dies: the message is lost, and what is transient there with it",
            ours="the dead letter is sent; what is no table is left out of its history, a count that is no number "
            "starts anew",
            why="A message of one client must not destroy those of others.",
            source="rabbit_dead_letter:group_by_queue_and_reason/1 and increment_xdeath_event_count/1; measured",
            series=("3.10",),
        ),
        Difference(
            topic="long-terms-in-texts",
            rabbitmq="a text with an expiration that is wrong and long: a line break and some eighty spaces in the "
            "middle of the text, and less of the value",
            ours="one line",
            why="It is Erlang's way to print a term over lines of 80 columns. Nobody can match on it, and logs keep "
            "to a line.",
            source="~p in rabbit_channel:check_expiration_header/1; where RabbitMQ prints with ~255p we do the same",
        ),
        Difference(
            topic="direct-reply-in-a-transaction",
            rabbitmq="a direct reply that is published in a transaction is delivered at once, even when that is "
            "rolled back",
            ours="it is delivered at the commit",
            why="A transaction that was rolled back leaves nothing behind.",
            source="rabbit_channel:handle_method/3 of basic.publish routes, and so delivers replies, before the commit",
        ),
        Difference(
            topic="names-that-repeat",
            rabbitmq="of several headers of one name consumers see the first only; a headers exchange looks at the "
            "last, and with x-match any finds each of several in a binding",
            ours="all are kept, and the first counts, as before",
            why="Nobody relies on it; what a client sent comes out as it went in.",
            source="mc_amqpl:protocol_state/2 and routing_headers/2 of 4.0.5; measured",
            series=("4.0",),
        ),
        Difference(
            topic="expiration-as-a-number",
            rabbitmq="the property expiration is delivered as the number that it is: `0060000` comes out as `60000`",
            ours="it is delivered as it came",
            why="What was published is not rewritten without need.",
            source="mc_amqpl:protocol_state/2 of 4.0.5; measured",
            series=("4.0",),
        ),
        Difference(
            topic="unknown-delivery-mode",
            rabbitmq="any delivery mode is taken; what is not 2 is transient",
            ours="406 `invalid message: {delivery_mode_unknown,3}`, as before",
            why="A mistake is told where it is made.",
            source="mc_amqpl:essential_properties/1 of 4.0.5; measured",
            series=("4.0",),
        ),
        Difference(
            topic="numbers-in-headers",
            rabbitmq="a headers exchange tells an integer from a float: 1 is not 1.0",
            ours="1 is 1.0, as before",
            why="A client's language decides which of the two it sends.",
            source="rabbit_exchange_type_headers of 4.0.5; measured",
            series=("4.0",),
        ),
        Difference(
            topic="arguments-of-4",
            rabbitmq="no consumer knows x-cancel-on-ha-failover any more, so it is not checked; of several arguments "
            "that a queue does not know another one is named",
            ours="as 3.10.8 and 3.13",
            why="They mean nothing on one machine; only the texts differ.",
            source="rabbit_classic_queue:capabilities/0 of 4.0.5; measured",
            series=("4.0",),
        ),
        Difference(
            topic="protocols-of-4",
            rabbitmq="a wrong protocol header is answered with that of AMQP 1.0; mechanism ANONYMOUS is offered; "
            "a header of 0-8 ends the connection",
            ours="the header of 0-9-1 answers; a client that wants to log in has a name",
            why="A client of 0-9-1 is told what it speaks; a login without a password is nothing to have by default.",
            source="rabbit_reader:handshake/2 and rabbit_auth_mechanism_anonymous of 4.0.5; measured",
            series=("4.0",),
        ),
        Difference(
            topic="texts-of-4",
            rabbitmq="the limit on a user's channels names the node in place of the user; bytes that are not UTF-8 are "
            "shown as Latin-1",
            ours="the user is named; bytes are shown as they are, as before",
            why="The text is meant to name the user.",
            source="rabbit_reader of 4.0.5; measured",
            series=("4.0",),
        ),
        Difference(
            topic="commit-to-a-queue-that-is-gone",
            rabbitmq="tx.commit of a message to a queue that was deleted meanwhile: 406 `partial tx completion`",
            ours="what is mandatory is returned and the rest committed, as before",
            why="The client learns of each message what became of it.",
            source="rabbit_channel of 4.0.5; measured",
            series=("4.0",),
        ),
        Difference(
            topic="priority-of-0-at-most",
            rabbitmq="x-max-priority 0 makes a queue with the two priorities 0 and 1",
            ours="it makes a queue without priorities, as before",
            why="Nobody asks for it.",
            source="rabbit_priority_queue of 4.0.5; measured",
            series=("4.0",),
        ),
        Difference(
            topic="qos-of-what-is-not-persistent",
            rabbitmq="a message of AMQP or STOMP comes to MQTT with QoS 1, persistent or not",
            ours="with QoS 0 where it is not persistent",
            why="What need not outlive a restart need not be acknowledged. RabbitMQ does so since 3.13.",
            source="rabbit_mqtt_processor of 3.10.8; measured",
            series=("3.10",),
        ),
        Difference(
            topic="reserved-annotations",
            rabbitmq="a message of AMQP 1.0 with an annotation whose key is reserved ends its session with "
            "amqp:internal-error, a term of Erlang, and where in the source that was",
            ours="with amqp:decode-error, and the key",
            why="The mistake is the client's. RabbitMQ says decode-error from 4.3 on.",
            source="amqp10_framing:decode_annotations/1 of 4.0.5; measured",
            series=("4.0",),
        ),
        Difference(
            topic="amqp10-management-refusals",
            rabbitmq="a request over AMQP 1.0's management links for what the client may not do ends its session",
            ours="it is answered with 403, as the HTTP API answers it",
            why="A request is answered, and what else the session does goes on.",
            source="rabbit_amqp_management:handle_request/5 of 4.0.5; measured",
            series=("4.0",),
        ),
        Difference(
            topic="dynamic-nodes",
            rabbitmq="a source or target of AMQP 1.0 that is dynamic ends its session with amqp:not-implemented",
            ours="it is an exclusive queue, whose address is told, and which goes with its link",
            why="Who asks for an answer wants a place for it. RabbitMQ has them from 4.1 on.",
            source="rabbit_amqp_session:handle_attach of 4.0.5, and its pull request 13231; measured",
            series=("4.0",),
        ),
        Difference(
            topic="filters-in-force",
            rabbitmq="attach of AMQP 1.0 is answered with all filters that were asked for, whatever becomes of them",
            ours="with those that are applied",
            why="AMQP 1.0, 3.5.3: the sending end says which filters are in place. RabbitMQ does so from 4.1 on.",
            source="rabbit_amqp_session:handle_attach/2 of 4.0.5; measured",
            series=("4.0",),
        ),
        Difference(
            topic="exclusive-and-durable",
            rabbitmq="an exclusive queue that is declared over AMQP 1.0's management links is told to be durable",
            ours="it is told not to be, as over all other ways",
            why="It goes with its connection. RabbitMQ takes it as transient where AMQP 0-9-1 declares it.",
            source="rabbit_amqp_management:handle_http_req/8 of 4.0.5; measured",
            series=("4.0",),
        ),
        Difference(
            topic="property-filters",
            rabbitmq="filters of a stream by properties of AMQP 1.0's messages are passed over",
            ours="they are applied",
            why="Who asks for some entries wants no others. RabbitMQ has these filters from 4.1 on.",
            source="rabbit_amqp_session:parse_filters/2 of 4.0.5; measured",
            series=("4.0",),
        ),
        Difference(
            topic="stream-renewal-refused",
            rabbitmq="a client of the stream protocol whose new credentials are refused goes on with the old ones",
            ours="the connection ends behind the answer",
            why="Who cannot say who it is, or says to be somebody else, is not whom the old credentials were given.",
            source="rabbit_stream_reader:handle_frame_post_auth/4 of 4.0.5; measured",
            series=("4.0",),
        ),
        Difference(
            topic="compressed-sub-batches",
            rabbitmq="a compressed sub-batch of a stream is left out for consumers of other protocols",
            ours="its messages come, where it is compressed with gzip",
            why="A message that was confirmed is not kept from a consumer that can have it.",
            source="rabbit_stream_queue:stream_entries/5 of 4.0.5; measured",
            series=("4.0",),
        ),
        Difference(
            topic="types-of-modified",
            rabbitmq="of the annotations that a client of AMQP 1.0 gives with the outcome modified, numbers and times "
            "become longs, symbols and bytes strings; a float or null ends each session that the message is sent to",
            ours="they arrive as they were said, on a message that AMQP 1.0 has brought with sections of its own",
            why="What a client says of a message is for others to read; a message that ends sessions harms them.",
            source="rabbit_amqp_session:settle_op_from_outcome/1 and mc_util:infer_type/1 of 4.0.5; measured",
            series=("4.0",),
        ),
        Difference(
            topic="protocol-of-events",
            rabbitmq="the event exchange calls AMQP 1.0 `{1,0}`",
            ours="`AMQP 1.0` where somebody logs in, and `AMQP 1-0` in a connection's events, as the HTTP API",
            why="A term of Erlang is no name.",
            source="rabbit_amqp_reader of 4.0.5; measured",
            series=("4.0",),
        ),
        Difference(
            topic="flow-before-begin",
            rabbitmq="a flow with 0 as next-incoming-id and delivery-count, from a client that has heard neither begin "
            "nor attach yet, ends the session: window-violation",
            ours="it is taken as long as nothing has gone out",
            why="Both should not be set then (AMQP 1.0, 2.7.4), but rhea (npm) sets them to 0 where a program opens a "
            "receiver and adds credit in one go.",
            source="rabbit_amqp_session:handle_flow of 4.0.5; measured",
            series=("4.0",),
        ),
        Difference(
            topic="session-numbers",
            rabbitmq="the firehose calls the first session of a connection of AMQP 1.0 channel 0",
            ours="channel 1",
            why="Sessions are listed as channels, whose numbers begin with 1.",
            source="rabbit_amqp_session:init/1 of 4.0.5; measured",
            series=("4.0",),
        ),
        Difference(
            topic="expiry-between-protocols",
            rabbitmq="an MQTT 5 client is not told when a message of another protocol expires, nor one of "
            "AMQP 1.0 when one of MQTT does",
            ours="they get the rest of its time as Message Expiry Interval, and its ttl",
            why="MQTT 5.0, 3.3.2.3.3: who gets a message that expires is told how long it still counts.",
            source="mc_mqtt of 4.0.5; measured",
            series=("4.0",),
        ),
        Difference(
            topic="correlation-of-mqtt",
            rabbitmq="MQTT 5's Correlation Data is bytes in AMQP 1.0's correlation-id",
            ours="it is a string where it is UTF-8, of 255 bytes at most, as in AMQP 0-9-1",
            why="It is kept as a message's correlation_id, which clients of all other protocols see as text.",
            source="mc_mqtt of 4.0.5; measured",
            series=("4.0",),
        ),
        Difference(
            topic="headers-that-stomp-cannot-say",
            rabbitmq="a header of AMQP whose text is not UTF-8, which has no name, or the name of one of MESSAGE's, "
            "stands in the frame",
            ours="it is left out",
            why="A header is UTF-8 (STOMP 1.2). A client that cannot read a frame ends, and gets the same one again.",
            source="rabbit_stomp_util:message_headers/1 of 3.10.8; measured",
        ),
    ]
}
