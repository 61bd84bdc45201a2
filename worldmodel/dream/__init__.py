"""Dreams as Gymnasium environments, and long dreams as video.

`import worldmodel` registers `worldmodel/Dream-v0`, for `gymnasium.make` and `gymnasium.make_vec`.
"""

from worldmodel.dream.batch import Snapshot
from worldmodel.dream.env import DreamEnv
from worldmodel.dream.spaces import Observation, action_space, observation_space
from worldmodel.dream.vector_env import DreamVectorEnv

__all__ = ["DreamEnv", "DreamVectorEnv", "Observation", "Snapshot", "action_space", "observation_space"]
