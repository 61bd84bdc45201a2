"""What the page is sent: JSON for what changes seldom, and one binary message for each new frame.

A binary message is the length of a JSON text as four bytes (little-endian), that text, then the pixels of its
`pictures`, `h w 3` bytes each, in order.
"""

import base64
import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from worldmodel.io.video import png_bytes
from worldmodel.play.moment import Moment
from worldmodel.play.recording import rgb
from worldmodel.play.session import Session, Sides

LARGEST_PICTURE = 96  # pixels of a kept moment's picture, per side


def hello(session: Session) -> str:
    """What the page has to know about the world; sent once to each viewer."""
    world, info = session.world, session.world.info
    return json.dumps({
        "type": "hello", "name": session.name, "controls": session.controls.to_json(),
        "waits": session.controls.idle is None, "real": session.player is not None, "codes": world.tokenizer.codes,
        "rewards": bool(world.prior.rewards), "trust": info.trust_horizon, "longest": info.longest,
        "stride": world.frames_per_step, "own_temperature": info.temperature,
    })  # fmt: skip


def line(session: Session) -> str:
    """The curve of the surprise, and the kept moments; sent after each jump and each change of the list."""
    kept = [{"number": number, **_about(moment)} for number, moment in session.kept.items()]
    curve = [round(each, 3) for each in session.now.surprise]
    return json.dumps({"type": "line", "curve": curve, "kept": kept, "parent": session.now.parent})


def note(text: str, error: bool = False) -> str:
    """A line of text for people."""
    return json.dumps({"type": "note", "text": text, "error": error})


def saved(paths: Sequence[Path]) -> str:
    """Files and folders that were recorded, and the address of each video."""
    videos = [f"/videos/{path.name}" for path in paths if path.suffix == ".mp4"]
    return json.dumps({"type": "saved", "paths": [str(path) for path in paths], "videos": videos})


def frame(session: Session, sides: Sides | None = None) -> bytes:
    """The state of the session, with the pictures of these sides (default: those of now)."""
    sides = session.now.sides if sides is None else sides
    images = {name: rgb(side.frame) for name, side in sides.items()}
    text = json.dumps(_state(session, sides) | {"pictures": [[name, *x.shape[:2]] for name, x in images.items()]})
    head = text.encode()
    return b"".join([struct.pack("<I", len(head)), head, *(image.tobytes() for image in images.values())])


def read_frame(data: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The state and the pixels by side of a message that `frame` made."""
    (length,) = struct.unpack_from("<I", data)
    state, at, pixels = json.loads(data[4 : 4 + length]), 4 + length, {}
    for name, height, width in state["pictures"]:
        pixels[name] = data[at : at + 3 * height * width]
        at += 3 * height * width
    return state, pixels


def _state(session: Session, sides: Sides) -> dict[str, Any]:
    now = session.now
    dreams = "dream" in sides
    return {
        "mode": now.mode, "seed": now.seed, "steps": now.steps, "over": now.over, "paused": session.paused,
        "fps": session.fps, "temperature": session.temperature, "recording": session.recorder.on,
        "pressed": session.pressed, "parent": now.parent,
        "surprise": round(now.surprise[-1], 3) if dreams and now.surprise else None,
        "tokens": now.tokens.tolist() if dreams and now.tokens is not None else None,
        "sides": {name: {"reward": x.reward, "total": x.total, "end": x.end} for name, x in sides.items()},
    }  # fmt: skip


def _about(moment: Moment) -> dict[str, Any]:
    """A kept moment in the list: its place, its picture, and whether it can be branched."""
    first = next(iter(moment.sides.values()))
    every = -(-max(first.frame.shape[:2]) // LARGEST_PICTURE)
    picture = base64.b64encode(png_bytes(rgb(first.frame[::every, ::every]))).decode()
    about = {"steps": moment.steps, "mode": moment.mode, "parent": moment.parent, "seed": moment.seed}
    return about | {"dream": moment.state is not None, "picture": f"data:image/png;base64,{picture}"}
