"""Settings that every test shares; set before numpy, torch and matplotlib are imported."""

import os
import tempfile

# pytest-xdist brings the parallelism, and sums come out bit-identical only with a fixed number of threads.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("MPLBACKEND", "Agg")
# The owner's signing key and the gateway's state: never those of whoever runs the tests.
_HOME = tempfile.TemporaryDirectory(prefix="qumos-tests-")
os.environ["XDG_CONFIG_HOME"] = f"{_HOME.name}/config"
os.environ["XDG_STATE_HOME"] = f"{_HOME.name}/state"

import pytest  # noqa: E402


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the draws that are trained, in order."""
    from qumos_env.evaluation.service import Service

    numbers: list[int] = []
    train = Service.train.__func__  # type: ignore[attr-defined]

    def counted(cls: type[Service], *arguments: object) -> Service:
        service: Service = train(cls, *arguments)
        numbers.extend(service.numbers)
        return service

    monkeypatch.setattr(Service, "train", classmethod(counted))
    return numbers
