"""Videos: what is written is what is seen, whatever the size, and it reaches TensorBoard."""

import io
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from imageio_ffmpeg import get_ffmpeg_exe
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from worldmodel.io.video import annotate, contact_sheet, log_video, text_image, write_gif, write_png, write_video


def moving(t: int = 9, h: int = 47, w: int = 61) -> np.ndarray:
    """A bright square that crosses a gradient of colours."""
    y, x = np.mgrid[0:h, 0:w]
    frames = np.stack([np.stack([x * 3, y * 4, 0 * x + 90], -1)] * t).astype(np.uint8)
    for i in range(t):
        frames[i, 10:20, 4 * i : 4 * i + 12] = (250, 240, 200)
    return frames


def decode(path: Path) -> tuple[bytes, str]:
    """The raw frames of a video, and what ffmpeg says about it. (imageio's reader leaves its pipes open.)"""
    command = [get_ffmpeg_exe(), "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run(command, capture_output=True, check=True)
    return done.stdout, done.stderr.decode().split("Output")[0]


@pytest.mark.parametrize(("h", "w"), [(47, 61), (64, 64), (48, 63)])
def test_a_video_read_back_is_close_to_the_frames_written_even_of_odd_size(tmp_path, h, w):
    frames = moving(h=h, w=w)
    raw, _ = decode(write_video(tmp_path / "deep" / "a.mp4", frames, fps=10))
    back = np.frombuffer(raw, np.uint8).reshape(9, h + h % 2, w + w % 2, 3)
    error = np.abs(back[:, :h, :w].astype(float) - frames)
    shuffled = np.abs(back[::-1, :h, :w].astype(float) - frames)
    assert error.mean() < 4 < shuffled.mean() - error.mean()


def test_a_video_has_the_speed_and_the_pixel_format_that_players_expect(tmp_path):
    path = write_video(tmp_path / "a.mp4", torch.from_numpy(moving(t=12, h=64, w=64)), fps=6)
    _, facts = decode(path)
    assert all(fact in facts for fact in ("Duration: 00:00:02.00", "6 fps", "Video: h264", "yuv420p"))
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_writing_a_video_prints_nothing(tmp_path, capfd):
    write_video(tmp_path / "a.mp4", moving())
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("path", "frames", "fps", "message"),
    [
        ("a.avi", moving(), 15.0, "ends in .mp4"),
        ("a.mp4", moving(), 0.0, "fps above 0"),
        ("a.mp4", moving()[:0], 15.0, "none of them 0"),
    ],
)
def test_what_no_video_can_be_made_of_is_refused(tmp_path, path, frames, fps, message):
    with pytest.raises(ValueError, match=message):
        write_video(tmp_path / path, frames, fps=fps)


def frames_in(gif: Image.Image) -> int:
    return getattr(gif, "n_frames", 1)


def test_a_gif_has_every_frame_at_its_time_and_loops(tmp_path):
    frames = moving()
    with Image.open(write_gif(tmp_path / "a.gif", frames, fps=10)) as gif:
        assert (frames_in(gif), gif.info["duration"], gif.info["loop"], gif.size) == (9, 100, 0, (61, 47))
        gif.seek(5)
        assert np.abs(np.asarray(gif.convert("RGB")).astype(float) - frames[5]).mean() < 6


