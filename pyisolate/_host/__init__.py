"""What runs in the host: managers, extensions and their processes, and what starts, watches and ends them.

Uses all other folders; no other folder uses it.
"""
