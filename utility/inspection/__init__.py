"""A look into records: counts, sizes, contact sheets."""
