"""Before any test imports the package: check every annotated shape, and start every test from one seed."""

import os
from pathlib import Path

# Tiny models gain nothing from threads, and two test processes would fight over them.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from jaxtyping import install_import_hook

# Must come before the first import of worldmodel. The tower: an int will do where a float is asked for (PEP 484).
# The kernels are left out: numba compiles them as they stand.
ROOT = Path(__file__).parents[1]
FILES = (path.relative_to(ROOT).with_suffix("") for path in sorted((ROOT / "worldmodel").rglob("*.py")))
MODULES = {".".join(path.parts).removesuffix(".__init__") for path in FILES}
LEFT_OUT = {"worldmodel", "worldmodel.kernels", "worldmodel.kernels.compiled"}  # a name stands for all below it too
COMMANDS = {name for name in MODULES if name.startswith(("worldmodel.cli", "worldmodel.__main__"))}  # no shapes there
install_import_hook(
    sorted(MODULES - LEFT_OUT - COMMANDS),
    "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))",
)

import pytest  # noqa: E402
import torch  # noqa: E402


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Random tensors are the same in every run, alone or among others."""
    torch.manual_seed(0)
