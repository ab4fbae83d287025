"""The export of orders, made up: baskets of a catalog of products, in exact cents."""

from typing import NamedTuple

import numpy as np
import polars as pl

from dagfusion_reference.defs.draws import Draws, Floats, Integers, rows_of, seeds_of

ORDERS = 50_000
FIRST_ORDER_ID = 10_000_001
CUSTOMERS = 20_000
PRODUCTS_A_CATEGORY = 250
MONEY = pl.Decimal(12, 2)
SCHEMA = pl.Schema(
    {
        "order_id": pl.Int64(),
        "customer_id": pl.Int64(),
        "product_id": pl.String(),
        "category": pl.String(),
        "channel": pl.String(),
        "status": pl.String(),
        "quantity": pl.Int64(),
        "unit_price": MONEY,
        "total_amount": MONEY,
    }
)


class Category(NamedTuple):
    """A category of products: its name, its code in product ids, how often it sells, and its median price."""

    name: str
    code: str
    weight: float
    price: float


CATEGORIES = (
    Category("Electronics", "ELE", 18, 119),
    Category("Home and Kitchen", "HOM", 20, 39),
    Category("Apparel", "APP", 19, 34),
    Category("Beauty", "BEA", 12, 19),
    Category("Sports and Outdoors", "SPO", 11, 45),
    Category("Toys and Games", "TOY", 9, 25),
    Category("Books", "BOO", 7, 16),
    Category("Grocery", "GRO", 4, 12),
)
CHANNELS = ("web", "mobile", "marketplace", "store")
STATUSES = ("delivered", "shipped", "processing", "returned", "cancelled")

_CHANNEL_WEIGHTS = (46, 34, 12, 8)
_STATUS_WEIGHTS = (78, 9, 5, 5, 3)
_MOST_OF_A_PRODUCT = 12
_CENTS_BELOW, _CENTS_BELOW_WEIGHTS = (1, 5, 50), (8, 1, 1)  # a price ends in 99, 95 or 50 cents


def export_of_orders(seed: int) -> pl.DataFrame:
    """Return 50,000 orders by their id; a total is its quantity times its unit price to the cent."""
    keys, place = rows_of(seeds_of([(seed, "raw_orders")]), np.array([ORDERS]))
    draws = Draws(keys)
    product = _products(draws)
    category = product // PRODUCTS_A_CATEGORY
    quantity = _quantities(draws)
    cents = _price_cents(seed)[product]
    columns: dict[str, pl.Expr | pl.Series] = {
        "order_id": pl.Series(FIRST_ORDER_ID + place),
        "customer_id": pl.Series(100_001 + (CUSTOMERS * draws.uniform("customer") ** 1.5).astype(np.int64)),
        "product_id": pl.Series(_product_ids())[product],
        "category": pl.Series([category.name for category in CATEGORIES])[category],
        "channel": pl.Series(CHANNELS)[draws.choice("channel", _CHANNEL_WEIGHTS)],
        "status": pl.Series(STATUSES)[draws.choice("status", _STATUS_WEIGHTS)],
        "quantity": pl.Series(quantity),
        "unit_price": _money(cents),
        "total_amount": _money(cents * quantity),
    }
    return pl.DataFrame().select(**columns)


def _products(draws: Draws) -> Integers:
    """Which product each order is of: the first of a category sell best."""
    category = draws.choice("category", [category.weight for category in CATEGORIES])
    return category * PRODUCTS_A_CATEGORY + (PRODUCTS_A_CATEGORY * draws.uniform("product") ** 2).astype(np.int64)


def _product_ids() -> list[str]:
    return [f"{category.code}-{number:04d}" for category in CATEGORIES for number in range(1, PRODUCTS_A_CATEGORY + 1)]


def _price_cents(seed: int) -> Integers:
    """Return the price of each product of the catalog, just below a whole dollar."""
    keys, _ = rows_of(seeds_of([(seed, "products")]), np.array([len(CATEGORIES) * PRODUCTS_A_CATEGORY]))
    draws = Draws(keys)
    median = np.repeat([category.price for category in CATEGORIES], PRODUCTS_A_CATEGORY)
    dollars = np.rint(median * np.exp(0.7 * draws.normal("price"))).clip(2, 9_999)
    cents: Floats = dollars * 100 - np.array(_CENTS_BELOW)[draws.choice("ending", _CENTS_BELOW_WEIGHTS)]
    return cents.astype(np.int64)


def _quantities(draws: Draws) -> Integers:
    drawn: Floats = 1 + np.floor(np.log1p(-draws.uniform("quantity")) / np.log(0.42))
    return drawn.clip(max=_MOST_OF_A_PRODUCT).astype(np.int64)


def _money(cents: Integers) -> pl.Expr:
    return (pl.lit(pl.Series(cents)).cast(pl.Decimal(14, 2)) / 100).cast(MONEY)
