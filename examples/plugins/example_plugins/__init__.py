"""A plugin of each kind; each module is one, and needs none of the others."""
