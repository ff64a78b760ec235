"""Who logs in and what they may do, where others than the broker decide it: back ends, and how they are asked.

Loaded only where the setting ``auth_backends`` names another than ``internal``.
"""
