"""A container that is no container: it says where the broker under test listens."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Self


class DockerContainer:
    """The part of testcontainers' class that aio-pika's suite uses."""

    def __init__(self, image: str) -> None:
        self.image = image

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        pass

    def with_exposed_ports(self, *_: int) -> Self:
        return self

    def start(self) -> Self:
        return self

    def get_container_host_ip(self) -> str:
        return os.environ["BROKER_UNDER_TEST_HOST"]

    def get_exposed_port(self, _: int) -> str:
        return os.environ["BROKER_UNDER_TEST_PORT"]
