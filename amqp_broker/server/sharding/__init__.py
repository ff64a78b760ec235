"""Virtual hosts divided into shards, each with an owner: which is where, what a client wants, what all must know.

The owners are nodes of a cluster (``cluster/``) or processes of one machine (``processes/``). Neither is known here.
"""
