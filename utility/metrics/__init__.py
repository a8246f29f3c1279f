"""NE and PCK, the baseline of mean positions, and annotations to score against."""
