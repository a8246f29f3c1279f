"""Where NE comes from: the error budget, its subsets, oracles and worst cases."""
