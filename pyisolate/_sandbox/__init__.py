"""What an extension's process may reach, and what is told of it. Runs in the host; the core confines.

Uses ``_settings``, ``_env`` and what they use.
"""
