"""Things to try the project with: a synthetic data set, pictures of points, the quick start."""
