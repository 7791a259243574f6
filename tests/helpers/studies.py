"""A small valid study for tests to start from."""

import copy

STUDY = {
    "study": "small",
    "data": "digits",
    "norm": "Linf",
    "eps": "3/20",
    "settings": {"architecture": "cnn", "epochs": 4},
    "axes": {"defense": ["Standard", "AT", "TRADES"], "inner_steps": [1, 10], "batch_size": [32, 128]},
    "seeds": [0, 1],
    "outcomes": {"attacks": ["clean", "pgd10"]},
    "measures": ["average_ce"],
    "chunks": 4,
}


def study(**changes: object) -> dict:
    """STUDY with other values; a key with dots reaches inside: study(**{"axes.defense": ["AT"]}). None removes."""
    config: dict = copy.deepcopy(STUDY)
    for path, value in changes.items():
        *parents, last = path.split(".")
        place = config
        for parent in parents:
            place = place.setdefault(parent, {})
        if value is None:
            del place[last]
        else:
            place[last] = value
    return config
