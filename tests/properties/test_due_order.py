"""What is due when, against a sorted list."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amqp_broker.broker.delayed import due_order
from amqp_broker.broker.delayed.due_order import DueOrder
from tests.support.examples import examples


@pytest.fixture(autouse=True, scope="module")
def small_chunks() -> Iterator[None]:
    """So that few entries are several chunks."""
    before, due_order.CHUNK_MAX = due_order.CHUNK_MAX, 4
    yield
    due_order.CHUNK_MAX = before


@settings(max_examples=examples(200), deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["add", "add", "again", "remove", "remove first"]), st.integers(-5, 20))))
def test_it_is_a_sorted_list(steps: list[tuple[str, int]]) -> None:
    order, model, reference = DueOrder(), list[tuple[int, int]](), 0
    for step, value in steps:
        if step == "add":
            reference += 1
            order.add(value, reference)
            model.append((value, reference))
            model.sort(key=lambda entry: entry[0])
        elif model and step == "again":  # as what is let go early: a smaller reference comes behind a greater
            entry = model.pop(value % len(model))
            assert order.remove(*entry)
            order.add(value, entry[1])
            model.append((value, entry[1]))
            model.sort(key=lambda entry: entry[0])
        elif model and step == "remove":
            entry = model.pop(value % len(model))
            assert order.remove(*entry)
            assert not order.remove(*entry)
        elif model:
            assert (order.first_due_ms, order.first_reference) == model.pop(0)
            order.remove_first()
        assert list(order.entries()) == model
        assert len(order) == len(model)
        assert order.first_due_ms == (model[0][0] if model else None)
        for due_ms, after in [(value, reference // 2), *model[:3]]:
            assert list(order.entries(due_ms, after)) == [one for one in model if one > (due_ms, after)]
