"""NE and what is measured beside it, OKS among it; the baseline; annotations to score against."""
