"""The sandbox of an extension's process: what it may access, and how that is reported. Runs in the host.

The core enforces the sandbox. Uses ``_settings``, ``_env`` and the layers that they use.
"""
