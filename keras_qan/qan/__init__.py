"""QANCallback, and the parts of its control loop."""
