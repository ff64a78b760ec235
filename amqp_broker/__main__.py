"""``python -m amqp_broker``: the same as the command ``amqp-broker``."""

from __future__ import annotations

from amqp_broker.cli import main

if __name__ == "__main__":
    main()
