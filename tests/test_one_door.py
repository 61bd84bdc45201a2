"""Files from outside pass one door: nothing else in the package opens a file to read it, but for a short list."""

import ast

import pytest

from tests.test_untrusted import ROOT

OPENERS = {"h5py.File", "Image.open", "PIL.Image.open", "np.load", "np.loadtxt", "np.genfromtxt", "np.fromfile"}
OPENERS |= {"load_file", "safe_open", "torch.jit.load", "json.load", "tarfile.open", "zipfile.ZipFile", "os.open"}
METHODS = {"read_bytes", "read_text", "cat_file"}  # of a Path, or of a file system

# Who opens what, and why; what strangers gave has passed `worldmodel.io.untrusted` before.
KNOWN = {
    "cli/errors.py": {"os.open"},  # the null device, for output that nobody takes
    "cli/main.py": {"read_text"},  # the package's own modules, for their first sentences
    "io/video.py": {"read_bytes"},  # a video that it has just written
    "kernels/threads.py": {"read_text"},  # what the system says of its cores, in /proc and /sys
    "data/convert/formats/npz.py": {"zipfile.ZipFile"},  # over a file that open_regular opened
    "data/convert/formats/png.py": {"Image.open"},  # bytes in memory, as PNG alone
    "data/episodes/hdf5.py": {"h5py.File"},  # written in memory
    "data/episodes/remote.py": {"cat_file"},  # with a ceiling
    "evaluate/measures/frechet.py": {"torch.jit.load"},  # after check_regular; the user names that program
    "io/files.py": {"open"},  # locks partial files before they are deleted; reads nothing
    "io/folders.py": {"os.open"},  # a folder that is flushed
    "io/hdf5/child.py": {"h5py.File", "Image.open"},  # runs in the sandbox
    "io/hdf5/chunks.py": {"h5py.File"},  # a file in memory that is made there
    "io/lock.py": {"open", "os.open"},  # the file of a lock: plain files only, no links
    "io/tensors_file.py": {"load_file"},  # after tensor_shapes
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
    house = ROOT / "worldmodel"
    rooms = [path for path in house.rglob("*.py") if path != house / "io" / "untrusted.py"]
    assert len(rooms) > 60
    found = {path.relative_to(house).as_posix(): openers(ast.parse(path.read_text())) for path in rooms}
    assert {name: calls for name, calls in found.items() if calls} == KNOWN


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
