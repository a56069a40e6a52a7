"""Whether a node may serve now, by what its owner wants and how the computer is. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from gridnode.core.hours import Hours
from gridnode.units import format_seconds

# A plug that is pulled and put back would load the model twice.
CALM_S = 60.0
# A computer cools down as soon as it rests: serving again at the limit would end at once.
COOLER_CELSIUS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """When a node may serve: everything that is given here must hold."""

    hours: tuple[Hours, ...] = ()
    """Only in one of these; empty means always."""

    idle_s: float | None = None
    """Only when nobody has used the computer for so long."""

    on_mains: bool = False
    """Not on battery."""

    below_celsius: float | None = None
    """Only while the processor is cooler."""

    def __bool__(self) -> bool:
        return self != Terms()


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """How the computer is. What is None cannot be known here, and is no reason to pause."""

    minute: int
    """Of the day, local time."""

    idle_s: float | None = None
    """Seconds since somebody used it."""

    on_battery: bool | None = None
    celsius: float | None = None
    """Of the hottest processor."""

    def unknown(self, terms: Terms) -> list[str]:
        """Return the keys of the configuration that cannot be kept here."""
        return [
            key
            for key, is_wanted, value in (
                ("when.idle", terms.idle_s is not None, self.idle_s),
                ("when.on_mains", terms.on_mains, self.on_battery),
                ("when.below_celsius", terms.below_celsius is not None, self.celsius),
            )
            if is_wanted and value is None
        ]


class Politeness:
    """Decides, look after look, whether the node has to pause.

    A reason that has passed counts for `CALM_S` more.
    """

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._reason = ""
        self._objected_at = 0.0

    def reason_to_pause(self, seen: Circumstances, *, now: float) -> str:
        """Return why the node has to pause, for people; empty if it may serve."""
        found = objection(self._terms, seen, is_pausing=bool(self._reason))
        if found:
            self._reason, self._objected_at = found, now
        elif now - self._objected_at >= CALM_S:
            self._reason = ""
        return self._reason


def objection(terms: Terms, seen: Circumstances, *, is_pausing: bool = False) -> str:
    """Return what speaks against serving at this moment, for people; empty if nothing does."""
    if terms.hours and not any(seen.minute in hours for hours in terms.hours):
        return f"outside its hours, {', '.join(map(str, terms.hours))}"
    if terms.on_mains and seen.on_battery:
        return "on battery"
    if terms.idle_s is not None and seen.idle_s is not None and seen.idle_s < terms.idle_s:
        return f"in use, or was within {format_seconds(terms.idle_s)}"
    if terms.below_celsius is not None and seen.celsius is not None:
        limit = terms.below_celsius - (COOLER_CELSIUS if is_pausing else 0.0)
        if seen.celsius >= limit:
            return f"hotter than {terms.below_celsius:g} °C"
    return ""
