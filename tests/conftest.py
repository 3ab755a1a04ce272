"""Makes the helpers beside this file importable (``reference``, ``networks``), and keeps telemetry and threads out."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# OpenVINO forks the process for every event that it reports of an import or a conversion, unless it runs in CI; these
# forks took a third of the time of the suite.
os.environ["CI"] = "true"
# Networks this small gain nothing from a second thread of torch or numpy, and lose much where workers share the cores:
# threads wait for each other by spinning, which took a third of the processor time of the suite.
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))

collect_ignore = ["clients", "models_zoo", "wheel"]  # in environments of their own: make clients, models, wheel
if "OTX_XAI_RAY" not in os.environ:
    collect_ignore.append("ray")  # starts clusters, which no other test may disturb: make ray
if "OTX_XAI_BROWSER" not in os.environ:
    collect_ignore.append("page")  # needs a browser: make page
if "OTX_XAI_STORES" in os.environ:
    sys.path.insert(0, str(Path(__file__).parent / "object_stores"))
else:
    collect_ignore.append("object_stores")  # needs s3fs and moto: make stores


@pytest.fixture(scope="session", autouse=True)
def _shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tell what lasts to make, such as trained networks, where the processes of this session can share it."""
    base = tmp_path_factory.getbasetemp()
    os.environ["OTX_XAI_SHARED_BY_TESTS"] = str(base.parent if "PYTEST_XDIST_WORKER" in os.environ else base)
    yield
    del os.environ["OTX_XAI_SHARED_BY_TESTS"]


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Let Ctrl-C interrupt a test and the processes it starts: a shell may have started the suite deaf to it."""
    outside = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, outside)
