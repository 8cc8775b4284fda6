"""What the server imports besides, from which scripts are forked."""

from keras_qan.agents.tf_agents import import_tf_agents

import_tf_agents()
