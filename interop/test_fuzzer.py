"""The fuzzer itself, without a broker: what it makes is repeatable, and what it shortens still shows what it showed."""

from __future__ import annotations

from interop.fuzz.campaign import Difference, generated, purpose_of, shortened
from interop.fuzz.program import Program, op
from interop.raw_client import Basic, Exchange, Queue


def test_the_same_seed_makes_the_same_programs() -> None:
    first, again, other = (list(generated(seed, 3, 40)) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert all(len(program) == 40 for program in first)


def test_every_message_of_a_program_has_a_body_of_its_own() -> None:
    for program in generated(1, 20, 40):
        bodies = [operation.fields["body"] for operation in program if operation.method is Basic.Publish]
        assert len(set(bodies)) == len(bodies)


def test_what_is_shortened_keeps_only_what_it_needs() -> None:
    def differs(program: Program) -> bool:
        names = [operation.name for operation in program]
        durable = any(operation.fields.get("arguments", {}).get("x-max-length") for operation in program)
        return names.count("Basic.Get") >= 2 and durable

    declare = op(3, Queue.Declare, queue="q0", durable=True, arguments={"x-max-length": 1, "x-expires": 1000})
    get = op(1, Basic.Get, queue="q0", no_ack=True)
    noise = op(0, Exchange.Declare, exchange="x0", exchange_type="direct")
    short = shortened([noise, declare, *[noise] * 10, get, get, noise, get, noise], differs)
    assert short == [
        op(0, Queue.Declare, queue="q0", arguments={"x-max-length": 1}),
        op(0, Basic.Get, queue="q0"),
        op(0, Basic.Get, queue="q0"),
    ]


def test_a_difference_is_known_again_whatever_the_names() -> None:
    first = Difference(
        3, op(0, Basic.Get, queue="q0"), "< 0 Basic.GetOk routing_key='q0' priority=1", "< 0 Basic.GetEmpty"
    )
    second = Difference(
        7, op(1, Basic.Get, queue="q1"), "< 1 Basic.GetOk routing_key='q1' priority=5", "< 1 Basic.GetEmpty"
    )
    third = Difference(
        7, op(1, Basic.Get, queue="q1"), "< 1 Basic.GetEmpty", "< 1 Basic.GetOk routing_key='q1' priority=5"
    )
    assert first.signature == second.signature != third.signature


def test_only_listed_differences_are_on_purpose() -> None:
    declare = op(0, Queue.Declare, queue="", arguments={"x-queue-type": "y"})
    theirs = "< 0 Connection.Close reply_code=541 reply_text='INTERNAL_ERROR'"
    ours = "< 0 Channel.Close reply_code=406"
    assert purpose_of([declare], theirs, ours) == "crash"
    assert purpose_of([declare], theirs, theirs.replace("< 0", "< 1")) is None


def test_only_a_quorum_queue_may_count_otherwise() -> None:
    counts = (
        "< 0 Queue.DeclareOk message_count=2 consumer_count=1",
        "< 0 Queue.DeclareOk message_count=2 consumer_count=0",
    )
    classic = op(0, Queue.Declare, queue="q0")
    quorum = op(0, Queue.Declare, queue="q1", arguments={"x-queue-type": "quorum"})
    assert purpose_of([classic], *counts) is None
    assert purpose_of([quorum, classic], *counts) is None
    assert purpose_of([classic, quorum], *counts) == "quorum-counts"
    messages = (
        "< 0 Queue.DeclareOk message_count=2 consumer_count=1",
        "< 0 Queue.DeclareOk message_count=1 consumer_count=1",
    )
    assert purpose_of([classic, quorum], *messages) is None


def test_what_get_counts_in_a_quorum_queue_where_something_may_have_expired() -> None:
    quorum = op(0, Queue.Declare, queue="q1", arguments={"x-queue-type": "quorum"})
    get = op(0, Basic.Get, queue="q1")
    counts = ("< 0 Basic.GetOk message_count=2", "< 0 Basic.GetOk message_count=1")
    assert purpose_of([quorum, get], *counts) is None
    publish = op(0, Basic.Publish, routing_key="q1", properties={"expiration": "0"})
    assert purpose_of([quorum, publish, get], *counts) == "quorum-counts"
    assert purpose_of([quorum, publish, op(0, Basic.Get, queue="q0")], *counts) is None


def test_only_listed_crashes_are_on_purpose() -> None:
    texts = ("< 0 Connection.Close reply_code=541 reply_text='INTERNAL_ERROR'", "< 0 Queue.DeclareOk")
    assert purpose_of([op(0, Queue.Declare, queue="", arguments={"x-queue-type": "other"})], *texts) == "crash"
    assert purpose_of([op(0, Queue.Declare, queue="q0", arguments={"x-queue-type": "other"})], *texts) is None
    assert purpose_of([op(0, Queue.Declare, queue="q0", arguments={"x-queue-master-locator": 1})], *texts) == "crash"
    assert purpose_of([op(0, Basic.Get, queue="q0")], *texts) is None
