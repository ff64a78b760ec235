"""The Celery application under test: a few tasks, its settings from environment variables. The worker loads it, too.

AMQP_URL            the broker
CELERY_QUEUE        the queue of its tasks, so that no two checks share one
CELERY_QUEUE_TYPE   classic (the default) or quorum
CELERY_RESULTS      the result backend; rpc:// unless it says otherwise
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from celery import Celery
from kombu import Exchange, Queue

POLL_S = 0.02

queue_name = os.environ.get("CELERY_QUEUE", "celery")
queue_type = os.environ.get("CELERY_QUEUE_TYPE", "classic")

app = Celery(
    "application", broker=os.environ.get("AMQP_URL", "amqp://"), backend=os.environ.get("CELERY_RESULTS", "rpc://")
)
app.conf.update(
    task_default_queue=queue_name,
    # Celery's native delayed delivery needs a topic exchange.
    task_queues=[
        Queue(
            queue_name,
            Exchange(queue_name, type="topic"),
            routing_key=queue_name,
            queue_arguments={"x-queue-type": queue_type},
        )
    ],
    task_default_exchange=queue_name,
    task_default_exchange_type="topic",
    task_default_routing_key=queue_name,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"confirm_publish": True},
    worker_prefetch_multiplier=1,
    result_chord_retry_interval=0.1,
)


@app.task
def add(left: int, right: int) -> int:
    return left + right


@app.task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task
def now() -> float:
    """When the task ran."""
    return time.time()


@app.task
def fail() -> None:
    raise ValueError("as it should")


@app.task(bind=True, max_retries=5)
def succeed_at(self: Any, attempt: int) -> int:
    """Fails until it is tried for the time that `attempt` says; returns how often it was retried."""
    if self.request.retries < attempt:
        raise self.retry(countdown=0.1)
    return int(self.request.retries)


@app.task(bind=True, acks_late=True)
def wait_for(self: Any, folder: str, name: str) -> bool:
    """Leaves a file NAME.started behind and waits for a file `release`; returns whether its message was redelivered."""
    (Path(folder) / f"{name}.started").touch()
    while not (Path(folder) / "release").exists():
        time.sleep(POLL_S)
    return bool(self.request.delivery_info["redelivered"])
