"""Act in the real environment by planning in dreams of it: python examples/plan_in_a_real_env.py [WORLD [STEPS]]

Writes planned.mp4 here.
"""

import sys

import numpy as np

from worldmodel import WorldModel, envs
from worldmodel.agents.planner import Planner, PlannerConfig
from worldmodel.io.config import from_mapping
from worldmodel.io.progress import SLOW, progress
from worldmodel.io.video import write_video

world = WorldModel.load(sys.argv[1] if len(sys.argv) > 1 else "maze")
steps = int(sys.argv[2]) if len(sys.argv) > 2 else 50

config = from_mapping(envs.schema(world.info.env["name"]), world.info.env, "env")
env = envs.make(config)  # the environment that the world imitates
planner = Planner(world, PlannerConfig(kind="cem", candidates=64, horizon=12))
policy = planner.episode(np.random.default_rng(0))  # frame → action

frame, _ = env.reset(seed=0)
frames, total = [frame], 0.0
for _ in progress(range(steps), "plan", total=steps, unit="step", delay=SLOW):
    frame, reward, terminated, truncated, _ = env.step(policy(frame))
    frames.append(frame)
    total += reward
    if terminated or truncated:
        break
env.close()
print(f"return {total:g} in {len(frames) - 1} steps; wrote {write_video('planned.mp4', np.stack(frames))}")
