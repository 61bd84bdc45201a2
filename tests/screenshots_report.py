"""The picture of the run page in the docs: `python -m tests.screenshots_report` makes docs/report.png anew."""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

from tests.helpers_scripts import run
from worldmodel.evaluate.page.run_page import write_run_page

ROOT = Path(__file__).parents[1]
MOST = 300_000  # bytes of a picture in the docs
SECONDS = 1.2  # of the film that have passed in the picture
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def report_page(path: Path = ROOT / "docs" / "report.png", width: int = 1100, height: int = 900) -> Path:
    """Write a screenshot of the run page of the world `maze`, beside episodes that are collected for it."""
    with tempfile.TemporaryDirectory() as folder:
        run("collect", "preset=maze", "episodes=40", "workers=0", folder=Path(folder))
        page = write_run_page(folder, world="maze")
        page.write_text(page.read_text().replace(folder, "runs/maze"))
        return screenshot(page, path, width, height)


def screenshot(page: Path, path: Path, width: int, height: int, dark: bool = False) -> Path:
    """A picture of a page as a browser without a window shows it, of at most 300 kB."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise FileNotFoundError(f"no browser for screenshots: expected one of {', '.join(BROWSERS)}")
    with tempfile.TemporaryDirectory() as folder:
        later = Path(folder) / "page.html"
        text = page.read_text().replace(" autoplay", "").replace(" controls", "")  # a still picture of a moment
        later.write_text(re.sub(r'(src="data:video/mp4[^"]*)"', rf'\1#t={SECONDS}"', text))
        shown = ["--blink-settings=preferredColorScheme=0"] if dark else []
        flags = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={folder}/user",
        ]
        size = [f"--window-size={width},{height}", "--virtual-time-budget=4000", f"--screenshot={folder}/shot.png"]
        subprocess.run([browser, *flags, *shown, *size, later.as_uri()], check=True, capture_output=True, timeout=120)
        image = Image.open(f"{folder}/shot.png").convert("RGB")
    image.save(path, optimize=True)
    if path.stat().st_size > MOST:
        image.quantize(128).save(path, optimize=True)
    return path


if __name__ == "__main__":
    print(report_page())
