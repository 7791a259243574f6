"""Shared by all tests: one thread per process, and what several files start from.

Fixtures import what they need themselves: pandas or torch here would slow the start of every test.
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"  # before anything imports torch

from collections.abc import Callable
from pathlib import Path

import pytest
from trees import Tree


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes by their parameter and number. pytest-xdist refuses to start where two workers disagree on a name,
    and the content of a file is long and may hold the time it was written."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """A copy of the project in which digits-tiny has run to its report. Copy it before changing anything."""
    tree = Tree.of_project(tmp_path_factory.mktemp("finished") / "project")
    tree.first = tree.run("digits-tiny")
    return tree


@pytest.fixture
def project(tmp_path: Path) -> Tree:
    """A copy of the project without results."""
    return Tree.of_project(tmp_path / "project")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """The results of a small study, to be collected or damaged."""
    from result_files import make_results

    return make_results(tmp_path / "S")


@pytest.fixture(scope="session")
def ledger_of(tmp_path_factory: pytest.TempPathFactory) -> Callable:
    """Ledgers by the name of their case, each made once and changed by nobody."""
    from ledger_cases import CASES

    made = {}

    def get(name: str):
        if name not in made:
            made[name] = CASES[name](tmp_path_factory.mktemp(name) / "ledger")
        return made[name]

    return get


@pytest.fixture(scope="session")
def statistics_of(ledger_of: Callable) -> Callable:
    """Statistics by the name of the ledger's case, each computed once."""
    from robustgap.analysis.statistics import Statistics

    made = {}

    def get(name: str):
        if name not in made:
            made[name] = Statistics(ledger_of(name))
        return made[name]

    return get


@pytest.fixture(scope="module")
def model():
    """A small network of known weights to take measures of."""
    import oracles

    return oracles.conv_net()


@pytest.fixture(scope="module")
def data():
    """Images in [0, 1] for that network, and labels that say nothing about them."""
    import oracles

    return oracles.images(oracles.N, low=0.0, high=1.0), oracles.labels(oracles.N)
