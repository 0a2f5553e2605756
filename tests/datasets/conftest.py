"""Loaders are tested through the command, on small folders in the published layout (`layouts`)."""

from pathlib import Path

import layouts
import pytest

from stedm import cli, config
from stedm.sheet import Slide, read_sheet
from stedm.slides import open_slide
from stedm.slides.annotations import read_annotation

ROOT = Path(__file__).parents[2]


class DataSet:
    """A small folder of a data set, and the command that makes its sheet."""

    def __init__(self, name: str, folder: Path, capsys: pytest.CaptureFixture[str]):
        self.name = name
        self.folder = getattr(layouts, name)(folder)
        self.out = folder.parent / name / "slides.csv"
        self._capsys = capsys

    def make(self, *options: str) -> str:
        """Make the sheet; what the command prints."""
        status, text, messages = self._run(*options)
        assert status == 0, messages
        return text

    def refused(self, *options: str) -> list[str]:
        """The messages of a command that makes none."""
        status, _, messages = self._run(*options)
        assert status == cli.USER_ERROR
        assert not self.out.exists()
        return messages.splitlines()

    def _run(self, *options: str) -> tuple[int, str, str]:
        status = cli.main(["sheet", self.name, "--folder", str(self.folder), "--out", str(self.out), *options])
        answer = self._capsys.readouterr()
        return status, answer.out, answer.err

    @property
    def slides(self) -> dict[str, Slide]:
        return {slide.slide: slide for slide in read_sheet(config.Slides(sheet=str(self.out)))}

    def labels(self, slide: str, monkeypatch: pytest.MonkeyPatch):
        """Labels of a whole slide with the classes of the study of this data set."""
        monkeypatch.setenv("STEDM_REAL_DATA", str(self.out.parents[1]))
        study = config.load(ROOT / f"workflow/studies/{self.name}.yaml")
        row = self.slides[slide]
        with open_slide(row) as opened:
            annotation = read_annotation(
                row.annotation, study.classes, study.annotations, opened.dimensions, row.path.name
            )
            return annotation.rasterise(0, 0, *opened.dimensions, 1)


@pytest.fixture
def data_set(tmp_path, capsys):
    def make(name: str, folder: str | None = None) -> DataSet:
        return DataSet(name, tmp_path / (folder or name), capsys)

    return make
