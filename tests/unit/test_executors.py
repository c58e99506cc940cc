"""When an application counts as forgotten by its cluster."""

from __future__ import annotations

import pytest
from lakehouse import executors

DRIVER = 1


class Context:
    """What Spark tells, look by look; then Spark is gone."""

    def __init__(self, looks: list[tuple[int, int]]) -> None:
        self._looks, self._now, self.stopped = iter(looks), (0, 0), False

    def statusTracker(self) -> Context:
        return self

    def stop(self) -> None:
        self.stopped = True

    def getExecutorInfos(self) -> list[None]:
        self._now = next(self._looks)
        return [None] * (DRIVER + self._now[0])

    def getActiveJobIds(self) -> list[None]:
        return [None] * self._now[1]


WORK, LOST, IDLE, IDLE_LOST = (2, 1), (0, 1), (2, 0), (0, 0)


@pytest.mark.parametrize(
    ("looks", "ended"),
    [
        ([WORK, *[LOST] * 14], True),
        ([WORK, *[LOST] * 12], False),
        # Given another one in time.
        ([WORK, *[LOST] * 10, WORK, *[LOST] * 10], False),
        # A busy cluster has given it none yet: it waits its turn.
        ([LOST] * 50, False),
        # Without work, executors may be given back.
        ([WORK, *[IDLE_LOST] * 50], False),
        ([IDLE, *[IDLE_LOST] * 50, *[LOST] * 14], True),
    ],
)
def test_who_has_lost_all_executors_while_there_is_work_ends(
    monkeypatch: pytest.MonkeyPatch, looks: list[tuple[int, int]], ended: bool
) -> None:
    clock, context, warnings = [0.0], Context(looks), list[str]()
    monkeypatch.setattr(executors.time, "sleep", lambda s: clock.__setitem__(0, clock[0] + s))
    monkeypatch.setattr(executors.time, "monotonic", lambda: clock[0])
    executors._watch(context, warnings.append)
    assert (context.stopped, len(warnings)) == (ended, int(ended))
