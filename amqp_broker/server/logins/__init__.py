"""Back ends for logins and permissions: others than the broker that decide who logs in and what they may do.

Loaded only where the setting ``auth_backends`` names another than ``internal``.
"""
