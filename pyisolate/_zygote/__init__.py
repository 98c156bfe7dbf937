"""What runs in a zygote: it loads what extensions share, and forks; a fork goes on in ``_child``.

Uses ``_child`` and what that uses.
"""
