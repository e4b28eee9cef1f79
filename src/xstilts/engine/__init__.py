"""The torch side: weights are touched here and nowhere else."""
