"""The plugins that are part of the package, as RabbitMQ has them: each is found by its entry point, as anybody's is.

They stand in ``pyproject.toml``. An exchange type is loaded when the first exchange of it is declared, an interceptor
when it is switched on.
"""
