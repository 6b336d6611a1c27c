"""The house law that a machine can hold."""

import ast
import subprocess
import sys
from pathlib import Path

import halftone

SOURCE = Path(halftone.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
ROOT = SOURCE.parents[1]


def test_no_file_is_long_without_a_reason() -> None:
    long = {}
    for path in FILES:
        lines = path.read_text("utf-8").splitlines()
        docstring = ast.get_docstring(ast.parse("\n".join(lines))) or ""
        if len(lines) > 300 and "long because" not in docstring:
            long[path.name] = len(lines)
    assert long == {}


def test_no_function_is_long_without_a_reason() -> None:
    long = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > 60 and "long because" not in (ast.get_docstring(node) or ""):
                    long[f"{path.name}:{node.name}"] = length
    assert long == {}


def test_only_the_command_line_prints() -> None:
    printing = []
    for path in FILES:
        if "cli" in path.relative_to(SOURCE).parts:
            continue
        calls = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
        printing += [f"{path.name}:{call.lineno}" for call in calls if ast.unparse(call.func) == "print"]
    assert printing == []


def test_D33_nothing_forks_but_the_trainer_of_comparisons() -> None:
    """Decoding takes threads, and a fork would lose them; new processes are started, not forked."""
    forking = {"os.fork", "os.forkpty", "pty.fork"}
    found = set()
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            several = any(name.startswith("multiprocessing") for name in [*names, module])
            several |= bool({"ProcessPoolExecutor", "DataLoader"} & set(names))
            if several or (isinstance(node, ast.Call) and ast.unparse(node.func) in forking):
                found.add(path.relative_to(SOURCE).as_posix())
    assert found == {"comparison/trainers/trainer.py"}


def test_D33_the_trainer_has_no_thread_but_its_own_when_it_forks() -> None:
    """NumPy's OpenBLAS may have begun some; it ends them before a fork by a handler of its own."""
    if not Path("/proc/self/task").is_dir():
        return
    code = (
        "import importlib, os\n"
        "from halftone.comparison.trainers import trainer\n"
        "for name in trainer._NEEDED_BY_ALL: importlib.import_module(name)\n"
        "if not os.fork(): os._exit(0)\n"
        "print(len(os.listdir('/proc/self/task')))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120)
    assert done.stdout == "1\n"


def test_public_names_exist_and_are_listed() -> None:
    assert sorted(halftone.__all__) == halftone.__all__
    for name in halftone.__all__:
        assert getattr(halftone, name) is not None
    assert set(halftone._WHERE) | {"__version__"} == set(halftone.__all__)


def test_import_and_help_do_not_import_torch() -> None:
    code = (
        "import sys, halftone\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules\n"
        "from halftone.cli.main import main\n"
        "assert main(['--help']) == 0 and main(['train', '--help']) == 0\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


def test_no_path_of_a_machine_in_the_tree() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    for name in tracked:
        path = ROOT / name
        if path.suffix in {".py", ".md", ".toml", ".yaml", ".yml", ".json", ".j2"} and path.is_file():
            text = path.read_text("utf-8")
            for place in ("/ro" + "ot/", "/ho" + "me/", "/wo" + "rk/"):
                assert place not in text, name
