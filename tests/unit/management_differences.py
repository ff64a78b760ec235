"""Where our HTTP API answers otherwise than RabbitMQ 3.10.8 on purpose; by the number of the request.

The numbers are those of ``tests/support/rabbitmq_http_answers.json``, from 0. Does not hold the answers. For people the
list stands in docs/management.md; after a change ``python -m tests.unit.test_management_table`` writes it there.
"""

from __future__ import annotations

REASONS: list[tuple[str, set[int]]] = [
    (
        "RabbitMQ answers 500 to what it did not expect; ours says what is wrong with 400 or 404, or does it",
        {25, 56, 71, 73, 80, 85, 96, 106, 156, 227, 291},
    ),
    (
        "what there is none of is an empty object in ours, where Erlang has an empty list",
        {100, 101, 102, 108, 110, 111, 284},
    ),
    (
        "every field is always there in ours, so a column that RabbitMQ cannot tell yet is one: {} or the rate 0.0",
        {298, 299, 300},
    ),
    ("passwords that are set here are hashed with scrypt", {224, 226, 228, 235}),
    ("a hash of a kind that nobody can compare with is refused, so that nobody is locked out by it", {231, 232}),
    ("several users are deleted all or not at all; RabbitMQ has deleted one before it refuses the other", {292, 295}),
    ("a pattern is refused in our own words, in place of a list of character codes", {237, 247}),
    ("a virtual host shows its default queue type, as RabbitMQ 4 does", {254}),
    ("a default queue type that there is not is refused, as RabbitMQ 4 refuses it", {257}),
    ("keys and values that RabbitMQ 3.13 or 4 knows are taken, so that what those export can be read", {142, 147, 167}),
    ("a limit below nought is none, and not shown", {196}),
    ("an address of a broker that is none is told in our own words", {175}),
    ("the event exchange is there only where it was asked for", {288}),
    ("RabbitMQ lists its own types of exchanges, versions and sums of another time", {10}),
]

DIFFERENCES: set[int] = set().union(*(numbers for _, numbers in REASONS))
