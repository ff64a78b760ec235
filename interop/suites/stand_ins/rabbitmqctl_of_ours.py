"""Takes the place of rabbitmqctl in RabbitMQ's own STOMP suite: `FOLDER -n NODE COMMAND ...`, of our broker.

`eval` is how the suite lets clients in as a default user, which ours does from the start.
"""

import os
import sys

folder, _, _, command, *arguments = sys.argv[1:]
if command == "eval":
    sys.exit(0)
if command == "list_stomp_connections":  # for people who read the suite's output
    command, arguments = "list_connections", []
os.execv(sys.executable, [sys.executable, "-m", "amqp_broker", "ctl", command, *arguments, "--data-dir", folder])
