"""Learning-rate control as a Gymnasium environment, for any library of reinforcement learning.

Importing this package registers `LearningRateEnv` as `keras_qan/LearningRate-v0`:

    gymnasium.make("keras_qan.envs:keras_qan/LearningRate-v0")
"""

from keras_qan.utils.backend import needs_extra, require_tensorflow

require_tensorflow("keras_qan.envs")
with needs_extra("keras_qan.envs", "envs"):
    import gymnasium

    from keras_qan.envs.learning_rate import LearningRateEnv

#: The name by which `gymnasium.make` knows the environment.
ENV_ID = "keras_qan/LearningRate-v0"

if ENV_ID not in gymnasium.registry:
    gymnasium.register(ENV_ID, entry_point="keras_qan.envs.learning_rate:LearningRateEnv")

__all__ = ["LearningRateEnv"]
