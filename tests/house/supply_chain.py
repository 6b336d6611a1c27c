"""What no line of the package may do, read from its syntax tree: run what a file holds, ask the network, trust a guess.

Names are followed through imports and their aliases; a module that is only imported to do harm is a fault by itself.
"""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass

SOCKETS = {"models/published.py"}
"""Files that may open a connection of their own: published weights, checked by their hash."""
OWN_CODE = {"models/own.py"}
"""Files that may run a file of the user's: `--model path.py:Class`."""
IMPORTERS = {"__init__.py", "base/extras.py", "comparison/trainers/trainer.py", *OWN_CODE}
"""Files that may import what a variable names; none of these names comes from a file that is read."""

_PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
_NETWORK = {
    *("requests", "urllib.request", "http.client", "http.server", "socket", "socketserver", "httpx", "aiohttp"),
    *("huggingface_hub", "ftplib", "smtplib", "telnetlib", "xmlrpc", "asyncio", "ssl"),
}
_SHELLS = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "pty.spawn"}
_TEXT_RUNNERS = {"eval", "exec", "compile", "__import__", "builtins.eval", "builtins.exec", "runpy.run_path"}
_SAFE_LOADERS = {"yaml.SafeLoader", "yaml.CSafeLoader"}
_UNSAFE_YAML = {"yaml.unsafe_load", "yaml.unsafe_load_all", "yaml.full_load", "yaml.full_load_all"}
_DOWNLOADERS = {"torch.hub.load", "torch.hub.load_state_dict_from_url", "torch.hub.download_url_to_file"}


