"""Two recordings of one script, held against each other.

Only what AMQP puts in an order is compared in that order: for each connection and channel, the replies and returns; for
each consumer, what came for it; confirms as the set of what was confirmed and what was refused. Whether a delivery
comes before or after another consumer's, or before or after a confirm, is a broker's own business.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest

from amqp_broker.cli.recording.proxy import Recording
from amqp_broker.cli.recording.transcript import BROKER, CLIENT, ConnectionTranscript, Entry

_CONTEXT_LINES = 6

Place = tuple[int, int, str]
"""A connection's number, a channel, and a consumer tag, or what else the order is kept of."""


@dataclass(frozen=True)
class Difference:
    """The first place where two recordings part."""

    where: str
    first: str
    second: str
    context: list[str]
    """What was said on the channel just before, on the first broker."""


@dataclass(frozen=True)
class _Seen:
    """An item that is compared: where it stands in the whole recording, and its text."""

    position: int
    text: str


def first_difference(first: Recording, second: Recording) -> Difference | None:
    """What a reader should look at first, or None when the script saw the same of both."""
    ours, theirs = _streams(first), _streams(second)
    found: list[tuple[int, Place, str, str]] = []
    for place in [*ours, *(each for each in theirs if each not in ours)]:
        for one, other in zip_longest(ours.get(place, []), theirs.get(place, [])):
            if one is None or other is None or one.text != other.text:
                position = min(each.position for each in (one, other) if each is not None)
                found.append((position, place, one.text if one else "nothing", other.text if other else "nothing"))
                break
    if found:
        position, place, one_text, other_text = min(found)
        return Difference(_place_text(place), one_text, other_text, _context(first, place, position))
    if first.exit_code != second.exit_code:
        return Difference("the script's end", _end_text(first), _end_text(second), first.output.splitlines()[-5:])
    return None


def summary(recording: Recording) -> str:
    """One line: how many of what came."""
    names = Counter(entry.name for each in recording.connections for entry in each.entries if entry.direction == BROKER)
    counts = ", ".join(f"{count} {name}" for name, count in names.most_common())
    return f"{len(recording.connections)} connections, {_end_text(recording)}; {counts or 'nothing came'}"


def broker_names(first: Recording, second: Recording) -> tuple[str, str]:
    """What each broker calls itself, and where it is; with the number of the run where that is one broker."""
    one, other = (f"{_broker_name(recording)} at {recording.address}" for recording in (first, second))
    return (one, other) if one != other else (f"{one}, first run", f"{other}, second run")


def why_nothing_was_compared(first: Recording, second: Recording) -> str | None:
    """Why two recordings that do not differ say nothing about the brokers; None when they do say something."""
    if not first.connections and not second.connections:
        return "the script opened no connection: let pika connect, or connect to AMQP_URL of its environment"
    if first.exit_code and second.exit_code:
        return f"the script failed on both, with exit code {first.exit_code}: see what it printed, and correct it"
    return None


def _broker_name(recording: Recording) -> str:
    return next((each.broker for each in recording.connections if each.broker), "no broker that spoke")


def _end_text(recording: Recording) -> str:
    if recording.exit_code is None:
        return "the script did not end in time"
    return f"the script ended with exit code {recording.exit_code}"


def _streams(recording: Recording) -> dict[Place, list[_Seen]]:
    streams: dict[Place, list[_Seen]] = {}
    start = 0
    for number, connection in enumerate(recording.connections, 1):
        for place, position, text in _placed(number, connection):
            streams.setdefault(place, []).append(_Seen(start + position, text))
        start += len(connection.entries)
    return streams


def _placed(number: int, connection: ConnectionTranscript) -> Iterator[tuple[Place, int, str]]:
    consumers = {
        (entry.channel, entry.fields["consumer_tag"]) for entry in connection.entries if entry.name == "Basic.ConsumeOk"
    }
    consumer_counts = Counter(channel for channel, _ in consumers)
    confirms: dict[int, list[tuple[int, Entry]]] = {}
    for position, entry in enumerate(connection.entries):
        fields, group = entry.fields, "replies"
        if entry.direction == CLIENT:
            if entry.name in _ANSWERS_TO_CHANCE:
                continue
            group = "sent"
        elif entry.name in ("Basic.Ack", "Basic.Nack"):
            confirms.setdefault(entry.channel, []).append((position, entry))
            continue
        elif "consumer_tag" in fields:
            group = f"consumer {fields['consumer_tag']}"
            if consumer_counts[entry.channel] > 1:  # the tags depend on whose message came first
                fields = {name: value for name, value in fields.items() if name != "delivery_tag"}
        yield (number, entry.channel, group), position, str(entry._replace(fields=fields))
    for channel, entries in confirms.items():
        yield from _confirmed(number, channel, entries)


# What a client says when something came, at a moment and with a tag that depend on the order in which it came.
_ANSWERS_TO_CHANCE = {"Basic.Ack", "Basic.Nack", "Basic.Reject", "end"}


def _confirmed(number: int, channel: int, entries: list[tuple[int, Entry]]) -> Iterator[tuple[Place, int, str]]:
    settled: dict[int, tuple[int, str]] = {}
    for position, entry in entries:
        last = int(entry.fields["delivery_tag"])
        first = max(settled, default=0) + 1 if entry.fields["multiple"] == "True" else last
        for tag in range(min(first, last), last + 1):
            settled.setdefault(tag, (position, entry.name))
    for tag, (position, name) in sorted(settled.items()):
        verdict = "confirmed" if name == "Basic.Ack" else "refused"
        yield (number, channel, "confirms"), position, f"{BROKER} {channel} message {tag} {verdict}"


def _place_text(place: Place) -> str:
    number, channel, group = place
    return f"connection {number}, channel {channel}, {group}"


def _context(recording: Recording, place: Place, position: int) -> list[str]:
    number, channel, _ = place
    if number > len(recording.connections):
        return []
    start = sum(len(each.entries) for each in recording.connections[: number - 1])
    before = recording.connections[number - 1].entries[: max(0, position - start)]
    return [str(entry) for entry in before if entry.channel == channel][-_CONTEXT_LINES:]
