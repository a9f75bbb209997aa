"""Set-up of every test: eight CPU devices, compiled quickly and once, strict shapes."""

import os
import pathlib
from collections.abc import Iterator

REPOSITORY = pathlib.Path(__file__).parent.parent

# JAX reads these once, when it is imported.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)
# Most of a test is compiling, and this halves it. `.ci/run` tests a selection with all
# optimisations, too, as users have them.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(REPOSITORY / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"

import jax
import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, so that at the end no process waits for another."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture
def optimised() -> Iterator[None]:
    """All optimisations of the compiler, for many steps: these then take half."""
    name = "jax_disable_most_optimizations"
    before = jax.config.read(name)
    jax.config.update(name, False)
    yield
    jax.config.update(name, before)


@pytest.fixture
def key() -> jax.Array:
    """A random key."""
    return jax.random.key(0)


@pytest.fixture(scope="session")
def xray() -> pathlib.Path:
    """Folder of real X-rays: MTPRET_XRAY, else ../shared/xray beside the repository.

    They are not part of the repository, so the test is skipped where neither exists.
    """
    named = os.environ.get("MTPRET_XRAY")
    if named:
        folder = pathlib.Path(named)
        if not folder.is_dir():
            raise FileNotFoundError(f"MTPRET_XRAY: no folder '{named}'.")
        return folder
    folder = REPOSITORY.parent / "shared" / "xray"
    if not folder.is_dir():
        pytest.skip("no real X-rays here: set MTPRET_XRAY to their folder")
    return folder
