"""Every capability of the classics has a test that would notice its loss, and a place where it can be seen."""

from __future__ import annotations

import pytest
from capabilities import CAPABILITIES
from sabotage import module_of, sabotaged

from experiments.config import EXPERIMENTS


def test_every_row_is_there_and_can_be_seen():
    assert sorted(CAPABILITIES) == list(range(1, 37))
    assert {capability.seen for capability in CAPABILITIES.values()} <= set(EXPERIMENTS)


@pytest.mark.parametrize("row", CAPABILITIES)
def test_the_sabotaged_test_fails(row):
    capability = CAPABILITIES[row]
    with sabotaged(capability.mistake):
        tests, name = module_of(capability.test), capability.test.partition("::")[2]
        arguments = capability.arguments(tests) if callable(capability.arguments) else capability.arguments
        with pytest.raises(AssertionError):
            getattr(tests, name)(**arguments)
