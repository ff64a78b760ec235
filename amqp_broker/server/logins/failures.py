"""Errors of back ends before anybody is asked. A file of its own: who reports them loads no back end."""


class CannotAskBackend(Exception):
    """A back end that the settings name cannot be used; the text names it, the reason and the way out."""
