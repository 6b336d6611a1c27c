"""All files that a comparison leaves, in one call."""

from pathlib import Path

from halftone.comparison.pages.figures import write_figures
from halftone.comparison.pages.page import write_page
from halftone.comparison.records import Comparison
from halftone.comparison.tables import write_runs, write_verdict


def write_results(comparison: Comparison, folder: Path) -> Path:
    """Write verdict.json, runs.csv, the figures and compare.html into a folder; return the page."""
    write_verdict(comparison, folder / "verdict.json")
    write_runs(comparison, folder / "runs.csv")
    write_figures(comparison, folder)
    return write_page(comparison, folder)
