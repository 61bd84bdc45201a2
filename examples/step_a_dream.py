"""Step a dream by hand, then try several futures of one moment: python examples/step_a_dream.py [WORLD]

Writes dream.gif and futures.png here.
"""

import sys

import gymnasium
import numpy as np

import worldmodel  # noqa: F401  (registers the dream)
from worldmodel.io.video import contact_sheet, write_gif, write_png

world = sys.argv[1] if len(sys.argv) > 1 else "maze"
env = gymnasium.make("worldmodel/Dream-v0", world=world, render_mode="rgb_array")
env.action_space.seed(0)

frame, info = env.reset(seed=0)
frames = [frame]
for _ in range(60):
    frame, reward, terminated, truncated, info = env.step(env.action_space.sample())
    print(f"reward {reward:g}, surprise {info['surprise']:.1f} bits, chance of the end {info['end_probability']:.2f}")
    if terminated or truncated:
        frame, info = env.reset()
    frames.append(frame)
print("wrote", write_gif("dream.gif", np.stack(frames)))

dream = env.unwrapped
moment, action = dream.snapshot(), env.action_space.sample()
futures = []
for seed in (1, 2, 3):  # the same action under another chance; without a seed it is always the same future
    dream.restore(moment, seed)
    frames, over = [dream.render()], False
    for _ in range(9):
        if not over:
            frame, _, terminated, truncated, _ = dream.step(action)
            over = terminated or truncated
        frames.append(frame)
    futures.append(np.stack(frames))
print("wrote", write_png("futures.png", contact_sheet(futures, ["one", "another", "a third"])))
