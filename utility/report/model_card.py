"""The model card of a run, in Markdown: what it is for, what it was trained on, how good it is.

The sections are those of M. Mitchell et al., Model Cards for Model Reporting, FAT* 2019, of which
here only what was measured is filled in.
"""

from __future__ import annotations

from utility.command_line.text_table import markdown_table
from utility.report import page
from utility.report.findings import Findings
from utility.visualization.html_page import Table

_CARD = """# Model card: {name}

## Model

{networks}

{sizes}
{speed}

## Use

It finds the keypoints of one garment in a picture of it: {categories}. It is not for pictures with
several garments, nor for other garments. A point that is not in the picture gets a place all the
same. Whether its weights may be passed on, or used commercially, depends on the terms of its data
and of the weights that it started from, which this card does not know.

## Data

{data}

## Scores

{headline}

{scores}
{told}## How far off

{radii}
## Where NE comes from

{errors}
## Train it again

```
{commands}
```
"""


def text(found: Findings) -> str:
    """Return the card."""
    told = page.told_tables(found)
    return _CARD.format(
        name=found.name,
        networks='\n\n'.join(page.network_words(network) for network in found.networks),
        sizes=_markdown(page.sizes_table(found)),
        speed=page.speed_words(found),
        categories=', '.join(found.score.per_category),
        data=page.data_words(found),
        headline=page.headline(found),
        scores=_markdown(page.category_table(found)),
        told=''.join(f'## {table.caption}\n\n{_markdown(table)}\n' for table in told),
        radii=_radii(found),
        errors=_markdown(page.error_page.tables(found.errors)[0]),
        commands='\n'.join(network.command for network in found.networks),
    )


def _radii(found: Findings) -> str:
    if found.radii is None:
        return f'Not known: {found.radii_from}.\n'
    words = (
        f'Circles of {100 * found.radii.level:g} %, learned from {found.radii_from}: median '
        f'{found.radii.median_radius:.1f} px, mean {found.radii.mean_radius:.1f} px.\n\n'
    )
    return words + _markdown(page.radii_tables(found)[0])


def _markdown(table: Table) -> str:
    return markdown_table(table.head, table.rows)
