"""Environments: the Python that runs an extension, and the installation of dependencies. Runs in the host.

Uses the public modules and ``_util``.
"""
