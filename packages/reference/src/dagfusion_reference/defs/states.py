"""The 50 US states: their size, and the ZIP prefixes that tell where an address is."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import polars as pl

from dagfusion_reference.defs.draws import Integers


class State(NamedTuple):
    """A state, its population in thousands (2023) and a run of three-digit ZIP prefixes that is its alone."""

    code: str
    population: int
    first_zip: int
    last_zip: int


STATES = (
    State("AL", 5108, 354, 369),
    State("AK", 733, 995, 999),
    State("AZ", 7431, 850, 853),
    State("AR", 3068, 716, 729),
    State("CA", 38965, 930, 961),
    State("CO", 5878, 800, 816),
    State("CT", 3617, 60, 69),
    State("DE", 1032, 197, 199),
    State("FL", 22611, 320, 339),
    State("GA", 11029, 300, 319),
    State("HI", 1435, 967, 968),
    State("ID", 1965, 832, 838),
    State("IL", 12550, 600, 620),
    State("IN", 6862, 460, 479),
    State("IA", 3207, 500, 516),
    State("KS", 2941, 664, 679),
    State("KY", 4526, 400, 427),
    State("LA", 4574, 703, 708),
    State("ME", 1396, 39, 49),
    State("MD", 6180, 206, 212),
    State("MA", 7001, 10, 27),
    State("MI", 10037, 480, 499),
    State("MN", 5738, 553, 567),
    State("MS", 2940, 386, 397),
    State("MO", 6196, 633, 641),
    State("MT", 1133, 590, 599),
    State("NE", 1978, 683, 693),
    State("NV", 3194, 889, 891),
    State("NH", 1402, 30, 38),
    State("NJ", 9291, 70, 89),
    State("NM", 2114, 877, 884),
    State("NY", 19571, 100, 149),
    State("NC", 10835, 270, 289),
    State("ND", 784, 580, 588),
    State("OH", 11786, 430, 459),
    State("OK", 4054, 734, 741),
    State("OR", 4233, 970, 979),
    State("PA", 12962, 150, 196),
    State("RI", 1096, 28, 29),
    State("SC", 5374, 290, 299),
    State("SD", 919, 570, 577),
    State("TN", 7126, 370, 385),
    State("TX", 30503, 750, 770),
    State("UT", 3418, 840, 847),
    State("VT", 647, 50, 54),
    State("VA", 8716, 220, 246),
    State("WA", 7813, 980, 986),
    State("WV", 1770, 247, 268),
    State("WI", 5911, 537, 549),
    State("WY", 584, 820, 831),
)

CODES = tuple(state.code for state in STATES)  # by the states' names, as people list them: AL first, WY last
BY_CODE: Mapping[str, State] = {state.code: state for state in STATES}
POSITION: Mapping[str, int] = {code: position for position, code in enumerate(CODES)}

_LARGEST = max(state.population for state in STATES)

_ZIP_PREFIXES = {f"{zip3:03d}": s.code for s in STATES for zip3 in range(s.first_zip, s.last_zip + 1)}


def by_size(smallest: int, largest: int) -> Integers:
    """Return a count for each state in the order of `CODES`, up to `largest` for the most populous.

    It grows slower than the population, so that the smallest states are not negligible.
    """
    relative = np.array([(BY_CODE[code].population / _LARGEST) ** 0.6 for code in CODES])
    return (smallest + (largest - smallest) * relative).astype(np.int64)


def state_of_zip(zip_code: pl.Expr) -> pl.Expr:
    """Return the state that a ZIP code is in, null where its prefix is no state's."""
    return zip_code.str.slice(0, 3).replace_strict(_ZIP_PREFIXES, default=None, return_dtype=pl.String)
