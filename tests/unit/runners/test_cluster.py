"""A cluster that is not there is refused at once."""

from __future__ import annotations

import pytest
from conftest import free_port

from constitute.config import RayConfig
from constitute.errors import UsageError
from constitute.progress import Silent
from constitute.runners.ray.run import cluster


def test_an_address_where_nobody_listens() -> None:
    address = f"127.0.0.1:{free_port()}"
    with (
        pytest.raises(UsageError, match=f"no Ray cluster at {address} .*refused.*`ray start --head`"),
        cluster(RayConfig(address=address), Silent()),
    ):
        pass
