"""Utilities that any process may use and that know nothing of extensions: threads, folders, limits, versions.

Uses only the standard library.
"""
