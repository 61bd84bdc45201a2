"""Dreams in processes of their own: forked and spawned workers dream what the parent dreams, and none hangs."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers_models import small_world

ROOT = Path(__file__).parents[1]

PROGRAM = """
import gymnasium
import numpy as np

ID, WORLD, CONTEXT = {id!r}, {world!r}, {context!r}
if __name__ == "__main__":
    alone = gymnasium.make(ID, world=WORLD)  # the parent has dreamed before: its threads run
    first = [alone.reset(seed=5)[0], alone.step(1)[0]]
    how = dict(vectorization_mode="async", vector_kwargs=dict(context=CONTEXT))
    many = gymnasium.make_vec(ID, num_envs=2, world=WORLD, **how)
    seen = [many.reset(seed=5)[0][0], many.step(np.ones(2, int))[0][0]]
    many.close()
    print("same" if all(map(np.array_equal, first, seen)) else "other")
"""


@pytest.mark.slow
@pytest.mark.parametrize("context", [None, "spawn"])  # None: fork, where Python forks by default
def test_workers_of_any_start_method_dream_what_the_parent_dreams(context, tmp_path):
    small_world().save(tmp_path / "world")
    program = tmp_path / "program.py"
    # The id names the module, so that the program and its workers find the dream without importing worldmodel.
    values = {"id": "worldmodel:worldmodel/Dream-v0", "world": str(tmp_path / "world"), "context": context}
    program.write_text(PROGRAM.format(**values), encoding="utf-8")
    env = {**os.environ, "OMP_NUM_THREADS": "2", "PYTHONPATH": str(ROOT)}  # two threads: with one, nothing hung
    command = [sys.executable, str(program)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    started = subprocess.Popen(command, cwd=tmp_path, env=env, start_new_session=True, **pipes)
    try:
        assert started.communicate(timeout=120)[0] == "same\n"
    finally:
        if hasattr(os, "killpg"):  # where it hung, its workers hang as well
            with contextlib.suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)
