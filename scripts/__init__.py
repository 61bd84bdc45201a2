"""Commands. They import one another by plain names, also when one is run as `python -m scripts.NAME`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
