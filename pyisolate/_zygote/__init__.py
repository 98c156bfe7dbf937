"""Code of a zygote: it loads what extensions share, and forks. A forked process continues in ``_child``.

Uses ``_child`` and what that uses.
"""
