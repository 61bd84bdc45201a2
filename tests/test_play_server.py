"""The server of the page: what it answers, whom it refuses, and that nothing that arrives ends it."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gymnasium.spaces import Discrete
from starlette.datastructures import Headers
from starlette.testclient import TestClient, WebSocketTestSession
from starlette.websockets import WebSocket, WebSocketDisconnect

from tests.helpers_play import small_session
from tests.test_settings import config_of
from worldmodel.cli.tools.play import PlayConfig, real_env_of
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.info import WorldInfo
from worldmodel.play.guard import Guard
from worldmodel.play.messages import read_frame
from worldmodel.play.room import FRAMES_WAITING, Viewer
from worldmodel.play.server import PAGE, bind, make_app, url
from worldmodel.play.session import Session

HERE = "http://127.0.0.1:8000"
SOCKET = "ws://127.0.0.1:8000/ws"
ROOT = Path(__file__).parents[1]


class Page:
    """What a page knows of the session behind it."""

    def __init__(self, connection: WebSocketTestSession):
        self.connection = connection
        self.texts: list[dict[str, Any]] = []
        self.state: dict[str, Any] = {}
        self.pixels: dict[str, bytes] = {}
        while not self.state:
            self.receive()

    def receive(self) -> None:
        message = self.connection.receive()
        if message.get("text") is not None:
            self.texts.append(json.loads(message["text"]))
        else:
            self.state, self.pixels = read_frame(message["bytes"])

    def send(self, command: str, **values: Any) -> "Page":
        """Send a command, and read until the frame that answers it."""
        self.connection.send_text(json.dumps({"do": command, **values}))
        return self.until_frame()

    def until_frame(self) -> "Page":
        self.state = {}
        while not self.state:
            self.receive()
        return self

    def last(self, kind: str) -> dict[str, Any]:
        return [each for each in self.texts if each["type"] == kind][-1]


@pytest.fixture
def session(tmp_path) -> Session:
    return small_session(tmp_path)


@pytest.fixture
def client(session) -> Iterator[TestClient]:
    with TestClient(make_app(session), base_url=HERE) as client:
        yield client


@pytest.fixture
def page(client) -> Iterator[Page]:
    with client.websocket_connect(SOCKET) as connection:
        yield Page(connection)


def test_a_viewer_first_learns_all_there_is(page, session):
    hello, line = page.texts
    assert (hello["type"], line["type"]) == ("hello", "line") and line["kept"] == []
    assert [each["name"] for each in hello["controls"]["rows"][0]["choices"]] == ["noop", "forward", "left", "right"]
    assert page.state["paused"] and page.state["steps"] == 0 and page.state["seed"] == 3
    assert page.pixels["dream"] == session.now.sides["dream"].frame.tobytes()


def test_steps_keep_back_and_branch_arrive_with_their_frames(page, session):
    page.send("step", action=1).send("keep")
    (kept,) = page.last("line")["kept"]
    assert kept["number"] == 1 and kept["steps"] == 1 and kept["picture"].startswith("data:image/png;base64,")
    first = page.send("step", action=2).pixels
    page.send("back", moment=1)
    assert page.state["steps"] == 1 and page.last("line")["curve"] == [pytest.approx(session.now.surprise[0], abs=1e-3)]
    assert page.send("step", action=2).pixels == first
    assert page.send("branch", moment=1).send("step", action=2).pixels != first
    page.send("forget", moment=1)
    assert page.last("line")["kept"] == []


def test_settings_arrive_and_both_sides_are_sent(page, session):
    page.send("fps", fps=30).send("temperature", temperature=0.5).send("switch", mode="both")
    assert (session.fps, session.temperature) == (30, 0.5)
    assert page.state["mode"] == "both" and [*page.pixels] == ["dream", "real"]
    page.send("temperature", temperature=None).send("reset", seed=9)
    assert session.temperature is None and page.state["seed"] == 9


def test_play_runs_until_it_is_paused(page, session):
    page.send("fps", fps=120).send("hold", action=1).send("pause", on=False)
    while page.state["steps"] < 8:
        page.until_frame()
    while not page.send("pause", on=True).state["paused"]:
        pass
    assert page.state["pressed"] == 1 and len(session.now.surprise) == session.now.steps >= 8


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        ("", "expected a command as JSON text"),
        ("{", "expected a command as JSON text"),
        ("[" * 100_000, "expected a command as JSON text"),
        ("[1]", 'expected a command such as {"do": "keep"}'),
        ('{"do": 3}', 'expected a command such as {"do": "keep"}'),
        ('{"do": "keap"}', "do: there is no command 'keap'; did you mean 'keep'?"),
        ('{"do": "keep", "now": 1}', "keep.now: unknown key"),
        ('{"do": "fps", "fps": 0}', "fps: fps: expected 0.1 to 120, got 0"),
        ('{"do": "fps", "fps": NaN}', "fps.fps: expected a number, got nan"),
        ('{"do": "fps"}', "fps.fps: missing"),
        ('{"do": "temperature", "temperature": "hot"}', "temperature.temperature: expected"),
        ('{"do": "reset", "seed": -1}', "reset: seed: expected 0 to 2147483647, got -1"),
        ('{"do": "reset", "seed": ' + "9" * 4000 + "}", "reset.seed: expected"),
        ('{"do": "step", "action": {"a": 1}}', "action: expected one number of Discrete(4)"),
        ('{"do": "hold", "action": 1e400}', "action: expected one number of Discrete(4)"),
        ('{"do": "back", "moment": 7}', "moment: there is no 7; kept are none"),
        ('{"do": "switch", "mode": "other"}', "switch.mode: expected one of 'dream', 'both', 'real'"),
        (b"\x00\xff", "expected a command as JSON text"),
    ],
    ids=range(18),
)
def test_a_bad_message_is_answered_in_one_line_and_play_goes_on(page, message, answer):
    if isinstance(message, bytes):
        page.connection.send_bytes(message)
    else:
        page.connection.send_text(message)
    page.until_frame()
    note = page.last("note")
    assert note["error"] and note["text"].startswith(answer) and "\n" not in note["text"]
    assert page.send("step", action=1).state["steps"] == 1


def test_a_fault_of_ours_is_told_and_play_goes_on(page, session, monkeypatch, capsys):
    monkeypatch.setattr(session, "keep", lambda: [][1])
    page.send("keep")
    assert page.last("note")["text"].startswith("a fault of worldmodel, not yours (IndexError")
    assert "IndexError" in capsys.readouterr().err
    assert page.send("step", action=1).state["steps"] == 1


def test_a_fault_while_play_runs_pauses_it(page, session, monkeypatch):
    monkeypatch.setattr(session, "tick", lambda: 1 / 0)
    monkeypatch.setattr("traceback.print_exception", lambda error: None)
    page.send("pause", on=False)
    while not page.state["paused"]:
        page.until_frame()
    assert "ZeroDivisionError" in page.last("note")["text"]


def test_all_viewers_see_the_same_and_all_may_act(client, session):
    with client.websocket_connect(SOCKET) as one, client.websocket_connect(SOCKET) as two:
        first, second = Page(one), Page(two)
        first.send("step", action=1)
        assert second.until_frame().pixels == first.pixels and second.state == first.state
        second.send("step", action=2)
        assert first.until_frame().pixels == second.pixels and session.now.steps == 2


def test_frames_of_a_step_that_play_has_left_are_not_sent(tmp_path):
    session = small_session(tmp_path, time_stride=4)
    with TestClient(make_app(session), base_url=HERE) as client, client.websocket_connect(SOCKET) as connection:
        page = Page(connection)
        page.send("fps", fps=2).send("pause", on=False)
        while page.state["steps"] == 0:
            page.until_frame()
        page.send("pause", on=True).send("reset", seed=5)
        assert page.state["steps"] == 0
        time.sleep(1.2)  # two frames would have come
        connection.send_text('{"do": "fps", "fps": 3}')
        while page.state["fps"] != 3:
            assert page.until_frame().state["steps"] == 0


def test_an_action_is_released_when_its_viewer_leaves_and_not_by_another(client, session):
    with client.websocket_connect(SOCKET) as one:
        page = Page(one)
        with client.websocket_connect(SOCKET) as two:
            Page(two).send("hold", action=2)
            one.send_text('{"do": "hold", "action": null}')
            page.until_frame().send("fps", fps=20)
            assert session.held == 2
        page.send("fps", fps=30)
        assert session.held is None


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"origin": "http://evil.example"}, "Origin: expected a page of http://127.0.0.1:8000"),
        ({"origin": "null"}, "Origin"),
        ({"origin": "http://127.0.0.1:9000"}, "Origin"),
        ({"host": "evil.example"}, "Host: expected this machine's name or address, got 'evil.example'"),
        ({"host": "evil.example:8000", "origin": "http://evil.example:8000"}, "Host"),
        ({"host": ""}, "Host"),
        ({"host": "[::1"}, "Host"),
        ({"host": "127.0.0.1.evil.example"}, "Host"),
    ],
)
def test_pages_of_other_sites_and_other_names_are_refused(client, headers, words):
    answer = client.get("/", headers=headers)
    assert answer.status_code == 403 and answer.text.startswith(words)
    with pytest.raises(WebSocketDisconnect) as refused, client.websocket_connect(SOCKET, headers=headers):
        pass
    assert refused.value.code == 1008


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "[::1]:80", "LOCALHOST:1", "192.168.0.7:8000"])
def test_names_and_addresses_of_this_machine_are_served(client, host):
    assert client.get("/", headers={"host": host, "origin": f"http://{host}"}).status_code == 200
    with client.websocket_connect(SOCKET, headers={"host": host, "origin": f"http://{host}"}) as connection:
        assert Page(connection).state["steps"] == 0


def test_the_name_that_the_server_listens_on_is_served_too():
    async def nothing(scope, receive, send) -> None: ...

    guard = Guard(nothing, ["box.lan"])
    assert guard.problem(Headers({"host": "box.lan:8000"})) is None
    assert guard.problem(Headers({"host": "other.lan:8000"})) is not None


def test_a_websocket_elsewhere_is_refused(client):
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("ws://127.0.0.1:8000/other"):
        pass


def test_the_page_is_whole_and_needs_nothing_from_elsewhere(client):
    for path in PAGE.iterdir():
        answer = client.get(f"/{path.name}")
        assert answer.status_code == 200 and "default-src 'self'" in answer.headers["content-security-policy"]
        assert "http://" not in answer.text and "https://" not in answer.text
    assert client.get("/").text == (PAGE / "index.html").read_text()
    assert client.get("/play.js").headers["content-type"].startswith("text/javascript")
    assert client.get("/../session.py").status_code == 404


def test_a_recording_is_announced_once_and_its_video_can_be_fetched(page, client):
    page.send("record", on=True).send("step", action=1).send("step", action=2).send("record", on=False)
    page.send("fps", fps=10)
    saved = [each for each in page.texts if each["type"] == "saved"]
    assert len(saved) == 1 and saved[0]["videos"] == ["/videos/play_000000.mp4"]
    assert client.get(saved[0]["videos"][0]).content[4:8] == b"ftyp"
    assert {client.get(f"/videos/{name}").status_code for name in ("other.mp4", "..%2f..%2fx", "")} == {404}
    assert EpisodeStore.open(saved[0]["paths"][1]).actions(0).tolist() == [1, 2]


def test_what_is_recorded_is_saved_when_the_server_ends(tmp_path):
    with (
        TestClient(make_app(small_session(tmp_path)), base_url=HERE) as client,
        client.websocket_connect(SOCKET) as one,
    ):
        Page(one).send("record", on=True).send("step", action=1)
    assert EpisodeStore.open(tmp_path / "dream/episodes").indices == (0,)


def test_a_slow_viewer_misses_old_frames_and_no_text():
    viewer = Viewer(WebSocket({"type": "websocket"}, None, None))  # pyright: ignore[reportArgumentType]
    for n in range(20):
        viewer.put(bytes([n]))
    viewer.put("text")
    assert [*viewer.waiting] == [*(bytes([20 - FRAMES_WAITING + n]) for n in range(FRAMES_WAITING)), "text"]


def test_where_the_port_is_taken_another_one_is_used():
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with bind("127.0.0.1", port) as other:
            assert other.getsockname()[1] not in (0, port) and url(other).startswith("http://127.0.0.1:")


@pytest.mark.parametrize("host", ["192.0.2.1", "nowhere.invalid"])
def test_a_host_that_is_not_this_machine_is_refused(host):
    with pytest.raises(OSError, match="host, port: expected a name or address of this machine"):
        bind(host, 8000)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("port=70000", "port: expected 0 to 65535, got 70000"),
        ("fps=0", "fps: expected 0.1 to 120, got 0"),
        ("seed=-1", "seed: expected 0 to 2147483647, got -1"),
    ],
)
def test_a_setting_out_of_range_is_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        config_of("play", setting)


def test_the_real_environment_is_left_out_where_it_is_unknown_or_the_world_is_a_strangers(tmp_path):
    maze, unknown = (WorldInfo((64, 64, 3), Discrete(7), env=env) for env in ({"name": "maze"}, {}))
    assert real_env_of(PlayConfig(), maze) is not None
    assert real_env_of(PlayConfig(), unknown) is None and real_env_of(PlayConfig(real=False), maze) is None
    assert real_env_of(PlayConfig(world=Path("hf://some/one")), maze) is None
    with pytest.raises(ValueError, match="does not say which environment"):
        real_env_of(PlayConfig(real=True), unknown)


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_command_in_one_line(tmp_path, signum):
    command = [sys.executable, "-m", "worldmodel", "play", "world=maze", "port=0", "open=false", f"run={tmp_path}"]

    def heard() -> None:  # a shell's & leaves SIGINT ignored, and nohup SIGHUP
        signal.signal(signum, signal.SIG_DFL)

    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=ROOT, **pipes, preexec_fn=heard)
    assert process.stdout is not None
    address = process.stdout.readline().removeprefix("play: ").strip()
    host, port = address.removeprefix("http://").strip("/").split(":")
    socket.create_connection((host, int(port))).close()
    for _ in range(2):  # as wrappers do
        process.send_signal(signum)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 128 + signum
    assert error.splitlines()[-1:] == ["stopped; the same command starts this work again"]
    assert "Traceback" not in error and len(error.splitlines()) <= 2  # the other one: that kernels are compiled
