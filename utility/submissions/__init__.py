"""Submissions: written, and examined before they are handed in."""
