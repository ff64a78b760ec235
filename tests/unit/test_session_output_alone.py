"""The output of a connection by itself: the mark, half of it, and what waits for the journal."""

from __future__ import annotations

from collections.abc import Callable

from amqp_broker.session.output import Output


class Listener:
    """An output, what it said, and a journal that has kept as much as the test says."""

    def __init__(self) -> None:
        self.kept_up_to = 0
        self.said: list[str] = []
        self.awaiting_commit: dict[Callable[[], None], None] = {}
        self.output = Output(
            100,
            lambda position: position <= self.kept_up_to,
            self.awaiting_commit,
            on_output=lambda: self.said.append("output"),
            on_congestion=lambda: self.said.append("congestion"),
            on_unheld=lambda: self.said.append("unheld"),
        )

    def commit(self, position: int) -> None:
        self.kept_up_to = position
        for go_on in list(self.awaiting_commit):
            go_on()


def test_it_is_congested_above_the_mark_until_half_of_it_is_left() -> None:
    one = Listener()
    one.output.send(b"x" * 100)
    assert not one.output.is_congested
    one.output.send(b"x")
    assert one.output.is_congested
    one.output.take()
    one.output.sent(50)
    assert one.output.is_congested
    one.output.sent(1)
    assert not one.output.is_congested
    assert one.said == ["output", "congestion", "congestion"]
    assert (one.output.waiting_bytes, one.output.sent_bytes) == (50, 51)


def test_who_waits_for_room_goes_on_once() -> None:
    one = Listener()
    one.output.wait_for_room(lambda: one.said.append("went on"))
    one.output.tell_room()
    one.output.tell_room()
    assert one.said == ["went on"]


def test_what_is_said_behind_a_hold_waits_for_its_position() -> None:
    one = Listener()
    one.output.send(b"1")
    one.output.hold_until(5)
    one.output.send(b"2")
    one.output.hold_until(9)
    one.output.send(b"3")
    assert one.output.take() == [b"1"]
    assert one.output.take() == []
    one.commit(5)
    assert one.output.take() == [b"2"]
    assert one.output.is_held
    one.said.clear()
    one.commit(9)
    assert not one.output.is_held
    assert one.said == ["unheld", "output"]
    assert one.output.take() == [b"3"]
    assert not one.awaiting_commit


def test_a_position_that_is_kept_holds_nothing() -> None:
    one = Listener()
    one.kept_up_to = 5
    one.output.hold_until(5)
    one.output.send(b"1")
    assert one.output.take() == [b"1"]


def test_what_is_discarded_waits_for_nothing() -> None:
    one = Listener()
    one.output.hold_until(5)
    one.output.send(b"1")
    one.output.discard()
    assert not one.awaiting_commit
    assert one.output.take() == []
