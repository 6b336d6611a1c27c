"""MLflow: a local store or a tracking server, through its client; what else the process tells MLflow is left alone."""

import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from halftone.base.extras import require
from halftone.run.config import RunConfig
from halftone.run.events import Started
from halftone.track.tracker import Kept, Opened, Point, Tracker, description, flat

_UNLESS_SET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
"""What MLflow is told before it is imported: be quiet, and do not hold a run up for long when a server is gone."""
_LONGEST = 500
"""Characters of a parameter that every server takes."""
_MOST = {"metrics": 1000, "params": 100}
"""In one request."""
_MARKS = ("epoch", "steps/lr")
"""Metrics of which every point has at least one."""


class MLflow(Tracker):
    """Sends a run to MLflow, under the step that was tried."""

    name = "mlflow"

    def __init__(self) -> None:
        """Import the library.

        Raises:
            ResourceError: it is not installed.
        """
        super().__init__()
        for variable, value in _UNLESS_SET.items():
            os.environ.setdefault(variable, value)
        self._library: Any = require("mlflow", extra="mlflow")
        self._client: Any = None
        self._id = ""

    def open(self, started: Started, kept: Kept | None) -> Opened:
        """Open the run in the store."""
        wish = started.plan.settled.run
        uri = anchored(wish.tracking_uri or (kept and kept.place) or self._library.get_tracking_uri())
        self._client = self._library.MlflowClient(tracking_uri=uri)
        if kept is not None and self._has(kept.run):
            self._id = kept.run
            self._client.update_run(self._id, status="RUNNING")
        else:
            self._id = self._create(started, wish)
        place = uri if uri.startswith(("sqlite:", "file:")) else ""
        text = f"MLflow: run {self._id} in {_without_password(uri)}"
        return Opened(Kept(run=self._id, place=place), self._last_step(), text)

    def log(self, points: list[Point]) -> None:
        """Send points, whole ones in each request, so that after a kill the last one that arrived is whole."""
        now, end = time.time(), points[-1].seconds
        for batch in _batches(points):
            self._client.log_batch(
                self._id,
                metrics=[
                    self._library.entities.Metric(name, value, int(1000 * (now - end + point.seconds)), point.tried)
                    for point in batch
                    for name, value in point.numbers.items()
                ],
            )

    def summarise(self, numbers: Mapping[str, float]) -> None:
        """Add metrics without a course: each has one value."""
        now = int(1000 * time.time())
        metrics = [self._library.entities.Metric(name, value, now, self._sent) for name, value in numbers.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def store(self, files: list[Path]) -> None:
        """Send files as artifacts of the run."""
        for file in files:
            self._client.log_artifact(self._id, str(file))

    def leave(self, *, finished: bool) -> str:
        """Set the run's status; one that did not reach its end is FAILED until it goes on."""
        run, self._id = self._id, ""
        if run and (finished or self._whole):  # not to a server that has just failed
            self._client.set_terminated(run, "FINISHED" if finished else "FAILED")
        return ""

    def _create(self, started: Started, wish: RunConfig) -> str:
        tags = {name: value or "true" for name, _, value in (tag.partition("=") for tag in wish.tags)}
        if wish.group is not None:
            tags["group"] = wish.group
        experiment = wish.project or os.environ.get("MLFLOW_EXPERIMENT_NAME") or "halftone"
        run = self._client.create_run(
            self._experiment(experiment),
            run_name=started.folder.path.name,
            tags={**tags, "mlflow.source.name": "halftone"},
        ).info.run_id
        params = [self._library.entities.Param(name, value) for name, value in parameters(description(started.plan))]
        for start in range(0, len(params), _MOST["params"]):
            self._client.log_batch(run, params=params[start : start + _MOST["params"]])
        return run

    def _experiment(self, name: str) -> str:
        """Return the experiment of a name, a new one if there is none."""
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return found.experiment_id
        try:
            return self._client.create_experiment(name)
        except self._library.MlflowException:  # another process was first
            return self._client.get_experiment_by_name(name).experiment_id

    def _has(self, run: str) -> bool:
        """Say whether the store has a run that was not deleted."""
        try:
            return self._client.get_run(run).info.lifecycle_stage == "active"
        except self._library.MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise

    def _last_step(self) -> int:
        """Return the last step of which the store has a point."""
        points = (point for name in _MARKS for point in self._client.get_metric_history(self._id, name))
        return max((point.step for point in points), default=0)


def parameters(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield parameters with dotted names. One longer than every server takes is cut, and ends in `...`."""
    for name, value in flat(values):
        text = value if isinstance(value, str) else json.dumps(value)
        yield name, text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def anchored(uri: str) -> str:
    """Write a place on this machine so that it holds from every folder."""
    if uri.startswith("sqlite:///") and not uri.startswith("sqlite:////"):
        return f"sqlite:///{Path(uri.removeprefix('sqlite:///')).absolute()}"
    return uri if re.match(r"[\w+-]+:", uri) or uri == "databricks" else Path(uri).absolute().as_uri()


def _without_password(uri: str) -> str:
    return re.sub(r"//[^/@]*@", "//", uri)


def _batches(points: list[Point]) -> Iterator[list[Point]]:
    """Yield the points in groups of as many numbers as one request takes."""
    batch: list[Point] = []
    room = _MOST["metrics"]
    for point in points:
        if len(point.numbers) > room:
            yield batch
            batch, room = [], _MOST["metrics"]
        batch.append(point)
        room -= len(point.numbers)
    if batch:
        yield batch
