"""Train an agent in dreams alone: python examples/train_ppo_in_a_dream.py [WORLD [STEPS]]

Needs the extra `agents`. Writes ppo.zip here. scripts/train_agent.py does more: it learns from latents, which is
faster, and measures the agent in the real environment on the way.
"""

import sys

from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecMonitor

from worldmodel.agents.sb3 import DreamVecEnv

world = sys.argv[1] if len(sys.argv) > 1 else "maze"
steps = int(sys.argv[2]) if len(sys.argv) > 2 else 50_000

env = VecMonitor(DreamVecEnv(16, world=world))  # sixteen dreams in one pass
model = PPO("CnnPolicy", env, n_steps=64, batch_size=256, ent_coef=0.01, seed=0, device="cpu", verbose=1)
model.learn(steps)
model.save("ppo.zip")
print("wrote ppo.zip")
