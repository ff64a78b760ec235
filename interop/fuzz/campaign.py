"""Plays programs on both brokers, compares, and shortens what differs to something a person can read.

Not here: how a program is made (generate.py) and played (player.py).
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import zip_longest

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings

from interop.brokers import BrokerProcess
from interop.codec import plain
from interop.differences import DIFFERENCES
from interop.fuzz.generate import programs
from interop.fuzz.player import LAST_REPLY_TO, Player
from interop.fuzz.program import Operation, Program, program_text
from interop.fuzz.replay import played_lines
from interop.raw_client import Queue, Tx

REPLAYS = 4
"""How often a difference is looked at again before it counts: RabbitMQ may be of two minds about a program."""


@dataclass(frozen=True)
class Difference:
    """Where the two transcripts of a program part."""

    step: int
    operation: Operation
    rabbitmq: str
    ours: str

    @property
    def signature(self) -> tuple[str, str, str]:
        """The same for two programs that very likely show the same difference: the words that only one broker says."""
        rabbitmq, ours = _words(self.rabbitmq), _words(self.ours)
        return (self.operation.name, " ".join(sorted(rabbitmq - ours)), " ".join(sorted(ours - rabbitmq)))


@dataclass
class Finding:
    """A shortened program and what each broker makes of it."""

    program: Program
    difference: Difference
    rabbitmq: list[str]
    ours: list[str]


class Side:
    """One broker of the two, which is started anew when a program has ended it or made it useless."""

    def __init__(self, start: Callable[[], BrokerProcess]) -> None:
        self._start = start
        self._begin()

    def _begin(self) -> None:
        self._process = self._start()
        try:
            self._player = Player(self._process)
        except BaseException:
            self._process.stop()
            raise

    def play(self, program: Program) -> list[str]:
        """What came, a text an operation; a single text when the broker did not survive the program."""
        try:
            return self._player.play(program)
        except Exception as error:
            self.close()
            self._begin()
            return [f"the broker failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"]

    def close(self) -> None:
        """Ends the broker."""
        self._player.close()
        self._process.stop()


@dataclass
class Campaign:
    """Two brokers, and what was found so far."""

    rabbitmq: Side
    ours: Side
    say: Callable[[str], None] = print
    played: int = 0
    operations: int = 0
    on_purpose: Counter[str] = field(default_factory=Counter)
    undecided: int = 0
    repeated: int = 0
    findings: list[Finding] = field(default_factory=list)
    _signatures: set[tuple[str, str, str]] = field(default_factory=set)

    def run(self, first_seed: int, program_count: int, operation_count: int, seconds: float) -> None:
        """Plays programs until there have been as many as asked, or the time is up."""
        deadline = time.monotonic() + seconds
        batch_seed = first_seed
        while self.played < program_count and time.monotonic() < deadline:
            batch = min(program_count - self.played, 100)
            for program in generated(batch_seed, batch, operation_count):
                self._try(program)
                if time.monotonic() > deadline:
                    break
            batch_seed += 1
            self.say(f"{self.played} programs played, {len(self.findings)} differences")

    def _try(self, program: Program) -> None:
        self.played += 1
        self.operations += len(program)
        difference = self.difference(program)
        if difference is None:
            return
        if not self._is_steady(program, difference):
            self.undecided += 1
            return
        if difference.signature in self._signatures:
            self.repeated += 1
            return
        self._signatures.add(difference.signature)
        short = shortened(program, lambda each: self._still_differs(each, difference))
        found = self.difference(short) or difference
        self._signatures.add(found.signature)
        finding = Finding(short, found, self.rabbitmq.play(short), self.ours.play(short))
        self.findings.append(finding)
        self.say(finding_text(finding, len(self.findings)))

    def difference(self, program: Program) -> Difference | None:
        """The first place where the brokers do not do the same, unless it is meant to be so."""
        rabbitmq, ours = self.rabbitmq.play(program), self.ours.play(program)
        topics = set()
        for step, (theirs, our) in enumerate(zip_longest(rabbitmq, ours, fillvalue="(not played)")):
            if theirs == our:
                continue
            topic = purpose_of(program[: step + 1], theirs, our)
            if topic is None:
                return Difference(step, program[step], theirs, our)
            topics.add(topic)
            if topic not in WITHOUT_CONSEQUENCES:
                break  # from here on the two are in different states
        self.on_purpose.update(topics)
        return None

    def _is_steady(self, program: Program, difference: Difference) -> bool:
        """Whether both brokers do each time what they did the first time."""
        upto = program[: difference.step + 1]
        return all(self.difference(upto) == difference for _ in range(REPLAYS))

    def _still_differs(self, program: Program, difference: Difference) -> bool:
        now = self.difference(program)
        return now is not None and now.operation.name == difference.operation.name and self.difference(program) == now


def shortened(program: Program, differs: Callable[[Program], bool]) -> Program:
    """The program without what it does not need to differ: operations first, then fields, then keys of tables.

    Not by Hypothesis: it shortens the choices a program was made of, and an operation taken out moves all that follow.
    """
    size = len(program) // 2
    while size:
        start = 0
        while start < len(program):
            shorter = program[:start] + program[start + size :]
            if shorter and differs(shorter):
                program = shorter
            else:
                start += size
        size //= 2
    for index in reversed(range(len(program))):
        for operation in _plainer(program[index]):
            plainer = [*program[:index], operation, *program[index + 1 :]]
            if differs(plainer):
                return shortened(plainer, differs)
    return program


def _plainer(operation: Operation) -> Iterator[Operation]:
    """The operation with one thing less."""
    if operation.channel:
        yield operation._replace(channel=0)
    for name, value in operation.fields.items():
        if name in ("routing_key", "exchange_type", "consumer_tag", "reply_code", "reply_text", "body", "delivery"):
            continue
        if isinstance(value, dict):
            for inner in value:
                without = {key: item for key, item in value.items() if key != inner}
                yield operation._replace(fields={**operation.fields, name: without})
                if isinstance(value[inner], dict):
                    yield from (
                        operation._replace(fields={**operation.fields, name: {**value, inner: plainer}})
                        for plainer in ({k: v for k, v in value[inner].items() if k != key} for key in value[inner])
                    )
        if not value or isinstance(value, bool):
            yield operation._replace(fields={key: item for key, item in operation.fields.items() if key != name})


WITHOUT_CONSEQUENCES = {"quorum-counts"}
"""Topics of the list after which the two brokers are still in the same state, so that the comparison goes on."""

_QUEUE_TYPES = ("classic", "quorum", "stream")


def purpose_of(program: Program, rabbitmq: str, ours: str) -> str | None:
    """The topic of the list of differences under which this one falls, or None. The program ends where they differ."""
    operation = program[-1]
    if "reply_code=541" in rabbitmq and "reply_code=541" not in ours and _crashes_rabbitmq(operation):
        topic = "crash"
    elif _are_quorum_counts(program, rabbitmq, ours):
        topic = "quorum-counts"
    elif "end of the connection" in rabbitmq and _uncounted(rabbitmq) == _uncounted(ours):
        topic = "quorum-count-when-a-connection-ends"
    elif operation.fields.get("routing_key") == LAST_REPLY_TO and _is_transactional(program):
        topic = "direct-reply-in-a-transaction"
    else:
        return None
    return DIFFERENCES[topic].topic


def _crashes_rabbitmq(operation: Operation) -> bool:
    """Whether it is a declaration of those that the list names under crash."""
    if operation.method is not Queue.Declare:
        return False
    arguments = operation.fields.get("arguments", {})
    has_unknown_type = "x-queue-type" in arguments and plain(arguments["x-queue-type"]) not in _QUEUE_TYPES
    has_wrong_locator = not isinstance(plain(arguments.get("x-queue-master-locator", "")), str)
    return has_wrong_locator or (has_unknown_type and not operation.fields.get("queue"))


def _are_quorum_counts(program: Program, rabbitmq: str, ours: str) -> bool:
    """Whether all that differs is what a declaration or a get of a quorum queue counts: consumers, or what expired."""
    theirs, our = rabbitmq.splitlines(), ours.splitlines()
    if len(theirs) != len(our) or not _concerns_quorum_queue(program):
        return False
    return all(
        before == after
        or _without(before, "Queue.DeclareOk", "consumer_count") == _without(after, "Queue.DeclareOk", "consumer_count")
        or (
            _may_expire(program)
            and _without(before, "Basic.GetOk", "message_count") == _without(after, "Basic.GetOk", "message_count")
        )
        for before, after in zip(theirs, our, strict=True)
    )


def _without(line: str, method: str, count: str) -> str:
    return re.sub(rf"{count}=\d+", "", line) if method in line else line


def _uncounted(text: str) -> str:
    """What came, without the numbers of earlier deliveries that quorum queues put into it."""
    return re.sub(r"x-delivery-count: \('l', \d+\)|x-delivery-count: l:\d+", "", text)


def _concerns_quorum_queue(program: Program) -> bool:
    """Whether the last operation asks about a queue that was last declared as a quorum queue."""
    name = program[-1].fields.get("queue", "")
    declared = [each for each in program if each.method is Queue.Declare and not each.fields.get("passive")]
    return any(
        each.fields.get("arguments", {}).get("x-queue-type") == "quorum"
        for each in declared
        if each.fields.get("queue") == name or not name
    )


def _may_expire(program: Program) -> bool:
    return any(
        "expiration" in operation.fields.get("properties", {})
        or "x-message-ttl" in operation.fields.get("arguments", {})
        for operation in program
    )


def _is_transactional(program: Program) -> bool:
    return any(each.method is Tx.Select and each.channel == program[-1].channel for each in program)


def finding_text(finding: Finding, number: int) -> str:
    """A finding as a test that can be put into a file, and what our broker did instead."""
    name = re.sub(r"\W+", "_", finding.difference.operation.name.lower())
    lines = [
        f"def test_{name}_{number}(broker: BrokerUnderTest) -> None:",
        "    assert_plays(",
        "        broker,",
        "        [",
        program_text(finding.program, " " * 12).rstrip("\n"),
        "        ],",
        '        r"""',
        *(f"        {line}" for line in played_lines(finding.rabbitmq)),
        '        """,',
        "    )",
        "",
        f"# ours, at operation {finding.difference.step}:",
        *(f"#   {line}" for line in finding.difference.ours.splitlines() or ["nothing"]),
        "# RabbitMQ:",
        *(f"#   {line}" for line in finding.difference.rabbitmq.splitlines() or ["nothing"]),
    ]
    return "\n".join(lines) + "\n"


def _words(text: str) -> Counter[str]:
    """The words of what came, without names and numbers."""
    return Counter(re.sub(r"'[^' ]*'|\d+", "#", text).split())


def generated(batch_seed: int, count: int, operations: int) -> Iterator[Program]:
    """Programs, the same ones for the same seed. Hypothesis has no generator, so they are made in one go."""
    made: list[Program] = []

    @seed(batch_seed)
    @settings(
        max_examples=count, deadline=None, database=None, phases=[Phase.generate], verbosity=Verbosity.quiet,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(programs(operations))
    def gather(program: Program) -> None:
        made.append(program)

    gather()
    return iter(made)
