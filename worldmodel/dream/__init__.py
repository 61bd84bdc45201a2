"""Dreams as Gymnasium environments, and long dreams as frames."""

from worldmodel.dream.env import DreamEnv, DreamVectorEnv, Snapshot

__all__ = ["DreamEnv", "DreamVectorEnv", "Snapshot"]
