"""W&B: Weights & Biases, online or offline. Nothing is asked at a prompt, and no network can hold a run up for long."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from halftone.base.extras import require
from halftone.run.events import Started
from halftone.track.tracker import Kept, Opened, Point, Tracker, description

_PATIENCE = {"init_timeout": 20.0, "finish_timeout": 60.0}
"""Seconds to wait for the server at the start and at the end, unless WANDB_INIT_TIMEOUT, ... say otherwise."""


class WandB(Tracker):
    """Sends a run to W&B, under the step that was tried; offline if there is no login or no server."""

    name = "wandb"

    def __init__(self) -> None:
        """Import the library.

        Raises:
            ResourceError: it is not installed.
        """
        super().__init__()
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # before its service starts
        self._library: Any = require("wandb", extra="wandb")
        self._run: Any = None

    def open(self, started: Started, kept: Kept | None) -> Opened:
        """Open the run where W&B's own settings say; offline, with the reason, where that cannot be."""
        mode, reason = self._mode()
        try:
            self._run = self._begin(started, kept, mode)
        except self._library.Error as error:
            if mode != "online":
                raise
            mode, reason = "offline", _first_line(error)
            self._run = self._begin(started, kept, mode)
        text = self._said(mode, reason)
        if mode == "disabled":
            return Opened(Kept(run=""), 0, text)
        last = max(self._run.step - 1, 0) if mode == "online" else self._last_step_here()
        return Opened(Kept(run=self._run.id), last, text)

    def log(self, points: list[Point]) -> None:
        """Send points. W&B's own step is the step that was tried, and never goes back."""
        for point in points:
            self._run.log(point.numbers, step=point.tried, commit=True)

    def summarise(self, numbers: Mapping[str, float]) -> None:
        """Write the summary, beside the last value of each curve that W&B puts there."""
        self._run.summary.update(dict(numbers))

    def store(self, files: list[Path]) -> None:
        """Send files as one artifact, a model."""
        artifact = self._library.Artifact(f"run-{self._run.id}", type="model")
        for file in files:
            artifact.add_file(str(file), policy="immutable")
        self._run.log_artifact(artifact)

    def leave(self, *, finished: bool) -> str:
        """End the run; one that did not reach its end is shown as failed until it goes on."""
        run, self._run = self._run, None
        if run is None:
            return ""
        try:
            run.finish(exit_code=0 if finished else 1)
        except TimeoutError:
            return f"W&B has not taken everything yet; send the rest with: wandb sync {run.settings.sync_dir}"
        return ""

    def _mode(self) -> tuple[str, str]:
        """Return the mode that W&B is in by its own settings, or offline and a reason if nobody is logged in."""
        mode = self._library.setup().settings.mode
        if mode not in ("online", "run"):
            return {"dryrun": "offline"}.get(mode, mode), ""  # the older of two words
        try:
            known = self._library.login(prompt=False, verify=False)
        except self._library.Error as error:
            return "offline", _first_line(error)
        return ("online", "") if known else ("offline", "nobody is logged in; `wandb login` does that")

    def _begin(self, started: Started, kept: Kept | None, mode: str) -> Any:
        wish, usual = started.plan.settled.run, self._library.setup().settings
        known = kept.run if kept is not None else ""
        patience = {name: value for name, value in _PATIENCE.items() if f"WANDB_{name.upper()}" not in os.environ}
        settings = self._library.Settings(
            silent=True, console="off", reinit="create_new", finish_timeout_raises=True, **patience
        )
        return self._library.init(
            project=wish.project or usual.project or "halftone",
            name=started.folder.path.name,
            group=wish.group,
            tags=wish.tags or None,
            config=description(started.plan),
            dir=os.environ.get("WANDB_DIR", str(started.folder.path)),
            id=known or None,
            resume="allow" if known else None,
            mode=mode,
            settings=settings,
        )

    def _last_step_here(self) -> int:
        """Return the last step in the files that earlier parts of the run have left, which need not be all they sent.

        A process that is killed takes the last seconds with it that W&B had not written.
        """
        own = Path(self._run.settings.sync_dir)
        parts = {*own.parent.glob(f"*run-*-{self._run.id}")} - {own}
        for part in sorted(parts, key=lambda place: place.name.removeprefix("offline-"), reverse=True):  # by time
            step = _last_step(part)
            if step is not None:
                return step
        return 0

    def _said(self, mode: str, reason: str) -> str:
        if mode == "online":
            return f"W&B: {self._run.url}"
        if mode != "offline":
            return f"W&B is {mode}"
        why = f" ({reason})" if reason else ""
        return f"W&B works offline{why}; send the run later with: wandb sync {self._run.settings.sync_dir}"


def _last_step(part: Path) -> int | None:
    """Ask W&B for the last step in the folder of a run; None if there is none, or it cannot be read."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--summary", "--json", str(part)]
    try:
        found = subprocess.run(command, capture_output=True, check=False, timeout=60)  # noqa: S603 all of it is ours
        return json.loads(found.stdout)["step"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        return None


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]
