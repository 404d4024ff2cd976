"""The tiny study's mapping, for tests that change one value of it."""

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tiny() -> dict:
    return yaml.safe_load((ROOT / "studies" / "tiny.yaml").read_text())


@pytest.fixture
def default() -> dict:
    return yaml.safe_load((ROOT / "config.yaml").read_text())
