"""Shared by the benchmark scripts: the measured operations, the runner, the report."""
