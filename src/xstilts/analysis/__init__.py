"""What a study's scores say: gains, gaps and trends, each with its interval. No torch."""
