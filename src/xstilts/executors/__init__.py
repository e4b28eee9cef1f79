"""Where a stage runs: processes on this machine."""
