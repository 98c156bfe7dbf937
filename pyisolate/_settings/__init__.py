"""Configurations, checked before anything is created, with their defaults filled in. Runs in the host.

Uses ``_env`` and what that uses.
"""
