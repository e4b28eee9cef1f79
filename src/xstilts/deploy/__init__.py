"""Finished models outside a study: exported, served, and what that costs."""
