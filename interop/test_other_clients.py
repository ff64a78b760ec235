"""Clients in other languages, each a small program in other_clients/. What is not installed here is skipped.

Debian: amqp-tools, ruby-bunny, php-cli and php-amqplib; `make interop` installs npm's amqplib into build/interop.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from interop.raw_client import ChannelUnderTest, Queue
from interop.under_test import BrokerUnderTest

FEATURE = "clients in other languages"

PROGRAMS = Path(__file__).with_name("other_clients")
PACKAGES = Path(__file__).parent.parent / "build" / "interop" / "node_modules"


def need(program: str, *check: str) -> None:
    """Skips the test where this program is not installed, or what it is asked with `check` fails."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    if check and subprocess.run([program, *check], capture_output=True, check=False).returncode:
        pytest.skip(f"{program} does not have what the program needs")


def lines_of(*command: str, environment: dict[str, str] | None = None) -> list[str]:
    """What the program prints; fails when the program does."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **(environment or {})}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [line.strip() for line in done.stdout.splitlines()]


def test_librabbitmq(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    need("amqp-publish")
    assert lines_of("sh", str(PROGRAMS / "amqp_tools.sh"), broker.url, q) == [
        "m1 m2 m3 empty 2",
        "300000",
        "closing channel: server channel error 404, message: NOT_FOUND - no exchange 'no such exchange' in vhost '/'",
        "failed 1",
    ]
    assert ch.depth(q) == (0, 0)


def test_bunny(broker: BrokerUnderTest, q: str) -> None:
    need("ruby", "-e", "require 'bunny'")
    assert lines_of("ruby", str(PROGRAMS / "bunny.rb"), broker.url, q) == [
        "returned 312 NO_ROUTE: lost",
        "confirmed true",
        'm0 false {"deep"=>{"a"=>[1, "x"]}, "n"=>0}',
        'm0 true {"deep"=>{"a"=>[1, "x"]}, "n"=>0}',
        'm1 false {"deep"=>{"a"=>[1, "x"]}, "n"=>1}',
        'm2 false {"deep"=>{"a"=>[1, "x"]}, "n"=>2}',
        "300000 false {}",
        "exclusive: Bunny::AccessRefused",
        "inequivalent: Bunny::PreconditionFailed",
        "missing: Bunny::NotFound",
        "committed",
        "cancelled",
        "open true",
    ]


def test_php_amqplib(broker: BrokerUnderTest, ch: ChannelUnderTest, q: str) -> None:
    need("php", "-r", 'require "PhpAmqpLib/autoload.php";')
    program = str(PROGRAMS / "php_amqplib.php")
    assert lines_of("php", program, str(broker.address.port), q, broker.queue_name("dead")) == [
        "returned 312 NO_ROUTE",
        "confirmed 4",
        'm0 {"deep":{"list":[1,"x",true,null]},"number":0}',
        'm1 {"deep":{"list":[1,"x",true,null]},"number":1}',
        'm2 {"deep":{"list":[1,"x",true,null]},"number":2}',
        "m1 rejected 1",
        r"PhpAmqpLib\Exception\AMQPProtocolChannelException 403",
    ]
    assert ch.call(Queue.Purge, queue=q).message_count == 0


def test_amqplib(broker: BrokerUnderTest, q: str) -> None:
    need("node")
    if not (PACKAGES / "amqplib").is_dir():
        pytest.skip("npm's amqplib is not installed")
    assert lines_of("node", str(PROGRAMS / "amqplib.js"), broker.url, q, environment={"NODE_PATH": str(PACKAGES)}) == [
        "returned 312 lost",
        "confirmed null",
        "confirmed all",
        'm0 false {"deep":{"list":[1,"x",true,null]},"half":0.5,"number":0}',
        'm0 true {"deep":{"list":[1,"x",true,null]},"half":0.5,"number":0}',
        'm1 false {"deep":{"list":[1,"x",true,null]},"half":0.5,"number":1}',
        'm2 false {"deep":{"list":[1,"x",true,null]},"half":0.5,"number":2}',
        "300000 false {}",
        "exclusive 403",
        "inequivalent 406",
        "missing 404",
        "answered",
        "cancelled",
        "closed",
    ]
