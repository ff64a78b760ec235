"""``amqp-broker ctl`` and ``diagnostics``: a second face of the control socket, with the words of RabbitMQ's tools.

The commands' arguments, banners, output and exit codes are those of rabbitmqctl 3.10.8, so that scripts written for it
run unchanged. Nothing here changes a broker in a way that the nouns (``users``, ``policies``) do not.
"""
