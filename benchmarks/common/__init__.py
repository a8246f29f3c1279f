"""What several benchmarks share: recipes, data, runs, processes of their own, tables and pages."""
