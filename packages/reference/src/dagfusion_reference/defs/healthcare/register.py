"""The register of healthcare organizations, made up: identities that are valid in form and belong to nobody."""

import datetime as dt

import numpy as np
import polars as pl

from dagfusion_reference.defs.draws import Draws, Integers, rows_of, seeds_of
from dagfusion_reference.defs.healthcare.taxonomy import (
    EIN_PREFIXES,
    FEATURES,
    LEGAL_FORM_WEIGHTS,
    LEGAL_FORMS,
    PLACES,
    TAXONOMIES,
)
from dagfusion_reference.defs.states import BY_CODE, CODES, by_size

ORGANIZATIONS = 10_000
FEWEST_IN_A_STATE, MOST_IN_A_STATE = 52, 525  # a little above what a day's extract takes
SCHEMA = pl.Schema(
    {
        "npi": pl.Int64(),
        "organization_name": pl.String(),
        "tax_id": pl.String(),
        "taxonomy_code": pl.String(),
        "specialty": pl.String(),
        "zip_code": pl.String(),
        "provider_count": pl.Int64(),
        "enumeration_date": pl.Date(),
    }
)

_FIRST_ENUMERATION = dt.date(2005, 5, 23)  # the day that NPIs were first given out
_ENUMERATION_DAYS = (dt.date(2024, 1, 1) - _FIRST_ENUMERATION).days


def register_of_organizations(seed: int) -> pl.DataFrame:
    """Return 10,000 organizations by NPI, spread over the states by their size; NPI and tax ID are unique."""
    keys, place = rows_of(seeds_of([(seed, "raw_organizations")]), np.array([ORGANIZATIONS]))
    draws = Draws(keys)
    kind = draws.choice("taxonomy", [taxonomy.weight for taxonomy in TAXONOMIES])
    columns: dict[str, pl.Expr | pl.Series] = {
        "npi": with_check_digit(pl.lit(pl.Series(10**8 + _distinct(draws, "npi", place, 10**8)))),
        "organization_name": _names(draws, kind),
        "tax_id": _tax_ids(draws),
        "taxonomy_code": pl.Series([taxonomy.code for taxonomy in TAXONOMIES])[kind],
        "specialty": pl.Series([taxonomy.specialty for taxonomy in TAXONOMIES])[kind],
        "zip_code": _zip_codes(draws),
        "provider_count": _provider_counts(draws, kind),
        "enumeration_date": pl.lit(_FIRST_ENUMERATION)
        + pl.duration(days=pl.lit(pl.Series(draws.integers("enumeration", 0, _ENUMERATION_DAYS)))),
    }
    return pl.DataFrame().select(**columns).cast(SCHEMA).sort("npi")


def with_check_digit(base: pl.Expr) -> pl.Expr:
    """Return the NPI of a nine-digit number: itself and the Luhn digit over it and the issuer prefix 80840."""
    total = pl.lit(24)
    for power in range(9):
        digit = base // 10**power % 10
        doubled = digit * 2
        total = total + (doubled // 10 + doubled % 10 if power % 2 == 0 else digit)
    return base * 10 + (10 - total % 10) % 10


def npi_is_valid(npi: pl.Expr) -> pl.Expr:
    """Return True if a number is an NPI: ten digits that start with 1 or 2 and end in their check digit."""
    return npi.is_between(10**9, 3 * 10**9 - 1) & (npi == with_check_digit(npi // 10))


def organizations_by_state() -> Integers:
    """Return the number of organizations of each state, in the order of the state codes."""
    sizes = by_size(FEWEST_IN_A_STATE, MOST_IN_A_STATE)
    counts: Integers = sizes * ORGANIZATIONS // sizes.sum()
    counts[: ORGANIZATIONS - counts.sum()] += 1
    return counts


def _names(draws: Draws, kind: Integers) -> pl.Expr:
    names = [taxonomy.names for taxonomy in TAXONOMIES]
    first = np.cumsum([0, *map(len, names)])[:-1]
    of_kind = np.array([len(choices) for choices in names])[kind]
    trade = first[kind] + (draws.uniform("trade") * of_kind).astype(np.int64)
    return pl.concat_str(
        pl.Series(PLACES)[draws.integers("place", 0, len(PLACES))],
        pl.Series(FEATURES)[draws.integers("feature", 0, len(FEATURES))],
        pl.Series([name for choices in names for name in choices])[trade],
        pl.Series(LEGAL_FORMS)[draws.choice("legal form", LEGAL_FORM_WEIGHTS)],
        separator=" ",
    )


def _distinct(draws: Draws, column: str, place: Integers, below: int) -> Integers:
    """Return numbers below a limit, none twice: one from each of as many equal ranges as there are rows."""
    width = below // ORGANIZATIONS
    return place * width + draws.integers(column, 0, width)


def _tax_ids(draws: Draws) -> pl.Expr:
    serial = _distinct(draws, "tax id", np.argsort(draws.uniform("tax id order")), 10**7)
    prefix = pl.Series(EIN_PREFIXES).cast(pl.String)[draws.integers("ein", 0, len(EIN_PREFIXES))]
    return pl.concat_str(prefix, pl.lit(pl.Series(serial)).cast(pl.String).str.zfill(7), separator="-")


def _zip_codes(draws: Draws) -> pl.Expr:
    states = [BY_CODE[code] for code in CODES]
    home = np.repeat(np.arange(len(CODES)), organizations_by_state())[np.argsort(draws.uniform("home"))]
    first = np.array([state.first_zip for state in states])[home]
    width = np.array([state.last_zip - state.first_zip + 1 for state in states])[home]
    zip3 = first + (draws.uniform("zip3") * width).astype(np.int64)
    return pl.lit(pl.Series(zip3 * 100 + draws.integers("delivery", 1, 100))).cast(pl.String).str.zfill(5)


def _provider_counts(draws: Draws, kind: Integers) -> pl.Series:
    median = np.array([taxonomy.providers for taxonomy in TAXONOMIES], dtype=np.float64)[kind]
    return pl.Series(np.maximum(1, np.rint(median * np.exp(0.6 * draws.normal("providers")))).astype(np.int64))
