"""What figures call patients and slides: by pseudonyms, whose key is one table, or as the sheet does."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from stedm.errors import UserError
from stedm.files import written_whole
from stedm.sheet import Slide
from stedm.tables import PSEUDONYMS


def write_pseudonyms(slides: Sequence[Slide], *, out: Path) -> None:
    """Write the key: patients are P1, P2 … in the order of the sheet; their slides are P1-1, P1-2 …, a single one P1.

    Slides that are added at the end of the sheet change nobody's pseudonym, except that a patient's single slide P1
    becomes P1-1 when a second one is added.
    """
    table = pd.DataFrame({"slide": [item.slide for item in slides], "patient": [item.patient for item in slides]})
    number, _ = pd.factorize(table["patient"])
    patient = "P" + pd.Series(number + 1).astype(str)
    of_patient = table.groupby("patient")["slide"]
    place = "-" + (of_patient.cumcount() + 1).astype(str)
    slide = patient + place.where(of_patient.transform("size") > 1, "")
    with written_whole(out) as temporary:
        PSEUDONYMS.write(table.assign(slide_pseudonym=slide, patient_pseudonym=patient), temporary)


class Names:
    """The names that a figure shows.

    Args:
        pseudonyms: key of `write_pseudonyms`; None: patients and slides keep their names.
    """

    def __init__(self, pseudonyms: Path | None):
        self.path = pseudonyms
        self.key = None if pseudonyms is None else PSEUDONYMS.read(pseudonyms)

    def patient(self, name: str) -> str:
        return self.shown("patient", name)

    def slide(self, name: str) -> str:
        return self.shown("slide", name)

    def shown(self, column: str, name: str) -> str:
        """The name that stands for a patient or slide.

        Raises:
            UserError: the key does not have it.
        """
        if self.key is None:
            return name
        found = self.key.loc[self.key[column] == name, f"{column}_pseudonym"]
        if found.empty:
            raise UserError(f"{self.path}: has no {column} {name!r}; make it with `{PSEUDONYMS.made_by}`")
        return str(found.iloc[0])
