"""Measures and verdicts."""
