"""Experiments that the scripts run: flags, episodes, baselines and statistics."""
