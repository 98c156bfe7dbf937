"""Code for both ends of a session, in the host and in an extension: objects by name, proxies, classes.

Uses the public modules and ``_util``.
"""
