"""What every package may use: progress bars, backend checks, argument checks."""
