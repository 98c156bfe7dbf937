"""Utilities that any process may use and that know nothing of extensions: threads, folders, limits, versions.

They use only the standard library.
"""
