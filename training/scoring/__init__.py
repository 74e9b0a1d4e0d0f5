"""Label maps against the truth: scores, averages and tables."""