@dataclass(frozen=True)
class Source:
    """One file, with what its names mean."""

    place: str
    tree: ast.Module
    names: dict[str, str]
    """What stands behind each imported name, such as `np` -> `numpy`."""
    safe_loaders: frozenset[str]
    """Classes of the file that make a safe loader of YAML stricter."""

    @classmethod
    def of(cls, text: str, place: str) -> "Source":
        tree = ast.parse(text)
        names: dict[str, str] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    first = alias.name.partition(".")[0]
                    names[alias.asname or first] = alias.name if alias.asname else first
            elif isinstance(node, ast.ImportFrom) and node.module:
                names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        bare = cls(place, tree, names, frozenset())
        loaders = {
            node.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef) and any(bare.named(base) in _SAFE_LOADERS for base in node.bases)
        }
        return cls(place, tree, names, frozenset(loaders))

    def named(self, node: ast.expr) -> str:
        """Return the full dotted name of what an expression names."""
        first, _, rest = ast.unparse(node).partition(".")
        first = self.names.get(first, first)
        return f"{first}.{rest}" if rest else first

    def calls(self) -> Iterator[tuple[ast.Call, str]]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call):
                yield node, self.named(node.func)

    def imports(self) -> Iterator[tuple[ast.stmt, str]]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((node, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield from ((node, f"{node.module}.{alias.name}") for alias in node.names)


def _says(call: ast.Call, name: str, value: object) -> bool:
    """Tell whether a call passes a keyword with a constant."""
    return any(
        word.arg == name and isinstance(word.value, ast.Constant) and word.value.value is value
        for word in call.keywords
    )


def _within(name: str, modules: set[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def pickles(source: Source) -> Iterator[ast.AST]:
    """Nothing is unpickled: files of PyTorch go through `weights/pytorch.py`, which looks them over."""
    yield from (node for node, name in source.imports() if _within(name, _PICKLES))
    yield from (call for call, name in source.calls() if name.split(".")[-1] in ("Unpickler", "read_pickle"))


def unguarded_torch_load(source: Source) -> Iterator[ast.AST]:
    """`torch.load` says `weights_only=True` itself, whatever the default of the day is."""
    yield from (
        call
        for call, name in source.calls()
        if name in ("torch.load", "torch.jit.load", "torch.serialization.load")
        and not _says(call, "weights_only", True)
    )


def unsafe_yaml(source: Source) -> Iterator[ast.AST]:
    """YAML is read by a safe loader, or by a stricter one."""
    for call, name in source.calls():
        loader = next((word.value for word in call.keywords if word.arg == "Loader"), None)
        safe = loader is not None and (
            source.named(loader) in _SAFE_LOADERS or ast.unparse(loader) in source.safe_loaders
        )
        if name in _UNSAFE_YAML or (name in ("yaml.load", "yaml.load_all") and not safe):
            yield call


def pickled_arrays(source: Source) -> Iterator[ast.AST]:
    """`numpy.load` says `allow_pickle=False` itself."""
    yield from (
        call for call, name in source.calls() if name == "numpy.load" and not _says(call, "allow_pickle", False)
    )


def text_that_runs(source: Source) -> Iterator[ast.AST]:
    """No text becomes code, but a file that the user named as code."""
    for call, name in source.calls():
        last = name.split(".")[-1]
        if name in _TEXT_RUNNERS or (
            last in ("exec_module", "spec_from_file_location") and source.place not in OWN_CODE
        ):
            yield call
        if name == "importlib.import_module" and source.place not in IMPORTERS:
            yield call


def shells(source: Source) -> Iterator[ast.AST]:
    """Programs are started by a list of words, never by a line for a shell."""
    for call, name in source.calls():
        if name in _SHELLS or name.startswith(("os.exec", "os.spawn")) or _says(call, "shell", True):
            yield call


def guessable_files(source: Source) -> Iterator[ast.AST]:
    """A temporary name that somebody else can take before us is no name."""
    yield from (call for call, name in source.calls() if name in ("tempfile.mktemp", "os.tempnam", "os.tmpnam"))


def connections(source: Source) -> Iterator[ast.AST]:
    """Only named files open a connection."""
    if source.place in SOCKETS:
        return
    yield from (node for node, name in source.imports() if _within(name, _NETWORK))
    yield from (call for call, name in source.calls() if name in _DOWNLOADERS)


def unpacked_archives(source: Source) -> Iterator[ast.AST]:
    """No archive chooses where its files go."""
    for call, name in source.calls():
        if name.split(".")[-1] in ("extractall", "unpack_archive"):
            yield call


def unescaped_pages(source: Source) -> Iterator[ast.AST]:
    """Templates are files of the package, and escape what they show."""
    for call, name in source.calls():
        if name in ("jinja2.Template", "jinja2.Environment.from_string") or (
            name == "jinja2.Environment" and not _says(call, "autoescape", True)
        ):
            yield call


def asserted_guards(source: Source) -> Iterator[ast.AST]:
    """`python -O` removes assertions: they may say what a type is, never what a value must be."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Assert) and not _narrows(node.test):
            yield node


def _narrows(test: ast.expr) -> bool:
    if isinstance(test, ast.BoolOp):
        return all(map(_narrows, test.values))
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return isinstance(test.operand, ast.Call) and _narrows(test.operand)
    if isinstance(test, ast.Call):
        return ast.unparse(test.func) in ("isinstance", "issubclass")
    if not isinstance(test, ast.Compare) or len(test.ops) != 1:
        return False
    right = test.comparators[0]
    is_none = isinstance(test.ops[0], ast.Is | ast.IsNot) and isinstance(right, ast.Constant) and right.value is None
    is_choice = isinstance(test.ops[0], ast.NotEq) and isinstance(right, ast.Constant) and isinstance(right.value, str)
    return is_none or is_choice


def swallowed_errors(source: Source) -> Iterator[ast.AST]:
    """Ctrl-C and the end of the process are nobody's to swallow."""
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        all_of_them = node.type is None or source.named(node.type) == "BaseException"
        if all_of_them and not any(map(_passes_on, ast.walk(node))):
            yield node


def _passes_on(node: ast.AST) -> bool:
    """Tell whether an error goes on its way: raised again, or handed to who waits for the result in another thread."""
    handed = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "set_exception"
    return handed or isinstance(node, ast.Raise)


RULES: tuple[Callable[[Source], Iterator[ast.AST]], ...] = (
    pickles,
    unguarded_torch_load,
    unsafe_yaml,
    pickled_arrays,
    text_that_runs,
    shells,
    guessable_files,
    connections,
    unpacked_archives,
    unescaped_pages,
    asserted_guards,
    swallowed_errors,
)


def faults(text: str, place: str) -> list[str]:
    """Return what a file does that no line may do, as `rule: place:line code`."""
    source = Source.of(text, place)
    return [
        f"{rule.__name__}: {place}:{getattr(node, 'lineno', 0)} {ast.unparse(node)[:80]}"
        for rule in RULES
        for node in rule(source)
    ]
