"""A maze and a pose → the frame seen from there: a first-person ray caster in NumPy, a pure function.

Every edge is smooth on purpose: rows of a wall's edge are weighted by how much of the pixel the wall covers,
columns are cast at twice the width and averaged, patterns fade with distance. Frames then change as
smoothly as the pose does, without flicker, on which a tokenizer would waste codes.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

FIELD_OF_VIEW = 90.0  # degrees from the left edge of a frame to the right one
EYE = 0.5  # height of the eye in cells; walls are one cell high
FADE = 0.14  # light falls off as 1 / (1 + FADE * distance in cells)
SIDE_LIGHT = 0.78  # faces that look along y are that much darker, so that corners show
SIGN_RADIUS = 0.2  # the round sign on every block, in cells
BALL_RADIUS, BALL_HEIGHT = 0.2, 0.36  # the goal, in cells
BALL_COLOR = np.array([[[255]], [[205]], [[40]]], np.float32)
CEILING_COLOR = np.array([[[150]], [[175]], [[205]]], np.float32)
FLOOR_COLOR = np.array([[[170]], [[150]], [[125]]], np.float32)


class Pose(NamedTuple):
    """Where the eye is, in cells (x to the east, y to the south), and where it looks, in degrees clockwise from
    the east."""

    x: float
    y: float
    heading: float


@dataclass(frozen=True)
class Maze:
    """Cells that are wall or free, the color of each wall, and the cell of the goal."""

    walls: Bool[np.ndarray, "rows columns"]  # [y, x]; the border is all wall
    colors: Float[np.ndarray, "rows columns 3"]  # grey levels, 0…255
    signs: Float[np.ndarray, "rows columns"]  # how much brighter the sign on each block is; below 0: darker
    goal: tuple[int, int]  # x, y of a free cell; the ball hangs over its middle

    @property
    def goal_point(self) -> tuple[float, float]:
        """The middle of the goal's cell, x and y in cells."""
        return self.goal[0] + 0.5, self.goal[1] + 0.5


class _Camera(NamedTuple):
    """What rendering needs of a frame's size alone."""

    focal: float  # pixels
    slopes: Float[np.ndarray, "columns"]  # step to the right per step ahead, of every cast column
    rows: Float[np.ndarray, "rows 1"]  # pixels below the horizon, of every row's middle
    distances: Float[np.ndarray, "rows 1"]  # where a row meets the floor, or above the horizon the ceiling; cells


class _Hits(NamedTuple):
    """The first wall that each cast column meets."""

    depth: Float[np.ndarray, "columns"]  # cells, along the view
    along: Float[np.ndarray, "columns"]  # place on the block's face, 0…1
    color: Float[np.ndarray, "3 1 columns"]  # grey levels, lit
    sign: Float[np.ndarray, "columns"]  # how much brighter the block's sign is than the block


def render(maze: Maze, pose: Pose, height: int = 64, width: int = 64) -> UInt8[np.ndarray, "h w 3"]:
    """The frame seen from `pose`; the same arguments give the same bytes."""
    camera = _camera(height, width)
    angle = np.deg2rad(pose.heading)
    forward = np.array([np.cos(angle), np.sin(angle)])
    right = np.array([-forward[1], forward[0]])
    rays = forward[:, None] + right[:, None] * camera.slopes
    hits = _cast(maze, pose, rays)
    image = _background(camera, pose, rays)  # color planes first: NumPy's inner loops want a long last axis
    _draw_walls(image, camera, hits)
    _draw_ball(image, camera, hits.depth, maze, pose, forward, right)
    frame = np.empty((height, width, 3), np.uint8)
    np.copyto(frame.transpose(2, 0, 1), 0.5 * (image[..., ::2] + image[..., 1::2]) + 0.5, casting="unsafe")
    return frame


@lru_cache(maxsize=8)
def _camera(height: int, width: int) -> _Camera:
    focal = float(width / 2 / np.tan(np.deg2rad(FIELD_OF_VIEW / 2)))
    columns = (np.arange(2 * width) + 0.5) / 2 - width / 2  # two are cast per column of the frame
    rows = (np.arange(height) + 0.5 - height / 2)[:, None]
    distances = focal * EYE / np.maximum(np.abs(rows), 0.25)  # the horizon itself would be infinitely far
    return _Camera(focal, columns / focal, rows.astype(np.float32), distances.astype(np.float32))


def _light(distance: np.ndarray) -> np.ndarray:
    return 1 / (1 + FADE * distance)


