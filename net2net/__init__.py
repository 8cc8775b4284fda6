"""Grow a trained Keras model without changing what it computes (an empty room for now)."""
