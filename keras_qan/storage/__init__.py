"""Files that survive a kill: checkpoints, logs, locks, and objects as plain JSON data."""
