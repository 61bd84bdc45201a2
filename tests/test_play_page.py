"""The page in a real browser, by clicks, keys, touches and a gamepad: it shows what the session holds.

With WORLDMODEL_SCREENSHOTS=FOLDER the picture of the documentation is written there (`make screenshots`).
"""

import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from gymnasium.spaces import Box, MultiDiscrete
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.helpers_browser import CONTRAST, chromium
from tests.helpers_models import space_world
from tests.helpers_play import Echo, endless, served, small_session
from worldmodel import envs
from worldmodel.io.config import from_mapping
from worldmodel.play.session import Session
from worldmodel.world import WorldModel

pytestmark = pytest.mark.slow

WAIT = 20  # seconds until something has to show
WALK = [*["ArrowUp"] * 3, *["ArrowRight"] * 2, *["ArrowUp"] * 4, "ArrowLeft", *["ArrowUp"] * 2]
NAMELESS = """
return [...document.querySelectorAll("button, input, canvas, img, section, [role=group]")]
  .filter((each) => each.checkVisibility() && each.getAttribute("aria-hidden") !== "true")
  .filter((each) => !(each.ariaLabel || each.alt || each.getAttribute("aria-labelledby") || each.textContent.trim()
    || (each.labels && each.labels.length)))
  .map((each) => each.outerHTML);
"""
PAD = """
window.pad = { axes: [0, 0, 0, 0], buttons: Array.from({ length: 16 }, () => ({ pressed: false })) };
navigator.getGamepads = () => [window.pad];
window.dispatchEvent(new Event("gamepadconnected"));
"""


