"""What runs in an extension's process, from its first line to its last.

Uses ``_rpc``, the public modules and ``_util``.
"""
