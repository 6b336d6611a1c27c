"""What the tests of data share."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

NOBODY = 65534


@pytest.fixture
def plain_user() -> Iterator[Path]:
    """A folder of a user without privileges, who the test is run as: the superuser may read everything."""
    folder = Path(tempfile.mkdtemp())
    superuser = os.geteuid() == 0
    if superuser:
        os.chown(folder, NOBODY, -1)
        os.seteuid(NOBODY)
    try:
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
            pytest.skip("another user cannot reach the temporary folder")
        yield folder
    finally:
        if superuser:
            os.seteuid(0)
        for path in folder.rglob("*"):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o700)
        shutil.rmtree(folder)