def _cast(maze: Maze, pose: Pose, rays: Float[np.ndarray, "2 columns"]) -> _Hits:
    """The first wall that each ray meets: the nearest of its crossings with a grid line that has a wall behind it.

    All crossings are tried at once, which for mazes of this size is faster than walking from cell to cell. Rays
    advance one cell along the view per unit, so that a crossing's parameter is its depth.
    """
    lines = np.arange(1, len(maze.walls))[:, None]
    rays = np.where(np.abs(rays) < 1e-9, 1e-9, rays)[:, None]  # parallel to lines: crosses them far away
    start = np.array(pose[:2])[:, None, None]
    depths = (lines - start) / rays  # [2 lines columns]: with the lines x = 1, 2, … and y = 1, 2, …
    places = start[::-1] + depths * rays[::-1]  # where on its line, in cells
    # A ray that left the maze sideways is taken to meet the border there: its first wall was nearer anyway.
    beside = np.clip(places, 0, len(maze.walls) - 1).astype(np.intp)
    behind = lines - (rays < 0)
    rows, columns = np.concatenate([beside[0], behind[1]]), np.concatenate([behind[0], beside[1]])
    depths = depths.reshape(rows.shape)
    nearest = np.where(maze.walls[rows, columns] & (depths > 0), depths, np.inf).argmin(axis=0)
    pick = nearest, np.arange(rows.shape[1])
    side_light = np.where(nearest < len(lines), np.float32(1), np.float32(SIDE_LIGHT))
    along = (places.reshape(rows.shape)[pick] % 1.0).astype(np.float32)
    return _lit(maze, (rows[pick], columns[pick]), depths[pick].astype(np.float32), along, side_light)


def _lit(
    maze: Maze,
    cells: tuple[Int[np.ndarray, "columns"], Int[np.ndarray, "columns"]],
    depth: Float[np.ndarray, "columns"],
    along: Float[np.ndarray, "columns"],
    side_light: Float[np.ndarray, "columns"],
) -> _Hits:
    """Hits with the colors of their blocks: darker far away, and each block towards its edges."""
    light = side_light * _light(depth) * (0.72 + 0.28 * np.sqrt(np.sin(np.pi * along)))
    color = np.ascontiguousarray(maze.colors[cells].T) * light
    return _Hits(depth, along, color[:, None], maze.signs[cells])


def _background(
    camera: _Camera, pose: Pose, rays: Float[np.ndarray, "2 columns"]
) -> Float[np.ndarray, "3 rows columns"]:
    """Floor, softly checkered by the cell, and plain ceiling, both darker where they are far."""
    light = _light(camera.distances)
    half = len(camera.rows) // 2
    image = np.empty((3, len(camera.rows), rays.shape[1]), np.float32)
    image[:, :half] = light[:half] * CEILING_COLOR
    distance = camera.distances[half:]
    x, y = (start + distance * ray.astype(np.float32) for start, ray in zip(pose[:2], rays, strict=True))
    contrast = 0.25 / (1 + 0.15 * distance**2)  # far cells are smaller than a pixel
    tiles = light[half:] * (1 + contrast * (np.sin(np.pi * x) * np.sin(np.pi * y)))
    np.multiply(tiles, FLOOR_COLOR, out=image[:, half:])
    return image


def _draw_walls(image: Float[np.ndarray, "3 rows columns"], camera: _Camera, hits: _Hits) -> None:
    """Walls over the background, each pixel by the share of it that the wall covers."""
    half = camera.focal * EYE / hits.depth
    cover = np.clip(half + 0.5 - np.abs(camera.rows), 0, 1)
    level = np.clip(camera.rows / half, -1, 1)  # -1 at the top of the wall, 1 at its foot
    squared = level * level
    inside = SIGN_RADIUS**2 - (hits.along - 0.5) ** 2 - 0.25 * squared  # of the sign, where above 0; cells²
    sign = np.clip(inside * (half / SIGN_RADIUS) + 0.5, 0, 1)  # its edge is a pixel wide
    shade = cover * (1.04 - 0.3 * squared - 0.06 * level) * (1 + sign * hits.sign)
    image *= 1 - cover
    image += shade * hits.color
    np.minimum(image, 255, out=image)


def _draw_ball(
    image: Float[np.ndarray, "3 rows columns"],
    camera: _Camera,
    depth: Float[np.ndarray, "columns"],
    maze: Maze,
    pose: Pose,
    forward: Float[np.ndarray, "2"],
    right: Float[np.ndarray, "2"],
) -> None:
    """The goal, a shaded ball, over the columns whose wall is farther away than it is."""
    offset = np.subtract(maze.goal_point, pose[:2])
    far, sideways = float(offset @ forward), float(offset @ right)
    if far < BALL_RADIUS:
        return
    radius = camera.focal * BALL_RADIUS / far
    across = (camera.slopes * camera.focal - camera.focal * sideways / far) / radius
    columns = np.flatnonzero((np.abs(across) < 1 + 1 / radius) & (depth > far))
    down = (camera.rows - camera.focal * (EYE - BALL_HEIGHT) / far) / radius
    from_middle = np.hypot(across[columns], down)
    cover = np.clip((1 - from_middle) * radius + 0.5, 0, 1)
    shine = np.clip(1.15 - 0.75 * np.hypot(across[columns] + 0.3, down + 0.35), 0.3, 1.0)
    image[..., columns] += (cover * (shine * BALL_COLOR - image[..., columns])).astype(np.float32)
