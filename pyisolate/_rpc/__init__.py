"""Both ends of a session, in the host and in an extension: objects by name, proxies, what classes are called.

Uses the public modules and ``_util``.
"""
