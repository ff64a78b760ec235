"""Exceptions that the wire floor raises for bytes that mean nothing, and for values that have no bytes.

Holds two exceptions. The violations that have a reply code of their own are ``AmqpError``, one floor down.
"""

from __future__ import annotations


class WireError(ValueError):
    """Bytes that AMQP's encoding rules do not allow, or a value that cannot be encoded by them."""


class MalformedTable(WireError):
    """A field table whose bytes are not a table, within the bounds that its length gave it."""


class UnknownMethod(WireError):
    """A method frame whose class and method ids name no method.

    Args:
        class_id: the class id that was read.
        method_id: the method id that was read.
    """

    def __init__(self, class_id: int, method_id: int) -> None:
        super().__init__(f"no method has class id {class_id} and method id {method_id}")
        self.class_id = class_id
        self.method_id = method_id
