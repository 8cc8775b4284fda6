"""Helpers for every package: progress bars, backends, argument checks, deprecations."""
