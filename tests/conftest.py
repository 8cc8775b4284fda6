"""What all tests share."""

import os

# TensorFlow's start-up lines would drown the tests' own output.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
