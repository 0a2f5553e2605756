"""Tables for tests that care about few of the columns."""

import pandas as pd

from stedm.tables import TEXT


def write_filled(kind, rows, path):
    """Write a table of this kind; columns that the rows lack are empty or 0."""
    table = pd.DataFrame(rows)
    missing = {name: "" if dtype == TEXT else 0 for name, dtype in kind.columns.items() if name not in table}
    kind.write(table.assign(**missing), path)
    return path
