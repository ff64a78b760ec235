"""The exchange types in the box that RabbitMQ has as plugins: each is found by its entry point, as anybody's is.

They stand in ``pyproject.toml``, and are loaded when the first exchange of the type is declared.
"""
