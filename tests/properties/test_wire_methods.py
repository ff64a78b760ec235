"""Every method, both ways, against pamqp's own codec and against itself."""

from __future__ import annotations

import contextlib
from typing import Any

import pamqp.frame
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amqp_broker.errors import AmqpError
from amqp_broker.wire.errors import WireError
from amqp_broker.wire.frames import METHOD, encode_frame
from amqp_broker.wire.methods import METHOD_CLASSES, Access, Method, build, decode_method, encode_method
from tests.properties.wire_strategies import as_pamqp, fields_of, pamqp_fields_of, typed
from tests.support.examples import examples

CLASSES = sorted(METHOD_CLASSES.values(), key=lambda method_class: method_class.index)
PAMQP_CLASSES = [one for one in CLASSES if one not in (Access.Request, Access.RequestOk)]

every_class = pytest.mark.parametrize("method_class", CLASSES, ids=lambda one: one.name)
# pamqp warns whenever it makes a deprecated method.
pytestmark = pytest.mark.filterwarnings("ignore:This command is deprecated:DeprecationWarning")

every_pamqp_class = pytest.mark.parametrize("method_class", PAMQP_CLASSES, ids=lambda one: one.name)
few = settings(max_examples=examples(20))


def values(method: Method) -> dict[str, Any]:
    return {name: getattr(method, name) for name in method.__slots__}


@every_class
@few
@given(st.data())
def test_any_utf8_and_any_types_come_back(method_class: type[Method], data: st.DataObject) -> None:
    fields = data.draw(fields_of(method_class))
    payload = encode_method(build(method_class, **fields))
    decoded = decode_method(payload)
    assert type(decoded) is method_class
    assert {name: typed(value) for name, value in values(decoded).items()} == {
        name: typed(value) for name, value in fields.items()
    }
    assert encode_method(decoded) == payload


@every_pamqp_class
@few
@given(st.data())
def test_pamqp_reads_what_was_written(method_class: type[Method], data: st.DataObject) -> None:
    fields = data.draw(pamqp_fields_of(method_class))
    payload = encode_method(build(method_class, **fields))
    _, channel, decoded = pamqp.frame.unmarshal(encode_frame(METHOD, 7, payload))
    assert channel == 7
    assert type(decoded) is method_class
    assert values(decoded) == {name: as_pamqp(value) for name, value in fields.items()}


@every_pamqp_class
@few
@given(st.data())
def test_what_pamqp_wrote_is_read(method_class: type[Method], data: st.DataObject) -> None:
    fields = {name: as_pamqp(value) for name, value in data.draw(pamqp_fields_of(method_class)).items()}
    frame = pamqp.frame.marshal(build(method_class, **fields), 7)
    decoded = decode_method(frame[7:-1])
    assert type(decoded) is method_class
    assert {name: as_pamqp(value) for name, value in values(decoded).items()} == fields
    assert frame == encode_frame(METHOD, 7, encode_method(decoded))


@every_class
@few
@given(st.data())
def test_a_method_cut_short_or_too_long_is_refused(method_class: type[Method], data: st.DataObject) -> None:
    payload = encode_method(build(method_class, **data.draw(fields_of(method_class))))
    with pytest.raises(WireError):
        decode_method(payload[: data.draw(st.integers(0, len(payload) - 1))])
    with pytest.raises(WireError):
        decode_method(payload + data.draw(st.binary(min_size=1, max_size=9)))


@given(st.sampled_from(CLASSES), st.binary(max_size=60))
def test_garbage_fields_are_a_method_or_an_error_with_a_name(method_class: type[Method], garbage: bytes) -> None:
    with contextlib.suppress(WireError, AmqpError):
        decode_method(method_class.index.to_bytes(4, "big") + garbage)


@given(st.binary(max_size=60))
def test_garbage_is_a_method_or_an_error_with_a_name(garbage: bytes) -> None:
    with contextlib.suppress(WireError, AmqpError):
        decode_method(garbage)
