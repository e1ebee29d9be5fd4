import pytest


@pytest.fixture(scope="session", autouse=True)
def real(smoke):
    """`REAL` holds what the real run wrote, which the helpers vary."""
