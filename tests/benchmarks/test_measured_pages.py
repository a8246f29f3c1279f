"""Pages that follow from measurements say what the measurements say."""

from __future__ import annotations

import json

from benchmarks.common import ledger
from tests.commands import ROOT


def test_the_page_of_measurements_is_of_the_same_run_as_its_numbers():
    measured = json.loads((ROOT / 'docs' / 'measurements_speed.json').read_bytes())
    page = (ROOT / 'docs' / 'measurements_speed.md').read_text()
    assert f'; revision {measured["revision"]}.' in page
    for table in (table for part in measured['parts'].values() for table in part['tables']):
        assert ledger.markdown_table(table['header'], table['rows']) in page
