"""The examples of CONTRIBUTING.md run."""

import re
from pathlib import Path

import pytest

EXAMPLES = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_run(example: str) -> None:
    exec(compile(example, "CONTRIBUTING.md", "exec"), {})


def test_there_are_examples() -> None:
    assert EXAMPLES
