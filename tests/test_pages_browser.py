"""The report in a real browser: no wider than a phone, readable in the light and in the dark, its films play."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver

from tests.helpers_browser import CONTRAST, chromium
from tests.helpers_evaluate import brightening, brightening_tokens, brightening_world
from tests.helpers_models import REWARDS
from tests.test_report import CONFIG
from worldmodel.evaluate.page.report_page import report_page
from worldmodel.evaluate.report import EvaluationContext, measure

pytestmark = pytest.mark.slow
WIDEST = "return Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)"
FILMS = "return [...document.querySelectorAll('video')].map((each) => [each.error, each.videoWidth])"


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """A report.html of an untrained world."""
    folder = tmp_path_factory.mktemp("run")
    store, world = brightening(folder, episodes=5), brightening_world(rewards=REWARDS)
    context = EvaluationContext(world, store, brightening_tokens(world, store, folder), CONFIG)
    (folder / "report.html").write_text(report_page(context, measure(context, show=False)))
    return folder / "report.html"


@pytest.fixture(scope="module")
def driver() -> Iterator[webdriver.Chrome]:
    yield from chromium()


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (390, "dark"), (1200, "light")])
def test_the_report_fits_every_width_and_can_be_read_in_light_and_dark(page, driver, width, scheme):
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    driver.get(page.as_uri())
    assert driver.execute_script(WIDEST) <= width
    assert driver.execute_script(CONTRAST) == []
    films = driver.execute_script(FILMS)
    assert len(films) > 4 and all(error is None and wide > 0 for error, wide in films)
    assert driver.get_log("browser") == []  # nothing is refused, nothing fails
