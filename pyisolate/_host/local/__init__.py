"""Extensions in the host's process: their runtime, and calls between them and their host.

Uses the modules beside this folder.
"""
