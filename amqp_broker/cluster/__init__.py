"""Several nodes, one broker: ownership, and what the owner keeps in etcd. Needs the extra ``cluster``.

``members.py`` calls etcd's members over blocking sockets, for threads; ``store.py`` is the journal's store over them.
"""
