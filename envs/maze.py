"""A first-person maze whose next frame is computable: the built-in environment, and a reference for tests.

`next pose = step_pose(maze, pose, action)` and `frame = render(maze, pose)` are pure functions, and `info` carries
the pose, so the true future of any moment is known exactly and can be compared with a dream.
"""

from dataclasses import dataclass, replace
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from jaxtyping import Bool, Float, UInt8

from worldmodel.envs.errors import check_at_least
from worldmodel.envs.frames import frame_space
from worldmodel.envs.raycast import Maze, Pose, render

__all__ = ["ACTIONS", "Maze", "MazeConfig", "MazeEnv", "Pose", "build_maze", "reaches_goal", "render", "step_pose"]

MOVES = {  # action → steps ahead, steps to the right, turns to the right
    "noop": (0, 0, 0),
    "forward": (1, 0, 0),
    "backward": (-1, 0, 0),
    "turn_left": (0, 0, -1),
    "turn_right": (0, 0, 1),
    "strafe_left": (0, -1, 0),
    "strafe_right": (0, 1, 0),
}
ACTIONS = tuple(MOVES)
STRIDE = 0.25  # cells per move
TURN = 15.0  # degrees per turn; divides 360, so that headings stay exact
BODY = 0.35  # half the side of the square that must not touch a wall, cells; below 0.5, as corridors are 1 wide
TOUCH = 1e-6  # gap that lets a body slide along the wall that it touches
GOAL_RADIUS = 0.5  # cells from the goal's middle that count as reaching it
PALETTE = np.array(  # walls; none as bright and yellow as the goal
    [[196, 78, 72], [84, 140, 200], [104, 168, 92], [164, 104, 188], [222, 140, 76], [76, 170, 168], [206, 118, 156]],
    np.float32,
)


@dataclass
class MazeConfig:
    """The maze, how it is seen, and when an episode ends."""

    name: str = "maze"
    rooms: int = 4
    """Rooms per side, one cell each, with one cell of wall or door between them."""
    loops: float = 0.5
    """Share of the walls between rooms that are opened after every room can be reached, 0 to 1."""
    layout_seed: int | None = 0
    """Seed of the maze that all episodes share (null: each episode draws its own maze)."""
    height: int = 64
    """Height of a frame in pixels."""
    width: int = 64
    """Width of a frame in pixels."""
    noise: float = 0.0
    """Standard deviation of pixel noise, in grey levels."""
    goal_ends: bool = True
    """Whether reaching the ball ends the episode; otherwise the ball moves to another room."""
    max_steps: int = 500
    """Steps after which an episode is truncated."""

    def __post_init__(self) -> None:
        check_at_least(self, 2, "rooms")
        check_at_least(self, 1, "height", "width", "max_steps")
        check_at_least(self, 0, "noise")
        if not 0 <= self.loops <= 1:
            raise ValueError(f"loops: expected a share in [0, 1], got {self.loops}")


