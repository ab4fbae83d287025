import datetime as dt
import random

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagfusion_reference.defs.healthcare import extracts, register
from dagfusion_reference.defs.healthcare.aggregates import SCHEMA as AGGREGATES
from dagfusion_reference.defs.healthcare.aggregates import organizations_by_day
from dagfusion_reference.defs.healthcare.checks import REGISTER
from dagfusion_reference.defs.healthcare.extracts import state_extracts
from dagfusion_reference.defs.healthcare.metrics import aggregate_metrics, organization_metrics
from dagfusion_reference.defs.healthcare.register import npi_is_valid, register_of_organizations, with_check_digit
from dagfusion_reference.defs.healthcare.taxonomy import EIN_PREFIXES, TAXONOMIES
from dagfusion_reference.defs.partitions import StateDay
from dagfusion_reference.defs.states import BY_CODE, CODES, STATES, state_of_zip
from tests.tiers import examples

REGISTERED = register_of_organizations(7)
DAYS = [dt.date(2024, 1, 1) + dt.timedelta(days=day) for day in range(5)]
WEEK = [StateDay(day, state) for state in CODES for day in DAYS]

partitions = st.builds(StateDay, st.dates(dt.date(2024, 1, 1), dt.date(2026, 12, 31)), st.sampled_from(CODES))


def luhn(number: int) -> bool:
    """The textbook's way, digit by digit."""
    total = 0
    for position, digit in enumerate(int(character) for character in reversed(f"80840{number}")):
        total += sum(divmod(digit * 2, 10)) if position % 2 else digit
    return total % 10 == 0


def test_the_states_are_the_fifty() -> None:
    assert len(STATES) == len(set(CODES)) == 50
    assert (CODES[0], CODES[-1]) == ("AL", "WY")
    owners = [prefix for state in STATES for prefix in range(state.first_zip, state.last_zip + 1)]
    assert len(owners) == len(set(owners))


@pytest.mark.parametrize(
    ("zip_code", "state"),
    [("94105", "CA"), ("10001", "NY"), ("02139", "MA"), ("00501", None), ("", None), (None, None)],
)
def test_a_zip_code_is_in_a_state(zip_code: str | None, state: str | None) -> None:
    assert pl.DataFrame({"zip": [zip_code]}, {"zip": pl.String}).select(state_of_zip(pl.col("zip"))).item() == state


def test_the_register_has_its_rows_and_columns() -> None:
    assert REGISTERED.shape == (10_000, 8)
    assert REGISTERED.schema == register.SCHEMA
    assert sum(REGISTERED.null_count().row(0)) == 0
    assert REGISTERED["npi"].is_sorted()


def test_the_register_is_the_same_for_a_seed_and_another_for_another() -> None:
    assert register_of_organizations(7).equals(REGISTERED)
    assert not register_of_organizations(8).equals(REGISTERED)


@settings(max_examples=examples(5), deadline=None)
@given(st.integers(-(2**63), 2**63))
def test_the_register_keeps_its_rules_for_any_seed(seed: int) -> None:
    registered = register_of_organizations(seed)
    for rule in REGISTER:
        assert registered.select(rule.broken.sum()).item() == 0, rule.name
    assert registered["tax_id"].n_unique() == registered.height


def test_every_npi_passes_the_textbook_check() -> None:
    assert all(luhn(npi) for npi in REGISTERED["npi"])


@given(st.integers(10**8, 3 * 10**8 - 1))
def test_exactly_one_digit_makes_a_number_an_npi(base: int) -> None:
    candidates = pl.DataFrame({"npi": [base * 10 + digit for digit in range(10)]})
    valid = candidates.filter(npi_is_valid(pl.col("npi")))["npi"].to_list()
    assert (
        valid
        == [number for number in candidates["npi"] if luhn(number)]
        == [pl.select(with_check_digit(pl.lit(base))).item()]
    )


def test_an_npi_of_another_length_is_not_valid() -> None:
    wrong = pl.DataFrame({"npi": [123456789, 12345678930, 3234567890, -1234567893, 0]})
    assert not wrong.select(npi_is_valid(pl.col("npi")).any()).item()
    assert pl.select(npi_is_valid(pl.lit(1234567893))).item()


def test_identities_look_like_their_domain() -> None:
    prefixes = REGISTERED["tax_id"].str.slice(0, 2).cast(pl.Int64)
    assert set(prefixes) <= set(EIN_PREFIXES)
    known = {(taxonomy.code, taxonomy.specialty) for taxonomy in TAXONOMIES}
    assert set(REGISTERED.select("taxonomy_code", "specialty").iter_rows()) == known
    assert REGISTERED["organization_name"].n_unique() > 6_000
    assert REGISTERED["provider_count"].min() == 1
    by_specialty = dict(REGISTERED.group_by("specialty").agg(pl.col("provider_count").median()).iter_rows())
    assert by_specialty["General Acute Care Hospital"] > 20 * by_specialty["Community Pharmacy"]
    assert REGISTERED["enumeration_date"].is_between(dt.date(2005, 5, 23), dt.date(2023, 12, 31)).all()


