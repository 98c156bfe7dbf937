"""What the scripts in this folder share: the operations that are measured, the runner, the report."""