class MazeEnv(gymnasium.Env):
    """A walk through a maze, first-person; the ball in one of its rooms gives reward 1.

    `info` holds "pose" (x, y in cells, heading in degrees; float64 [3]) and "goal" (x, y of its cell; int64 [2]),
    both of the frame they come with.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 15}  # noqa: RUF012
    render_mode = "rgb_array"
    action_names = ACTIONS

    def __init__(self, config: MazeConfig) -> None:
        self._config = config
        self.action_space = spaces.Discrete(len(ACTIONS))
        self.observation_space = frame_space(config.height, config.width)
        self.max_episode_steps = config.max_steps
        self.maze: Maze | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[UInt8[np.ndarray, "h w 3"], dict[str, Any]]:
        """The first frame of an episode that `seed` determines; without a seed, of the next episode."""
        super().reset(seed=seed)
        config = self._config
        layout = self.np_random if config.layout_seed is None else np.random.default_rng(config.layout_seed)
        self.maze = build_maze(layout, config.rooms, config.loops)
        start, goal = self._two_rooms()
        self.maze = replace(self.maze, goal=goal)
        self.pose = Pose(start[0] + 0.5, start[1] + 0.5, TURN * int(self.np_random.integers(round(360 / TURN))))
        self._noise_seed = int(self.np_random.integers(2**63))
        self._steps = 0
        return self._observe()

    def step(self, action: Any) -> tuple[UInt8[np.ndarray, "h w 3"], float, bool, bool, dict[str, Any]]:
        """The frame that `action` leads to, and reward 1 if that is where the goal was.

        Raises:
            ValueError: the action is not one of `ACTIONS`.
            RuntimeError: there was no reset before.
        """
        if self.maze is None:
            raise RuntimeError("step before the first reset: call reset(seed=...)")
        if not self.action_space.contains(action):
            raise ValueError(f"action: expected an integer below {len(ACTIONS)}, got {action!r}")
        self.pose = step_pose(self.maze, self.pose, int(action))
        self._steps += 1
        reached = reaches_goal(self.maze, self.pose)
        if reached and not self._config.goal_ends:
            self.maze = replace(self.maze, goal=self._another_room())
        frame, info = self._observe()
        return frame, float(reached), reached and self._config.goal_ends, self._steps >= self._config.max_steps, info

    def render(self) -> UInt8[np.ndarray, "h w 3"]:
        """The last frame again."""
        return self._observe()[0]

    def _observe(self) -> tuple[UInt8[np.ndarray, "h w 3"], dict[str, Any]]:
        if self.maze is None:
            raise RuntimeError("render before the first reset: call reset(seed=...)")
        frame = render(self.maze, self.pose, self._config.height, self._config.width)
        if self._config.noise > 0:
            frame = add_noise(frame, self._config.noise, self._noise_seed, self._steps)
        return frame, {"pose": np.array(self.pose), "goal": np.array(self.maze.goal)}

    def _two_rooms(self) -> tuple[tuple[int, int], tuple[int, int]]:
        first, second = self.np_random.choice(self._config.rooms**2, size=2, replace=False)
        return _room_cell(first, self._config.rooms), _room_cell(second, self._config.rooms)

    def _another_room(self) -> tuple[int, int]:
        """A room that the pose is not in."""
        assert self.maze is not None
        here = int(self.pose.x), int(self.pose.y)
        rooms = [_room_cell(i, self._config.rooms) for i in range(self._config.rooms**2)]
        others = [room for room in rooms if room not in (here, self.maze.goal)]
        return others[int(self.np_random.integers(len(others)))]


def step_pose(maze: Maze, pose: Pose, action: int) -> Pose:
    """The pose after `action`; a body that walks into a wall slides along it."""
    forward, sideways, turn = MOVES[ACTIONS[action]]
    angle = np.deg2rad(pose.heading)
    dx = STRIDE * (forward * np.cos(angle) - sideways * np.sin(angle))
    dy = STRIDE * (forward * np.sin(angle) + sideways * np.cos(angle))
    x = _slide(maze.walls, pose.x, pose.y, float(dx))
    y = _slide(maze.walls.T, pose.y, x, float(dy))
    return Pose(x, y, (pose.heading + TURN * turn) % 360.0)


def _slide(walls: Bool[np.ndarray, "v u"], u: float, v: float, du: float) -> float:
    """u + du, or less if the body, moving along u, would enter a wall."""
    if du == 0:
        return u
    edge = int(np.floor(u + du + np.copysign(BODY, du)))
    sides = int(v - BODY + TOUCH), int(v + BODY - TOUCH)
    if not any(walls[side, edge] for side in sides):
        return u + du
    return edge - BODY - TOUCH if du > 0 else edge + 1 + BODY + TOUCH


def reaches_goal(maze: Maze, pose: Pose) -> bool:
    """Whether `pose` is close enough to the ball for the reward."""
    return bool(np.hypot(pose.x - maze.goal_point[0], pose.y - maze.goal_point[1]) < GOAL_RADIUS)


def build_maze(rng: np.random.Generator, rooms: int, loops: float) -> Maze:
    """A maze of `rooms` x `rooms` rooms that are all connected, with `loops` of its inner walls opened as well."""
    side = 2 * rooms + 1
    walls = np.ones((side, side), bool)
    _dig(walls, rng, rooms)
    closed = [(y, x) for y in range(1, side - 1) for x in range(1, side - 1) if (x + y) % 2 and walls[y, x]]
    for i in rng.permutation(len(closed))[: round(loops * len(closed))]:
        walls[closed[i]] = False
    _clear_posts(walls)
    return Maze(walls, _paint(rng, side), _hang_signs(rng, side), goal=(1, 1))


def _dig(walls: Bool[np.ndarray, "rows columns"], rng: np.random.Generator, rooms: int) -> None:
    """Open a tree of passages: from room to unvisited room, and back if there is none."""
    trail = [(1, 1)]
    walls[1, 1] = False
    while trail:
        y, x = trail[-1]
        ways = [(dy, dx) for dy, dx in ((0, 2), (2, 0), (0, -2), (-2, 0)) if _is_rock(walls, y + dy, x + dx)]
        if not ways:
            trail.pop()
            continue
        dy, dx = ways[int(rng.integers(len(ways)))]
        walls[y + dy // 2, x + dx // 2] = walls[y + dy, x + dx] = False
        trail.append((y + dy, x + dx))


def _is_rock(walls: Bool[np.ndarray, "rows columns"], y: int, x: int) -> bool:
    return 0 < y < walls.shape[0] and 0 < x < walls.shape[1] and bool(walls[y, x])


def _clear_posts(walls: Bool[np.ndarray, "rows columns"]) -> None:
    """Remove blocks that stand alone, so that opened walls make halls."""
    for y in range(2, walls.shape[0] - 1, 2):
        for x in range(2, walls.shape[1] - 1, 2):
            walls[y, x] = walls[y - 1, x] or walls[y + 1, x] or walls[y, x - 1] or walls[y, x + 1]


def _paint(rng: np.random.Generator, side: int) -> Float[np.ndarray, "rows columns 3"]:
    """A color for every block, drawn at random, so that no two corners of the maze look alike."""
    tone = rng.uniform(0.85, 1.1, (side, side, 1)).astype(np.float32)
    return np.minimum(PALETTE[rng.integers(len(PALETTE), size=(side, side))] * tone, 255)


def _hang_signs(rng: np.random.Generator, side: int) -> Float[np.ndarray, "rows columns"]:
    """A brighter or darker sign for every block: even from near, a wall then shows which one it is, and the motion."""
    return rng.choice(np.array([-0.45, -0.25, 0.3, 0.55], np.float32), (side, side))


def _room_cell(room: int, rooms: int) -> tuple[int, int]:
    """x and y of the cell of a room, counted row by row."""
    row, column = divmod(int(room), rooms)
    return 2 * column + 1, 2 * row + 1


def add_noise(frame: UInt8[np.ndarray, "h w c"], noise: float, seed: int, step: int) -> UInt8[np.ndarray, "h w c"]:
    """The frame with Gaussian pixel noise of `noise` grey levels that depends on (seed, step) alone."""
    rng = np.random.default_rng((seed, step))
    return np.clip(np.rint(frame + noise * rng.standard_normal(frame.shape)), 0, 255).astype(np.uint8)
