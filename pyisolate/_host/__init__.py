"""Code of the host: managers, proxies of extensions, and the start, supervision and end of their processes.

Uses all other folders. No other folder uses it.
"""
