"""Files from outside pass one door: nothing else in the package opens a file to read it, but for a short list."""

import ast
from pathlib import Path

import pytest

from tests.test_untrusted import ROOT

OPENERS = {"h5py.File", "Image.open", "PIL.Image.open", "np.load", "np.loadtxt", "np.genfromtxt", "np.fromfile"}
OPENERS |= {"load_file", "safe_open", "torch.jit.load", "json.load", "tarfile.open", "zipfile.ZipFile", "os.open"}
METHODS = {"read_bytes", "read_text", "cat_file"}  # of a Path, or of a file system

# Who may open what, and why; what they read has passed `worldmodel.io.untrusted` before.
KNOWN = {
    "checkpoint.py": {"load_file", "os.open"},  # after tensor_shapes; a folder that is flushed
    "chunks.py": {"h5py.File"},  # a file in memory that is made there
    "hdf5.py": {"h5py.File"},  # written in memory
    "remote.py": {"cat_file"},  # with a ceiling
    "frechet.py": {"torch.jit.load"},  # after check_regular; the user names that program
    "files.py": {"open"},  # locks what is to be swept away; reads nothing
    "frames.py": {"open", "Image.open"},  # formats of others have doors of their own: no size, no film
    "pictures.py": {"Image.open"},  # bytes in memory, as PNG alone
    "npz.py": {"np.load", "zipfile.ZipFile"},  # after open_regular; headers are checked before arrays
    "kept.py": {"read_bytes"},  # numba's own files, under a seal
    "threads.py": {"read_text"},  # the kernel's files of control groups
    "store.py": {"read_bytes"},  # adopts episodes that were checked
}


def openers(tree: ast.AST) -> set[str]:
    """What in this code opens a file to read it."""
    found = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if name in OPENERS or (name == "open" and not writes(node)):
            found.add(name)
        if isinstance(node.func, ast.Attribute):
            method = node.func.attr
            if method in METHODS or (method == "open" and "Path" in name and not writes(node)):
                found.add(method)
    return found


def writes(call: ast.Call) -> bool:
    """Whether a call of `open` makes a file anew."""
    given = [*call.args[1:2], *(word.value for word in call.keywords if word.arg == "mode")]
    return any(isinstance(mode, ast.Constant) and str(mode.value)[0] in "wxa" for mode in given)


def test_nothing_outside_the_door_opens_files_of_strangers() -> None:
    rooms = [path for path in (ROOT / "worldmodel").rglob("*.py") if "io" not in path.parts]
    assert len(rooms) > 60
    found = {path.name: openers(ast.parse(path.read_text())) for path in rooms}
    strangers = {name: calls - KNOWN.get(name, set()) for name, calls in found.items()}
    assert {name: calls for name, calls in strangers.items() if calls} == {}


@pytest.mark.parametrize(
    "code",
    [
        "open(p)",
        "open(p, 'rb')",
        "open(p, mode='r+')",
        "Path(p).open()",
        "h5py.File(p)",
        "json.loads(p.read_text())",
        "Image.open(p)",
        "system.cat_file(p)",
    ],
)
def test_the_search_for_openers_finds_them(code: str) -> None:
    assert openers(ast.parse(code))
    assert not openers(ast.parse("open(p, 'xb'); read_bytes(p, 5); EpisodeStore.open(p); open(p, 'w')"))


def test_readers_that_are_known_exist() -> None:
    names = {path.name for path in Path(ROOT / "worldmodel").rglob("*.py")}
    assert KNOWN.keys() - names <= {"frames.py", "pictures.py", "npz.py"}
