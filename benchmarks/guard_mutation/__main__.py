"""Remove one guard at a time from a copy of the source, run the tests that must notice, and report which did.

python -m benchmarks.guard_mutation
python -m benchmarks.guard_mutation --only D19 D26
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

from benchmarks import harness
from benchmarks.guard_mutation.guards import GUARDS, Guard
from halftone.base.files import read_json, write_json, write_text

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "halftone"
_PATIENCE = 90
"""Seconds. A test that hangs without its guard has noticed, too."""
_PASSED, _FAILED = 0, 1
"""What pytest returns. Everything else is neither: no test was found, or none could be read."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one guard."""

    guard: Guard
    outcome: str
    """killed, survived, or why it could not be tried."""
    noticed: str
    """The first test that failed."""


def main() -> int:
    settings = _arguments()
    guards = [guard for guard in GUARDS if not settings.only or guard.row in settings.only]
    _refuse_stale(guards)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # tests that drop the rights of root read it, too
        copy = Path(folder) / "halftone"
        shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
        _refuse_other_source(copy)
        findings = []
        passing: dict[tuple[str, str], tuple[int | None, str]] = {}
        for number, guard in enumerate(guards, 1):
            finding = try_without(guard, copy, passing)
            print(f"{number}/{len(guards)} {guard.row} {guard.what}: {finding.outcome} {finding.noticed}", flush=True)
            findings.append(finding)
    if not settings.dry:
        _write([*_earlier(guards), *findings])
    wrong = [finding for finding in findings if finding.outcome != "killed"]
    print(f"{len(findings) - len(wrong)} of {len(findings)} killed")
    return 1 if wrong else 0


def try_without(guard: Guard, copy: Path, passing: dict[tuple[str, str], tuple[int | None, str]]) -> Finding:
    """Run a guard's tests with it, where they must pass, and without it, where one must fail.

    Args:
        guard: what is removed.
        copy: of the source.
        passing: what tests came to with all guards in place; those that are not there are run and added.
    """
    tests = (guard.tests, _selected(guard))
    if tests not in passing:
        passing[tests] = _run_tests(guard, copy)
    code, said = passing[tests]
    if code != _PASSED:
        return Finding(guard, f"its tests do not pass with it (pytest: {code})", _first_failure(said))
    place = copy / guard.place
    whole = place.read_text("utf-8")
    place.write_text(whole.replace(guard.found, guard.instead), "utf-8")
    try:
        code, said = _run_tests(guard, copy)
    finally:
        place.write_text(whole, "utf-8")
    if code is None:
        return Finding(guard, "killed", "it hung")
    outcome = {_PASSED: "survived", _FAILED: "killed"}.get(code, f"not tried (pytest: {code})")
    return Finding(guard, outcome, _first_failure(said))


def stale(guards: tuple[Guard, ...] | list[Guard], source: Path = SOURCE) -> list[str]:
    """Return the guards that do not stand exactly once where the list says."""
    wrong = []
    for guard in guards:
        count = (source / guard.place).read_text("utf-8").count(guard.found)
        if count != 1:
            wrong.append(f"{guard.row} {guard.what}: {guard.found!r} stands {count} times in {guard.place}")
        if guard.found == guard.instead:
            wrong.append(f"{guard.row} {guard.what}: nothing would change")
    return wrong


def _refuse_stale(guards: list[Guard]) -> None:
    wrong = stale(guards)
    if wrong:
        sys.exit("\n".join(["the list of guards is older than the source:", *wrong]))


def _refuse_other_source(copy: Path) -> None:
    """Make sure that the tests import the copy; otherwise every guard would seem to survive."""
    words = [sys.executable, "-c", "import halftone; print(halftone.__file__)"]
    found = subprocess.run(words, env=_surroundings(copy), capture_output=True, text=True, check=True).stdout.strip()
    if Path(found) != copy / "__init__.py":
        sys.exit(f"the tests would import {found}, not the copy")


def _run_tests(guard: Guard, copy: Path) -> tuple[int | None, str]:
    """Return what pytest returned and said; None if it took too long."""
    words = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=no", "-rfE"]
    words += ["-o", "timeout=0", guard.tests, "-k", _selected(guard)]
    try:
        done = subprocess.run(
            words, cwd=ROOT, env=_surroundings(copy), capture_output=True, text=True, check=False, timeout=_PATIENCE
        )
    except subprocess.TimeoutExpired:
        return None, ""
    return done.returncode, done.stdout


def _selected(guard: Guard) -> str:
    return guard.select or f"{guard.row}_"


def _surroundings(copy: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(copy.parent), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}


def _first_failure(said: str) -> str:
    names = [
        line.split(" - ")[0].split("::")[-1] for line in said.splitlines() if line.startswith(("FAILED ", "ERROR "))
    ]
    return names[0].partition("[")[0] if names else ""


def _earlier(guards: list[Guard]) -> list[Finding]:
    """Return what an earlier run found of the guards that this one leaves out, as far as they are still the same."""
    place = harness.RESULTS / "guard_mutation.json"
    values = read_json(place)["guards"] if place.is_file() else []
    found = {tuple(one[name] for name in asdict(GUARDS[0])): one for one in values}
    others = [guard for guard in GUARDS if guard not in guards and astuple(guard) in found]
    return [Finding(guard, *(found[astuple(guard)][name] for name in ("outcome", "noticed"))) for guard in others]


def _write(findings: list[Finding]) -> None:
    findings = sorted(findings, key=lambda finding: GUARDS.index(finding.guard))
    num_killed = sum(finding.outcome == "killed" for finding in findings)
    lines = [
        "# Guards removed one at a time",
        "",
        f"`python -m benchmarks.guard_mutation`: {num_killed} of {len(findings)} guards of groups C and D are held",
        "by a test that fails without them. Each is removed from a copy of the source, alone.",
        "",
        "| row | the guard | where | without it | the first test that fails |",
        "|---|---|---|---|---|",
        *map(_row, findings),
    ]
    write_text(harness.RESULTS / "guard_mutation.md", "\n".join(lines) + "\n")
    values = [{**asdict(one.guard), "outcome": one.outcome, "noticed": one.noticed} for one in findings]
    write_json(harness.RESULTS / "guard_mutation.json", {"killed": num_killed, "guards": values})


def _row(finding: Finding) -> str:
    guard, noticed = finding.guard, f"`{finding.noticed}`" if finding.noticed else ""
    return f"| {guard.row} | {guard.what} | `{guard.place}` | {finding.outcome} | {noticed} |"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guard_mutation", description=__doc__)
    parser.add_argument(
        "--only",
        nargs="*",
        default=[],
        metavar="ROW",
        help="rows such as D19; the others stay in the results as they were found",
    )
    parser.add_argument("--dry", action="store_true", help="leave benchmarks/results as it is")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
