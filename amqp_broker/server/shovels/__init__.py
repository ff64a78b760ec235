"""Shovels: parameters of the component ``shovel`` that carry messages within the broker, from and to others."""