class Browser:
    """A page of a session, and what a person does with it."""

    def __init__(self, driver: webdriver.Chrome, session: Session, address: str):
        self.driver, self.session, self.address = driver, session, address

    def open(self) -> "Browser":
        self.driver.get(self.address)
        return self.until(lambda: self("#dream .frame").is_displayed() or self("#real .frame").is_displayed())

    def __call__(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def click(self, selector: str) -> "Browser":
        self(selector).click()
        return self

    def keys(self, *keys: str) -> "Browser":
        """Press keys one after the other, by their names in JavaScript."""
        for key in keys:
            ActionChains(self.driver, duration=0).send_keys(code(key)).perform()
        return self

    def until(self, holds: Callable[[], Any]) -> "Browser":
        """Wait until something is true."""
        end = time.monotonic() + WAIT
        while not holds():
            assert time.monotonic() < end, "nothing came of it"
            time.sleep(0.02)
        return self

    def until_steps(self, steps: int) -> "Browser":
        """Wait until the page shows this step."""
        return self.until(lambda: self("#status").text.startswith(f"step {steps} "))

    def script(self, text: str, *values: Any) -> Any:
        return self.driver.execute_script(text, *values)

    def shown(self, side: str) -> bytes:
        """The pixels on a canvas, `h w 3`."""
        text = "const c = arguments[0]; return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data];"
        pixels = bytes(self.script(text, self(f"#{side} .frame")))
        return b"".join(pixels[i : i + 3] for i in range(0, len(pixels), 4))

    def touch(self, selector: str, kind: str) -> None:
        place = self(selector).rect
        x, y = place["x"] + place["width"] / 2, place["y"] + place["height"] / 2 - self.script("return scrollY")
        points = [{"x": x, "y": y}] if kind == "touchStart" else []
        self.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    def size(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def colors(self, scheme: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def code(key: str) -> str:
    names = {"ArrowUp": "ARROW_UP", "ArrowDown": "ARROW_DOWN", "ArrowLeft": "ARROW_LEFT", "ArrowRight": "ARROW_RIGHT"}
    return getattr(Keys, names[key]) if key in names else key


@pytest.fixture(scope="module")
def driver() -> Iterator[webdriver.Chrome]:
    yield from chromium()


@pytest.fixture(scope="module")
def maze() -> WorldModel:
    return WorldModel.load("worldmodel:maze")


@pytest.fixture
def page(driver, maze, tmp_path) -> Iterator[Browser]:
    """The page of the maze; nothing may have gone wrong in the browser at the end."""
    make_env = partial(envs.make, from_mapping(envs.schema("maze"), maze.info.env, "env"))
    yield from opened(driver, Session(maze, make_env, name="maze", seed=5, out=tmp_path))


def opened(driver: webdriver.Chrome, session: Session) -> Iterator[Browser]:
    session.warm_up()
    driver.get_log("browser")
    with served(session) as address:
        browser = Browser(driver, session, address)
        browser.size(1280, 860)
        browser.colors("light")
        yield browser.open()
        assert [each for each in driver.get_log("browser") if "getImageData" not in each["message"]] == []
        driver.get("about:blank")


def test_the_page_shows_the_frame_and_names_every_action(page):
    assert page.shown("dream") == page.session.now.sides["dream"].frame.tobytes()
    words = [button.text.split("\n") for button in page.all("#actions button")]
    assert words[:4] == [["noop", "1"], ["forward", "↑ W 2"], ["backward", "↓ S 3"], ["turn left", "← 4"]]
    assert page("#name").text == "maze" and page("#status").text == "step 0 · trusted until 27 · paused"


def test_while_paused_each_press_of_a_key_or_a_button_is_one_step(page):
    page.keys("ArrowUp", "w", "4").until_steps(3)
    page.click("#actions button[data-value='1']").until_steps(4)
    page.click("#step").until_steps(5)
    page.keys(".").until_steps(6)
    expected = Session(page.session.world, name="maze", seed=5)
    for action in (1, 1, 3, 1, 0, 0):
        expected.step(action)
    assert page.shown("dream") == expected.now.sides["dream"].frame.tobytes()
    assert page.session.paused and len(expected.now.surprise) == 6
    assert page("#surprise").text == f"{expected.now.surprise[-1]:.1f}"


def test_space_plays_and_a_key_is_held_until_it_is_released(page):
    page.keys(" ").until(lambda: not page.session.paused and page.session.now.steps > 3)
    ActionChains(page.driver).key_down(Keys.ARROW_UP).perform()
    page.until(lambda: page.session.held == 1)
    page.until(lambda: page("#actions button[data-value='1']").get_attribute("aria-pressed") == "true")
    ActionChains(page.driver).key_up(Keys.ARROW_UP).perform()
    page.until(lambda: page.session.held is None)
    spoken = "return document.querySelector('#spoken').textContent"
    assert page.script(spoken) == "playing"
    page.keys(" ").until(lambda: page("#pause").text == "Play" and page.session.paused)
    page.until(lambda: page.script(spoken) == "paused")


def test_a_button_is_held_by_the_mouse_and_by_a_finger(page):
    page.click("#pause").until(lambda: page("#pause").text == "Pause")
    right = page("#actions button[data-value='4']")
    ActionChains(page.driver).click_and_hold(right).perform()
    page.until(lambda: page.session.held == 4)
    ActionChains(page.driver).release().perform()
    page.until(lambda: page.session.held is None)
    page.touch("#actions button[data-value='3']", "touchStart")
    page.until(lambda: page.session.held == 3)
    page.touch("#actions button[data-value='3']", "touchEnd")
    page.until(lambda: page.session.held is None)


def test_a_button_that_was_reached_by_tab_works_by_enter(page):
    page.script("arguments[0].focus()", page("#actions button[data-value='2']"))
    page.keys(Keys.ENTER).until_steps(1)
    page.until(lambda: page.session.held is None)
    page.script("arguments[0].focus()", page("#keep"))
    page.keys(" ").until(lambda: len(page.session.kept) == 1)


def test_moments_are_kept_come_back_and_branch(page):
    page.keys("ArrowUp", "ArrowUp").until_steps(2)
    page.click("#keep").until(lambda: len(page.all("#moments li")) == 1)
    page.keys("ArrowUp", "ArrowUp").until_steps(4)
    first = page.shown("dream")
    page.click("#moments [data-command=back]").until_steps(2)
    page.keys("ArrowUp", "ArrowUp").until_steps(4)
    assert page.shown("dream") == first
    page.keys("n").until_steps(2).keys("ArrowUp", "ArrowUp").until_steps(4)
    assert page.shown("dream") != first
    page.keys("b").until_steps(2).keys("k").until(lambda: len(page.all("#moments li")) == 2)
    assert "after 1" in page.all("#moments li span")[1].text
    page.click("#moments [data-command=forget]").until(lambda: len(page.all("#moments li")) == 1)
    assert [*page.session.kept] == [2]


def test_both_sides_and_the_tokens_are_shown(page):
    page.click("[data-mode=both]").until(lambda: page("#real").is_displayed())
    page.keys("ArrowUp").until_steps(1)
    for name, side in page.session.now.sides.items():
        assert page.shown(name) == side.frame.tobytes()
    assert not page("#dream .tokens").is_displayed()
    page.keys("t").until(lambda: page("#dream .tokens").is_displayed())
    assert page.script("return document.querySelector('#dream .tokens').width") == 8 * 32
    page.keys("m").until(lambda: not page("#dream").is_displayed() and page.session.now.mode == "real")


def test_settings_reach_the_session(page):
    page.click("#next-seed").until(lambda: page.session.now.seed == 6)
    page("#seed").clear()
    page("#seed").send_keys("41", Keys.ENTER)
    page.until(lambda: page.session.now.seed == 41)
    for name, value in (("fps", 30), ("temperature", 0.5)):
        page.script(f"const s = arguments[0]; s.value = {value}; s.dispatchEvent(new Event('input'))", page(f"#{name}"))
        page.until(lambda: getattr(page.session, name) == value)  # noqa: B023
    assert page("#temperature-value").text == "0.50"
    page.click("#own-temperature").until(lambda: page.session.temperature is None)
    page.keys("ArrowUp").until_steps(1).keys("r").until_steps(0)


def test_a_recording_can_be_downloaded(page, tmp_path):
    page.click("#record").until(lambda: page("#record").text == "Stop recording")
    page.keys("ArrowUp", "ArrowUp").until_steps(2)
    page.click("#record").until(lambda: page.all("#notes a"))
    assert page("#notes a").get_attribute("href") == f"{page.address}videos/play_000000.mp4"
    assert (tmp_path / "dream/episodes/episode_000000.h5").is_file()


def test_a_bad_seed_is_answered_on_the_page(page):
    page("#seed").clear()
    page("#seed").send_keys("-5", Keys.ENTER)
    page.until(lambda: page.all("#notes .error"))
    assert "seed: expected 0 to 2147483647, got -5" in page("#notes .error").text


def test_a_second_window_sees_the_same_and_may_act(page):
    first = page.driver.current_window_handle
    page.driver.switch_to.new_window("window")
    page.open().keys("ArrowUp").until_steps(1)
    second = page.shown("dream")
    page.driver.close()
    page.driver.switch_to.window(first)
    page.until_steps(1)
    assert page.shown("dream") == second


def test_a_gamepad_presses_actions_and_starts_play(page):
    page.script(PAD)
    page.script("pad.axes[1] = -1")
    page.until_steps(1)
    page.script("pad.axes[1] = 0; pad.buttons[9].pressed = true")
    page.until(lambda: not page.session.paused)
    page.script("pad.buttons[14].pressed = true")
    page.until(lambda: page.session.held == 3)
    page.script("pad.buttons[14].pressed = false")
    page.until(lambda: page.session.held is None)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(360, 740), (1280, 860)])
def test_every_text_is_readable_and_nothing_is_wider_than_the_screen(page, scheme, width, height):
    page.colors(scheme)
    page.size(width, height)
    page.click("[data-mode=both]").click("#keep").click("#record").click("summary")
    page.until(lambda: page.all("#moments li") and page("#real").is_displayed())
    time.sleep(0.3)
    assert page.script(CONTRAST) == [] and page.script(NAMELESS) == []
    assert page.script("return document.documentElement.scrollWidth") <= width
    heights = [button.size["height"] for button in page.all("#stage button")]
    assert min(heights) >= 44


def test_a_lost_connection_is_told_and_found_again(driver, tmp_path):
    session = small_session(tmp_path)
    with served(session) as address:
        page = Browser(driver, session, address).open()
    page.until(lambda: page("#status").text == "connection lost; trying again …")
    driver.get("about:blank")
    driver.get_log("browser")


def test_a_world_of_a_box_is_played_by_sliders_keys_and_sticks(driver, tmp_path):
    space = Box(-1, 1, (3,))
    session = small_session(tmp_path, make_env=lambda: Echo(space=space), world=endless(space_world(space)))
    for page in opened(driver, session):
        assert len(page.all("#actions input[type=range]")) == 3
        ActionChains(driver).key_down(Keys.ARROW_RIGHT).perform()
        page.until(lambda: session.held == [1, 0, 0])
        ActionChains(driver).key_up(Keys.ARROW_RIGHT).perform()
        page.until(lambda: session.held == [0, 0, 0])
        text = "const s = arguments[0]; s.value = -0.5; s.dispatchEvent(new Event('input'))"
        page.script(text, page.all("#actions input")[2])
        page.until(lambda: session.held == [0, 0, -0.5])
        page.click("#step").until_steps(1)
        page.script(PAD)
        page.script("pad.axes[1] = -0.5")
        page.until(lambda: session.held == [0, 0.5, -0.5])


def test_a_world_of_several_choices_has_a_row_for_each(driver, tmp_path):
    space = MultiDiscrete([3, 2])
    session = small_session(tmp_path, make_env=None, world=endless(space_world(space)))
    for page in opened(driver, session):
        assert [len(row.find_elements(By.TAG_NAME, "button")) for row in page.all("#actions .row")] == [3, 2]
        page.click("#actions .row:nth-child(2) button:nth-of-type(2)").until(lambda: session.held == [0, 1])
        page.click("#step").until_steps(1)
        assert not page("[data-mode=both]").is_enabled()


def test_the_picture_of_the_documentation_can_be_made(page, tmp_path):
    """A walk with both sides and two kept moments; written only when it is asked for."""
    page.click("[data-mode=both]").until(lambda: page("#real").is_displayed())
    page.keys(*WALK[:6]).until_steps(6).keys("k").until(lambda: len(page.all("#moments li")) == 1)
    page.keys(*WALK[6:]).until_steps(12).keys("k").until(lambda: len(page.all("#moments li")) == 2)
    folder = Path(os.environ.get("WORLDMODEL_SCREENSHOTS") or tmp_path)
    path = folder / "play.png"
    page.driver.save_screenshot(str(path))
    with Image.open(path, formats=("PNG",)) as image:
        assert image.size == (1280, 860)
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    assert path.stat().st_size < 300_000
