"""A deep Q-network that tunes the training of Keras 3 models while they train."""
