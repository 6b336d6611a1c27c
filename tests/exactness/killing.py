"""Runs whose processes are killed at any moment, again and again, until they have finished."""

import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from forked import Forks
from halftone.base.records import write_yaml
from halftone.base.tables import read_table
from halftone.exactness.ends import differences
from halftone.run.checkpoint import checkpoints
from halftone.run.folder import RunFolder
from halftone.run.recipe import Recipe

How = Literal["clock", "step", "save"]


def shown(log: Path) -> str:
    return log.read_text()[-2000:] if log.is_file() else ""


@dataclass
class Deaths:
    """What was done to runs."""

    kills: Counter[str] = field(default_factory=Counter)
    in_saves: int = 0
    damaged: int = 0
    per_epoch: Counter[tuple[str, int]] = field(default_factory=Counter)
    finished: int = 0

    @property
    def total(self) -> int:
        return sum(self.kills.values())


@dataclass
class Victim:
    """One recipe that is trained straight, and then killed."""

    forks: Forks
    recipe: Recipe
    root: Path
    log: Path
    deaths: Deaths
    seconds: float = 0.0

    def train_straight(self) -> RunFolder:
        clock = time.monotonic()
        assert self.begin("straight") == 0, shown(self.log)
        self.seconds = time.monotonic() - clock
        return RunFolder(self.root / "straight")

    def begin(self, name: str, **fate: Any) -> int:
        shutil.rmtree(self.root / name, ignore_errors=True)  # one that died before its first checkpoint
        changed = self.recipe.replaced(run=self.recipe.run.replaced(root=self.root, name=name))
        write_yaml(self.root / f"{name}.yaml", changed.model_dump(mode="json", exclude_unset=True))
        return self.forks.train(self.root / f"{name}.yaml", log=self.log, **fate)

    def go_on(self, name: str, *, workers: int | None = None, **fate: Any) -> int:
        return self.forks.train(self.root / name, workers=workers, log=self.log, **fate)

    def kill(self, name: str, hows: Sequence[How], chance: random.Random, *, workers: tuple[int, int] = (0, 0)) -> None:
        """Kill processes of a run as many times as there are ways to; where it finished first, begin another one."""
        left, number = list(hows), 0
        while left:
            self._train(RunFolder(self.root / f"{name}-{number}"), left, chance, workers)
            number += 1

    def _train(self, folder: RunFolder, left: list[How], chance: random.Random, workers: tuple[int, int]) -> None:
        """Train a run whose processes die in the ways that are left; its end is that of the straight one."""
        straight, status = RunFolder(self.root / "straight"), -signal.SIGKILL
        steps = len(read_table(straight.steps))
        while status == -signal.SIGKILL:
            fate = self._fate(left[0], chance, steps) if left else {}
            if checkpoints(folder.checkpoints):
                status = self.go_on(folder.path.name, workers=workers[self.deaths.total % 2], **fate)
            else:
                status = self.begin(folder.path.name, **fate)
            if status == -signal.SIGKILL:
                self._note(folder, left.pop(0), chance)
        assert status == 0, shown(self.log)
        assert list(differences(straight, folder)) == []
        self.deaths.finished += 1

    def _fate(self, how: How, chance: random.Random, steps: int) -> dict[str, Any]:
        if how == "clock":
            return {"kill_after": chance.uniform(0.02, self.seconds)}
        return {"crash_at": f"{chance.randint(1, steps)}+{chance.randint(1, 18) if how == 'save' else 0}"}

    def _note(self, folder: RunFolder, how: How, chance: random.Random) -> None:
        deaths = self.deaths
        deaths.kills[how] += 1
        places = (folder.path, folder.checkpoints)
        deaths.in_saves += how == "save" or any(list(place.glob(".*.tmp")) for place in places)
        rows = read_table(folder.steps) if folder.steps.is_file() else []
        deaths.per_epoch[str(folder.path), int(rows[-1]["epoch"]) if rows else 0] += 1
        if deaths.total % 4 == 0 and len(checkpoints(folder.checkpoints)) > 1:
            damage(checkpoints(folder.checkpoints)[0], chance)
            deaths.damaged += 1


def damage(path: Path, chance: random.Random) -> None:
    """Flip a bit of a file, or cut it."""
    content = bytearray(path.read_bytes())
    place = chance.randrange(len(content))
    if chance.random() < 0.5:
        content[place] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
    else:
        path.write_bytes(content[:place])
