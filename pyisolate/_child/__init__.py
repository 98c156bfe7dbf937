"""Code that runs only in an extension's process, from its start to its end.

Uses ``_rpc``, the public modules and ``_util``.
"""
