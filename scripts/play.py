"""`worldmodel play` for a clone: the same keys, the same results."""

import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[1]))  # the package beside this script, not another one

from worldmodel.cli.main import run

if __name__ == "__main__":
    run("play")