def test_partitions_have_their_columns_and_bounds() -> None:
    written = state_extracts(REGISTERED, WEEK, 7).collect()
    assert written.schema == extracts.SCHEMA
    assert written.width == 10
    sizes = written.group_by("state", "date").agg(rows=pl.len(), organizations=pl.col("npi").n_unique())
    assert sizes.height == len(WEEK)
    assert sizes["rows"].is_between(50, 500).all()
    assert (sizes["rows"] == sizes["organizations"]).all()
    assert sum(written.null_count().row(0)) == 0


def test_larger_states_have_larger_partitions() -> None:
    rows = dict(state_extracts(REGISTERED, WEEK, 7).group_by("state").agg(pl.len() / len(DAYS)).collect().iter_rows())
    population = np.array([BY_CODE[code].population for code in CODES])
    assert np.corrcoef(population, [rows[code] for code in CODES])[0, 1] > 0.9
    assert rows["WY"] < 100
    assert rows["CA"] > 420


def test_organizations_come_from_the_register_and_their_state() -> None:
    written = state_extracts(REGISTERED, WEEK, 7).collect()
    assert written.select((state_of_zip(pl.col("zip_code")) == pl.col("state")).all()).item()
    kept = [name for name in REGISTERED.columns if name != "provider_count"]
    assert written.join(REGISTERED, on=kept, how="anti").height == 0
    providers = written.join(REGISTERED, on="npi", suffix="_registered")
    change = (providers["provider_count"] / providers["provider_count_registered"]).filter(
        providers["provider_count_registered"] > 20
    )
    assert change.is_between(0.85, 1.15).all()
    assert change.n_unique() > 10


@settings(max_examples=examples(25), deadline=None)
@given(st.lists(partitions, min_size=1, max_size=12, unique=True), st.integers(1, 3), st.randoms())
def test_a_partition_is_the_same_in_any_run(run: list[StateDay], seed: int, shuffle: random.Random) -> None:
    alone = pl.concat([state_extracts(REGISTERED, [partition], seed).collect() for partition in run])
    assert state_extracts(REGISTERED, run, seed).collect().equals(alone)
    shuffled = list(run)
    shuffle.shuffle(shuffled)
    order = ["state", "date", "npi"]
    assert state_extracts(REGISTERED, shuffled, seed).collect().sort(order).equals(alone.sort(order))


def test_another_seed_or_day_is_another_extract() -> None:
    first, second = StateDay(DAYS[0], "CA"), StateDay(DAYS[1], "CA")
    written = [
        state_extracts(REGISTERED, [day], seed).collect().drop("date")
        for day, seed in ((first, 7), (second, 7), (first, 8))
    ]
    assert not written[0].equals(written[1])
    assert not written[0].equals(written[2])


def test_partitions_come_in_the_order_of_the_run_and_whole() -> None:
    run = [StateDay(day, state) for day in DAYS for state in reversed(CODES)]
    written = state_extracts(REGISTERED, run, 7).collect()
    assert [StateDay(*row) for row in written.select("date", "state").unique(maintain_order=True).iter_rows()] == run
    assert written.select(pl.struct("date", "state").rle_id().n_unique()).item() == len(run)


def test_a_register_without_enough_organizations_is_refused() -> None:
    without = REGISTERED.filter(state_of_zip(pl.col("zip_code")) != "WY")
    with pytest.raises(ValueError, match="has 0 organizations with a ZIP code of WY; an extract needs 86"):
        state_extracts(without, [StateDay(DAYS[0], "WY")], 7)
    assert state_extracts(without, [StateDay(DAYS[0], "CA")], 7).collect().height > 0


def test_aggregates_and_metrics_are_of_the_extracts() -> None:
    written = state_extracts(REGISTERED, WEEK, 7).collect()
    days = organizations_by_day(written.lazy())
    assert days.schema == AGGREGATES
    assert days.height == len(WEEK)
    day = written.filter((pl.col("state") == "TX") & (pl.col("date") == DAYS[2]))
    row = days.row(by_predicate=(pl.col("state") == "TX") & (pl.col("date") == DAYS[2]), named=True)
    assert row["organizations"] == day.height
    assert row["providers"] == sum(day["provider_count"])
    assert row["mean_providers"] == pytest.approx(row["providers"] / day.height, abs=0.01)
    assert organization_metrics(day.to_arrow()) == {
        "organizations": day.height,
        "providers": row["providers"],
        "specialties": row["specialties"],
    }
    assert aggregate_metrics(days.filter(pl.col("date") == DAYS[0]).to_arrow())["states"] == 50


def test_metrics_of_nothing_are_zero() -> None:
    nothing: pa.Table = pl.DataFrame(schema=extracts.SCHEMA).to_arrow()
    assert organization_metrics(nothing) == {"organizations": 0, "providers": 0, "specialties": 0}
    assert aggregate_metrics(pl.DataFrame(schema=AGGREGATES).to_arrow()) == {
        "organizations": 0,
        "providers": 0,
        "states": 0,
    }
