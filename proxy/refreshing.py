"""When which list of names is to be looked at again; pure, the clock is an argument."""

from __future__ import annotations

from typing import TYPE_CHECKING

from config.units import MonoTime

if TYPE_CHECKING:
    from config.schema import Config


class Refreshes:
    """Each list with `refresh` has its next moment; a new configuration keeps those of lists that stay as they were."""

    def __init__(self) -> None:
        self._due: dict[str, tuple[float, MonoTime]] = {}  # by path: period, next moment

    def adopt(self, config: Config, now: MonoTime) -> None:
        periods: dict[str, float] = {}
        for one in config.lists.values():  # two lists of one file: the shorter period counts for both
            if one.refresh:
                periods[one.file] = min(float(one.refresh), periods.get(one.file, float(one.refresh)))
        before = self._due
        self._due = {
            path: before[path] if path in before and before[path][0] == period else (period, MonoTime(now + period))
            for path, period in periods.items()
        }

    @property
    def next(self) -> MonoTime | None:
        """The moment of the next one; None if there is none."""
        return min((moment for _, moment in self._due.values()), default=None)

    def take(self, now: MonoTime) -> tuple[str, ...]:
        """The paths that are due; each is due again a period from now."""
        due = tuple(path for path, (_, moment) in self._due.items() if moment <= now)
        for path in due:
            period, _ = self._due[path]
            self._due[path] = period, MonoTime(now + period)
        return due
