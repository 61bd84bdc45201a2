"""The pictures of a film: real frames above the dream, actions and rewards drawn in; a video, and a contact sheet."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from worldmodel.evaluate.page.film import GIVEN_SHOWN, Film, Track
from worldmodel.io.video import contact_sheet, video_bytes

WIDTH = 336  # pixels of the film, unless a frame is wider
BAR, STRIP, TRACK, EDGE = 22, 54, 10, 4  # heights: of a label, of the text and time line above, of a line; an edge
FPS = 8.0
HOLD = 8  # times that the last image is shown, before the film begins again
QUALITIES = (20, 26, 32, 38)  # x264's rate factors, tried one after the other until the film is small enough
PAPER, INK, SOFT = (22, 23, 27), (236, 236, 236), (120, 124, 132)
GIVEN, REAL, DREAM = (245, 170, 60), (96, 176, 255), (255, 128, 176)


def film_images(film: Film) -> list[UInt8[np.ndarray, "H W 3"]]:
    """One image for each frame: the given ones with a colored edge, then what followed above the dream."""
    given, steps = len(film.given), film.steps
    return [_image(film, n) for n in range(1 - given, steps + 1)]


def film_bytes(film: Film, most: int, fps: float = FPS) -> bytes:
    """The film as an mp4 of at most `most` bytes: with less detail if need be, and then with fewer frames."""
    images = film_images(film)
    images += images[-1:] * HOLD
    while True:
        for quality in QUALITIES:
            data = video_bytes(np.stack(images), fps, quality)
            if len(data) <= most or len(images) < 2:
                return data
        images = images[: len(images) // 2]


def film_sheet(film: Film) -> UInt8[np.ndarray, "H W 3"]:
    """Moments of the film side by side: given frames with a colored edge, then real and dreamed ones, with the actions
    into them and their rewards."""
    moments, shown = film.moments(), min(GIVEN_SHOWN, len(film.given))
    given = [film.given[len(film.given) - shown + i] for i in range(shown)]
    tracks = {"real": film.real, "dream": film.dream} if film.real else {"dream": film.dream}
    rows = [np.stack(given + [_frame(film, track, n) for n in moments]) for track in tracks.values()]
    before = [""] * shown
    notes: dict[str, Sequence[str]] = {"action": [*before, *(film.actions[n] for n in moments)]}
    for name, track in tracks.items():
        notes[f"reward, {name}"] = [*before, *(_reward(film, track, n) for n in moments)]
    titles = [*(f"{i + 1 - shown}" for i in range(shown)), *(f"+{n + 1}" for n in moments)]
    return contact_sheet(rows, list(tracks), len(titles), titles, notes, range(shown))


def _image(film: Film, n: int) -> UInt8[np.ndarray, "H W 3"]:
    """The image of step n; 0 is the last given frame, lower numbers those before it."""
    tracks = [("real", REAL, film.real), ("dream", DREAM, film.dream)][film.real is None :]
    h, w = film.given.shape[1:3]
    times = max(1, (WIDTH - 2 * EDGE) // w)
    width, height = max(WIDTH, w * times + 2 * EDGE), h * times + 2 * EDGE
    image = Image.new("RGB", (width, STRIP + len(tracks) * (BAR + height)), PAPER)
    draw, y = ImageDraw.Draw(image), STRIP  # the text is above, as a player's buttons cover what is below
    for name, color, track in tracks:
        assert track is not None
        _label(draw, (0, y, width, y + BAR), name if n > 0 else f"{name}: given frame", color, _happens(film, track, n))
        picture = Image.fromarray(_enlarged(_picture(film, track, n)[None], times)[0])
        left = (width - picture.width) // 2
        if n <= 0:
            box = (left - EDGE, y + BAR, left + picture.width + EDGE - 1, y + BAR + height - 1)
            draw.rectangle(box, fill=GIVEN)
        image.paste(picture, (left, y + BAR + EDGE))
        y += BAR + height
    words = f"step {n} of {film.steps}" if n > 0 else f"given {n + len(film.given)} of {len(film.given)}"
    action = film.actions[n - 1] if n > 0 else ""
    draw.text((8, 5), words, fill=SOFT if n > 0 else GIVEN, font=_font())
    draw.text((width // 2, 5), f"action  {action}" if action else "", fill=INK, font=_font(), anchor="la")
    for i, (_, color, track) in enumerate(tracks):
        _timeline(draw, (8, 28 + i * (TRACK + 2), width - 12), film, track, color, n)
    return np.asarray(image)


def _label(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], name: str, color: tuple, event: str) -> None:
    """The name of a track, and at the right what happens in this frame."""
    _, top, right, _ = box
    draw.text((8, top + 3), name, fill=color, font=_font())
    if event:
        wide = draw.textlength(event, font=_font())
        draw.rounded_rectangle((right - wide - 20, top + 2, right - 6, top + BAR - 2), 6, fill=color)
        draw.text((right - wide - 13, top + 3), event, fill=PAPER, font=_font())


def _timeline(
    draw: ImageDraw.ImageDraw, place: tuple[int, int, int], film: Film, track: Track | None, color: tuple, now: int
) -> None:
    """A line with the given frames, the rewards, the end, and where the film is."""
    assert track is not None
    left, top, right = place
    given = len(film.given) - 1
    scale = (right - left) / max(1, given + film.steps)

    def x(step: int) -> float:
        return left + (given + step) * scale

    draw.rectangle((left, top + TRACK // 2 - 1, x(len(track)), top + TRACK // 2), fill=(70, 72, 78))
    draw.rectangle((left, top + TRACK // 2 - 1, x(0), top + TRACK // 2), fill=GIVEN)
    for step in (np.flatnonzero(film.events(track)) + 1).tolist():
        draw.rectangle((x(step) - 2, top, x(step) + 1, top + TRACK - 1), fill=color)
    if track.ended:
        draw.rectangle((x(len(track)) - 1, top - 1, x(len(track)) + 2, top + TRACK), fill=INK)
    draw.line((x(now), top - 2, x(now), top + TRACK + 1), fill=INK)


def _happens(film: Film, track: Track, n: int) -> str:
    """What the step into this frame brought: its reward if it is not the usual one, and the end."""
    if n > len(track):
        return "over"
    reward = _reward(film, track, n - 1) if n > 0 else ""
    return " · ".join(filter(None, [f"reward {reward}" if reward else "", "end" if _ends(track, n) else ""]))


def _ends(track: Track, n: int) -> bool:
    return track.ended and n == len(track)


def _reward(film: Film, track: Track, index: int) -> str:
    """The reward of a step as text; "" for the usual one."""
    if index >= len(track) or not film.events(track)[index]:
        return ""
    return f"{track.rewards[index]:+.3g}"


def _picture(film: Film, track: Track, n: int) -> UInt8[np.ndarray, "h w 3"]:
    return film.given[n - 1 + len(film.given)] if n <= 0 else _frame(film, track, n - 1)


def _frame(film: Film, track: Track, index: int) -> UInt8[np.ndarray, "h w 3"]:
    """A frame of a track; after its end the last one, darkened."""
    if index < len(track):
        return track.frames[index]
    last = track.frames[-1] if len(track) else film.given[-1]
    return (last // 4).astype(np.uint8)


def _enlarged(frames: UInt8[np.ndarray, "t h w 3"], times: int) -> UInt8[np.ndarray, "t H W 3"]:
    return frames.repeat(times, axis=1).repeat(times, axis=2)


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(13)
