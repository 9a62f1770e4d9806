"""Evaluation: sequences, protocols, metrics."""
