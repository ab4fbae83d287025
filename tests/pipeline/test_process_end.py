"""A process that read or wrote many objects ends in order, however late obstore's threads come back."""

from pathlib import Path

import pytest

from tests.late_threads import check_end

PUT = """
import obstore
from obstore.store import MemoryStore
from dagfusion_pipeline.uploads import background_loop
async def put():
    await obstore.put_async(MemoryStore(), "key", b"content")
with background_loop() as loop:
    asyncio.run_coroutine_threadsafe(put(), loop).result()
"""


@pytest.mark.usefixtures("processes")
def test_a_process_that_put_an_object(tmp_path: Path) -> None:
    check_end(PUT, tmp_path)
