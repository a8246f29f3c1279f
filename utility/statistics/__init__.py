"""Statistics: bootstrap intervals and tests, the shape model of garments, tails."""