def test_a_gif_is_never_larger_than_asked_and_lasts_as_long(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)
    free = write_gif(tmp_path / "free.gif", frames, fps=20).stat().st_size
    bound = write_gif(tmp_path / "bound.gif", frames, fps=20, max_bytes=free // 4)
    assert bound.stat().st_size <= free // 4
    with Image.open(bound) as gif:
        assert frames_in(gif) < 16 and frames_in(gif) * gif.info["duration"] == pytest.approx(800, abs=100)


def test_a_gif_that_cannot_be_small_enough_is_refused(tmp_path):
    with pytest.raises(ValueError, match="max_bytes=100"):
        write_gif(tmp_path / "a.gif", moving(), max_bytes=100)
    assert not list(tmp_path.iterdir())


def test_an_image_read_back_is_the_image_written(tmp_path):
    written = moving()[0]
    with Image.open(write_png(tmp_path / "deep" / "a.png", written)) as image:
        assert np.array_equal(np.asarray(image), written)


def test_annotated_frames_keep_every_pixel_as_a_square_above_their_text():
    frames = moving(t=3)
    shown = annotate(frames, ["step 0", "step 1\nleft", "step 0"], scale=3)
    assert np.array_equal(shown[:, 1 : 3 * 47 : 3, 2 : 3 * 61 : 3], frames)
    strip = shown[:, 3 * 47 :]
    assert strip.shape[1] == 32 and np.array_equal(strip[0], strip[2]) and not np.array_equal(strip[0], strip[1])


def test_text_is_drawn_light_on_dark():
    assert text_image("", 40, 16).max() < 50 < 200 < text_image("step 7", 40, 16).max()


def test_annotating_asks_for_one_text_per_frame_and_a_whole_factor():
    with pytest.raises(ValueError, match=r"one text per frame \(9\), got 1"):
        annotate(moving(), ["a"])
    with pytest.raises(ValueError, match="scale of at least 1"):
        annotate(moving(t=1), ["a"], scale=0)


def test_a_contact_sheet_shows_the_same_moments_of_every_row_below_each_other():
    real = moving(t=9)
    sheet = contact_sheet([real, torch.from_numpy(255 - real)], ["real", "dream"], columns=3)
    h, w = real.shape[1:3]
    left = sheet.shape[1] - 3 * (w + 2)
    for row, frames in enumerate([real, 255 - real]):
        for column, moment in enumerate([0, 4, 8]):
            y, x = 16 + row * (h + 2), left + column * (w + 2)
            assert np.array_equal(sheet[y : y + h, x : x + w], frames[moment])


def test_a_contact_sheet_of_fewer_frames_than_columns_repeats_none():
    assert contact_sheet([moving(t=2)], ["a"], columns=10).shape == contact_sheet([moving()], ["a"], columns=2).shape


def test_a_contact_sheet_is_at_most_1600_pixels_wide_and_goes_on_below():
    few, many = (contact_sheet([moving(t=8)] * 2, ["real", "dream"], columns=n) for n in (8, 4))
    wide = contact_sheet([moving(t=8).repeat(6, axis=2)] * 2, ["real", "dream"], columns=8)
    assert few.shape[1] <= 1600 and wide.shape[1] <= 1600
    assert few.shape[0] == many.shape[0] and wide.shape[0] == 2 * many.shape[0]
    huge = contact_sheet([np.zeros((2, 40, 4000, 3), np.uint8)], ["real"])
    assert huge.shape[1] <= 1600


def test_a_contact_sheet_marks_given_frames_and_has_lines_of_text_below():
    frames, notes = np.zeros((2, 20, 30, 3), np.uint8), {"action": ["left", "strafe_right"], "reward": ["", "+1"]}
    plain = contact_sheet([frames], ["real"])
    sheet = contact_sheet([frames], ["real"], notes=notes, marked={0})
    assert sheet.shape[0] == plain.shape[0] + 2 * 16 and sheet.shape[1] > plain.shape[1]
    amber = (sheet == (245, 170, 60)).all(-1)
    rows, columns = np.nonzero(amber)
    assert rows.max() - rows.min() == 39 and columns.max() - columns.min() == 59  # the first one alone, doubled


def test_a_contact_sheet_asks_for_rows_of_one_shape_and_a_label_each():
    with pytest.raises(ValueError, match="rows of one shape"):
        contact_sheet([moving(t=2), moving(t=3)], ["a", "b"])
    with pytest.raises(ValueError, match="one label per row"):
        contact_sheet([moving()], ["a", "b"])


def test_a_video_reaches_the_event_file(tmp_path):
    frames = moving()
    with SummaryWriter(str(tmp_path)) as writer:
        log_video(writer, "dream", frames, step=7, fps=10)
    (event,) = EventAccumulator(str(tmp_path)).Reload().Images("dream")
    assert (event.step, event.height, event.width) == (7, 47, 61)
    with Image.open(io.BytesIO(event.encoded_image_string)) as gif:
        assert gif.format == "GIF" and frames_in(gif) == 9


def test_a_video_is_written_from_an_iterator_that_is_read_frame_by_frame(tmp_path):
    alive, most = [0], [0]

    def one_by_one():
        for frame in moving(t=9):
            alive[0] += 1
            most[0] = max(most[0], alive[0])
            yield frame
            alive[0] -= 1  # asked for the next one: this one is written

    raw, _ = decode(write_video(tmp_path / "a.mp4", one_by_one()))
    assert most == [1] and len(raw) == len(decode(write_video(tmp_path / "b.mp4", moving(t=9)))[0])
    with pytest.raises(ValueError, match="at least one frame"):
        write_video(tmp_path / "c.mp4", iter([]))
