"""QANCallback: what it observes, decides and learns, training by training."""
