"""The gap-safe watermark alone, against every interleaving of transactions that Hypothesis thinks of."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from dagfusion_query.event_log.event_log_interface import SLACK_S, Watermark
from tests.tiers import examples


@dataclass
class Server:
    """Hands out transaction numbers and ids as PostgreSQL does."""

    next_transaction: int = 1
    next_id: int = 1
    open: dict[int, list[int]] = field(default_factory=dict)
    visible: set[int] = field(default_factory=set)

    def begin(self) -> None:
        self.open[self.next_transaction] = []
        self.next_transaction += 1

    def insert(self, transaction: int) -> None:
        self.open[transaction].append(self.next_id)
        self.next_id += 1

    def end(self, transaction: int, *, commit: bool) -> None:
        ids = self.open.pop(transaction)
        if commit:
            self.visible.update(ids)

    @property
    def xmin(self) -> int:
        return min(self.open, default=self.next_transaction)


@settings(max_examples=examples(300))
@given(st.data())
def test_each_id_is_delivered_once_and_none_is_missed(data: st.DataObject) -> None:
    server, watermark, delivered, now = Server(), Watermark(), list[int](), 0.0

    def poll() -> None:
        nonlocal watermark
        above = [event_id for event_id in server.visible if event_id > watermark.settled]
        advance = watermark.advance(above, server.xmin, server.next_transaction, now)
        assert list(advance.gone) == []
        delivered.extend(advance.fresh)
        watermark = advance.watermark
        assert not any(event_id <= watermark.settled for ids in server.open.values() for event_id in ids)

    for step in data.draw(
        st.lists(st.sampled_from(["begin", "insert", "insert", "commit", "rollback", "poll", "poll"]), max_size=60)
    ):
        now += data.draw(st.sampled_from([0.0, 0.1, SLACK_S]))
        if step == "begin":
            server.begin()
        elif step == "poll":
            poll()
        elif server.open:
            transaction = data.draw(st.sampled_from(sorted(server.open)))
            if step == "insert":
                server.insert(transaction)
            else:
                server.end(transaction, commit=step == "commit")
    for transaction in list(server.open):
        server.end(transaction, commit=True)
    for _ in range(2):
        now += 2 * SLACK_S  # one would do, but for rounding
        poll()
    assert sorted(delivered) == sorted(server.visible)
    assert watermark.seen == frozenset()
    assert (watermark.count, watermark.total) == (len(server.visible), sum(server.visible))
    assert watermark.settled == max(server.visible, default=0)


def test_a_deleted_row_is_told() -> None:
    first = Watermark().advance([1, 2], 5, 5, 0.0).watermark
    assert first.advance([2], 5, 5, 0.1).gone == [1]


def test_an_idle_log_costs_no_memory() -> None:
    watermark = Watermark()
    for second in range(100):
        watermark = watermark.advance([1, 2], 1, 9, float(second)).watermark  # a transaction stays open
    assert len(watermark.pending) == 1
