"""Several processes of one machine, one broker: each owns some virtual hosts, with a journal of its own.

``supervisor.py`` starts them and sees them end; ``worker.py`` is one of them; ``link.py`` is what one says to another.
"""
