"""Chromium without a window, for tests of pages."""

import os
import shutil
from collections.abc import Iterator

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

WANTED = "Chromium and its driver are not here; on Debian: apt-get install chromium chromium-driver"
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")
# The contrast of each visible text with what is behind it, as WCAG computes it; those below 4.5.
CONTRAST = """
const channels = (color) => color.match(/[\\d.]+/g).map(Number);
const light = (c) => { c /= 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
const luminance = ([r, g, b]) => 0.2126 * light(r) + 0.7152 * light(g) + 0.0722 * light(b);
const behind = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const color = channels(getComputedStyle(at).backgroundColor);
    if (color.length === 3 || color[3] > 0) return color;
  }
  return [255, 255, 255];
};
const texts = "h1, h2, p, button:not(:disabled), label, summary, figcaption, small, output, kbd";
return [...document.querySelectorAll(texts)]
  .filter((each) => each.checkVisibility() && each.textContent.trim())
  .map((each) => {
    const [a, b] = [luminance(channels(getComputedStyle(each).color)), luminance(behind(each))];
    return [each.textContent.trim().slice(0, 30), (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
  })
  .filter(([_, ratio]) => ratio < 4.5);
"""


def chromium() -> Iterator[webdriver.Chrome]:
    """A browser, closed at the end. Where there is none, the test is skipped, and fails in CI."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    service = shutil.which("chromedriver") or shutil.which("chromium.chromedriver")
    if program is None or service is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(WANTED)
    options = webdriver.ChromeOptions()
    options.binary_location = program
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in FLAGS:
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(service))
    yield driver
    driver.quit()
