"""Takes the place of tests/docker_client.py in aio-pika's suite: the broker is there, no container is started."""

from __future__ import annotations

import os
from dataclasses import dataclass

CLOSED_PORT = 1


class DockerNotAvailableError(Exception):
    """Never raised here."""


@dataclass
class DockerHostInfo:
    """Nothing is asked of it here."""


@dataclass
class ContainerInfo:
    """Where the broker listens."""

    id: str
    ports: dict[str, int]
    host: str


class DockerClient:
    """What the suite's fixtures use of their Docker client."""

    def __init__(self, docker_host_info: DockerHostInfo | None = None) -> None:
        pass

    def run(self, image: str, ports: list[str], environment: dict[str, str] | None = None) -> ContainerInfo:
        port = int(os.environ["BROKER_UNDER_TEST_PORT"])
        return ContainerInfo(
            id="none",
            ports={"5672/tcp": port, "5671/tcp": CLOSED_PORT},
            host=os.environ["BROKER_UNDER_TEST_HOST"],
        )

    def kill(self, container_id: str) -> None:
        pass

    def remove(self, container_id: str) -> None:
        pass


def check_docker_available() -> DockerHostInfo:
    return DockerHostInfo()
