"""What any process may use, and knows nothing of extensions: threads, folders, limits, versions.

Uses the standard library alone.
"""
