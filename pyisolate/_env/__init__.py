"""Environments: which Python runs an extension, and how its dependencies are installed. Runs in the host.

Uses the public modules and ``_util``.
"""
