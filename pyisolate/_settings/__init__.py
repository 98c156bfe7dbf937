"""Checked configurations: validated before anything is created, with defaults filled in. Runs in the host.

Uses ``_env`` and the layers that ``_env`` uses.
"""
