"""The maze: its next frame is computable, so every step of an episode has a known answer."""

import numpy as np
import pytest

from worldmodel.envs.maze import (
    ACTIONS,
    BODY,
    GOAL_RADIUS,
    STRIDE,
    MazeConfig,
    MazeEnv,
    Pose,
    add_noise,
    build_maze,
    render,
    step_pose,
)
from worldmodel.envs.raycast import Maze

NOOP, FORWARD, BACKWARD, TURN_LEFT, TURN_RIGHT, STRAFE_LEFT, STRAFE_RIGHT = range(7)


def maze_of(env: MazeEnv) -> Maze:
    assert env.maze is not None
    return env.maze


def walk(env: MazeEnv, seed: int, steps: int):
    """Actions, frames, rewards, infos, and mazes of a random walk; frames, infos and mazes start with the first."""
    frame, info = env.reset(seed=seed)
    rng = np.random.default_rng(seed)
    actions, rewards, frames, infos, mazes = [], [], [frame], [info], [maze_of(env)]
    terminated = False
    for _ in range(steps):
        actions.append(int(rng.choice([FORWARD, FORWARD, FORWARD, TURN_LEFT, STRAFE_RIGHT, int(rng.integers(7))])))
        frame, reward, terminated, truncated, info = env.step(actions[-1])
        frames.append(frame), rewards.append(reward), infos.append(info), mazes.append(maze_of(env))
        if terminated or truncated:
            break
    return actions, frames, rewards, infos, mazes, terminated


@pytest.mark.parametrize("layout_seed", [0, None])
def test_every_next_frame_is_the_one_computed_from_the_pose_and_the_action(layout_seed):
    env = MazeEnv(MazeConfig(height=20, width=36, layout_seed=layout_seed, goal_ends=False))
    actions, frames, _, infos, mazes, _ = walk(env, seed=5, steps=120)
    for i, action in enumerate(actions):
        pose = step_pose(mazes[i], Pose(*infos[i]["pose"]), action)
        assert np.array_equal(infos[i + 1]["pose"], pose)
        assert np.array_equal(frames[i + 1], render(mazes[i + 1], pose, 20, 36))


def test_the_reward_comes_with_the_very_action_that_reaches_the_goal():
    env = MazeEnv(MazeConfig(rooms=2, loops=1.0, goal_ends=False, height=8, width=8))
    _, _, rewards, infos, _, _ = walk(env, seed=1, steps=500)
    for i, reward in enumerate(rewards):  # the goal that counts is the one before the action
        distance = np.hypot(*(infos[i + 1]["pose"][:2] - infos[i]["goal"] - 0.5))
        assert reward == float(distance < GOAL_RADIUS)
        moved = not np.array_equal(infos[i + 1]["goal"], infos[i]["goal"])
        assert moved == (reward == 1)
    assert 3 <= sum(rewards) < 100


def test_reaching_the_goal_ends_the_episode_and_the_step_limit_cuts_it():
    env = MazeEnv(MazeConfig(rooms=2, height=8, width=8, max_steps=400))
    ends = [walk(env, seed, steps=400) for seed in range(5)]
    for _, _, rewards, _, _, terminated in ends:
        assert sum(rewards) == rewards[-1] == float(terminated) and (terminated or len(rewards) == 400)
    assert any(end[-1] for end in ends)
    assert len(walk(MazeEnv(MazeConfig(height=8, width=8, max_steps=3)), seed=2, steps=9)[0]) == 3


def test_forward_goes_where_one_looks_and_strafing_right_goes_to_the_right_hand():
    maze = build_maze(np.random.default_rng(0), rooms=2, loops=0.0)
    maze.walls[1:-1, 1:-1] = False
    north = Pose(2.5, 2.5, 270.0)
    assert step_pose(maze, north, FORWARD) == pytest.approx((2.5, 2.5 - STRIDE, 270.0))
    assert step_pose(maze, north, BACKWARD) == pytest.approx((2.5, 2.5 + STRIDE, 270.0))
    assert step_pose(maze, north, STRAFE_RIGHT) == pytest.approx((2.5 + STRIDE, 2.5, 270.0))
    assert step_pose(maze, north, STRAFE_LEFT) == pytest.approx((2.5 - STRIDE, 2.5, 270.0))
    assert step_pose(maze, north, NOOP) == north


def test_a_full_turn_leads_back_to_the_very_same_frame():
    maze = build_maze(np.random.default_rng(0), rooms=3, loops=0.5)
    pose = start = Pose(1.5, 1.5, 30.0)
    for _ in range(24):
        pose = step_pose(maze, pose, TURN_RIGHT)
    assert pose == start and np.array_equal(render(maze, pose), render(maze, start))
    assert step_pose(maze, step_pose(maze, start, TURN_LEFT), TURN_RIGHT) == start


