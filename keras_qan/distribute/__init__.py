"""From a flag or TF_CONFIG to a `tf.distribute` strategy to open a scope with."""

from keras_qan.distribute.cluster import Cluster
from keras_qan.distribute.strategies import NAMES, from_name
from keras_qan.distribute.team import Team, directory_here, present_team, team_of

__all__ = ["NAMES", "Cluster", "Team", "directory_here", "from_name", "present_team", "team_of"]