def test_turning_right_moves_the_frame_to_the_left():
    maze = build_maze(np.random.default_rng(1), rooms=3, loops=0.5)
    pose = Pose(1.5, 1.5, 40.0)
    before, after = (render(maze, p, 16, 64).astype(float) for p in (pose, step_pose(maze, pose, TURN_RIGHT)))
    errors = [np.abs(np.roll(before, shift, axis=1) - after)[:, 20:44].mean() for shift in (-8, 8)]
    assert errors[0] < errors[1] / 2


def test_nobody_ever_stands_in_a_wall_and_whoever_walks_into_one_slides():
    rng = np.random.default_rng(3)
    maze = build_maze(rng, rooms=4, loops=0.5)
    pose, stuck = Pose(1.5, 1.5, 45.0), 0
    for action in rng.choice([FORWARD, FORWARD, FORWARD, TURN_LEFT, BACKWARD, STRAFE_LEFT], size=2000):
        last, pose = pose, step_pose(maze, pose, int(action))
        corners = [(pose.y + dy, pose.x + dx) for dy in (-BODY, BODY) for dx in (-BODY, BODY)]
        assert not any(maze.walls[int(y), int(x)] for y, x in corners)
        stuck += action == FORWARD and last == pose
    assert stuck < 600
    wall = Pose(1.5, 1.0 + BODY + 1e-6, 300.0)  # looks north-east at the wall in the north
    assert step_pose(maze, wall, FORWARD).y == pytest.approx(wall.y) and step_pose(maze, wall, FORWARD).x > wall.x


@pytest.mark.parametrize("loops", [0.0, 1.0])
def test_every_room_can_be_reached_and_the_border_is_closed(loops):
    walls = build_maze(np.random.default_rng(7), rooms=5, loops=loops).walls
    assert walls[[0, -1]].all() and walls[:, [0, -1]].all() and not walls[1::2, 1::2].any()
    reached = np.zeros_like(walls)
    reached[1, 1] = True
    for _ in range(walls.size):
        near = np.pad(reached, 1)
        reached = (near[:-2, 1:-1] | near[2:, 1:-1] | near[1:-1, :-2] | near[1:-1, 2:] | reached) & ~walls
    assert np.array_equal(reached, ~walls)


def test_a_layout_seed_gives_every_episode_one_maze_and_none_gives_each_its_own():
    fixed, own = MazeEnv(MazeConfig(layout_seed=4)), MazeEnv(MazeConfig(layout_seed=None))
    mazes = {name: [] for name in ("fixed", "own")}
    for seed in (1, 2):
        for name, env in (("fixed", fixed), ("own", own)):
            env.reset(seed=seed)
            mazes[name].append(maze_of(env).colors)
    assert np.array_equal(*mazes["fixed"]) and not np.array_equal(*mazes["own"])


def test_noise_has_the_strength_asked_for_and_differs_from_step_to_step():
    grey = np.full((64, 64, 3), 128, np.uint8)
    first, second = (add_noise(grey, 5.0, seed=1, step=step).astype(float) for step in (0, 1))
    assert first.std() == pytest.approx(5.0, rel=0.05) and not np.array_equal(first, second)
    env, clean = (MazeEnv(MazeConfig(noise=noise)) for noise in (5.0, 0.0))
    difference = env.reset(seed=0)[0].astype(float) - clean.reset(seed=0)[0]
    assert 4.0 < difference.std() < 5.2  # a little is lost where pixels are clipped


def test_the_goal_is_seen_in_front_and_hidden_behind_a_wall():
    maze = build_maze(np.random.default_rng(0), rooms=2, loops=0.0)
    maze.walls[1:-1, 1:-1] = False
    centre = render(maze, Pose(3.5, 1.5, 180.0), 32, 32)[17, 16].astype(int)  # the ball hangs in cell (1, 1)
    assert centre[0] > 120 and centre[2] < centre[0] / 2
    maze.walls[1, 2] = True
    hidden = render(maze, Pose(3.5, 1.5, 180.0), 32, 32)
    maze.walls[1, 1] = True  # with or without a ball behind it, a wall is a wall
    assert np.array_equal(hidden, render(maze, Pose(3.5, 1.5, 180.0), 32, 32))


def test_an_action_that_does_not_exist_and_a_step_before_the_reset_are_refused():
    env = MazeEnv(MazeConfig())
    with pytest.raises(RuntimeError, match="reset"):
        env.step(0)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=f"below {len(ACTIONS)}, got 7"):
        env.step(7)
