import re
from pathlib import Path

import pytest

from stedm.config import PhantomOptions, Slides, Study
from stedm.errors import UserError
from stedm.phantom.files import render_phantom
from stedm.sheet import (
    Slide,
    path_pattern,
    read_sheet,
    read_study_sheet,
    similar_names,
    slides_by_name,
    write_sheet,
)


@pytest.fixture
def read(tmp_path):
    """Read a sheet next to which a.svs, b.svs, c.svs and a.geojson lie."""
    for name in ("a.svs", "b.svs", "c.svs", "a.geojson"):
        (tmp_path / name).touch()

    def read_text(text, **options):
        sheet = tmp_path / "slides.csv"
        sheet.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_sheet(Slides(sheet=str(sheet)), **options)

    return read_text


@pytest.fixture
def messages(read):
    def refused(text):
        with pytest.raises(UserError) as error:
            read(text)
        return error.value.messages

    return refused


def test_rows_become_slides(read, tmp_path):
    slides = read(
        "slide,patient,path,annotation,group,mpp,split\nA,p1,a.svs,a.geojson,solid,0.25,test\nB,p2,b.svs,,,,\n"
    )
    assert slides == [
        Slide("A", "p1", tmp_path / "a.svs", tmp_path / "a.geojson", "solid", 0.25, "test"),
        Slide("B", "p2", tmp_path / "b.svs"),
    ]


def test_optional_columns_may_be_missing_and_rows_short_or_empty(read):
    assert [slide.slide for slide in read("path, slide ,patient\na.svs, A ,p1\n\nb.svs,B,p2\n")] == ["A", "B"]
    slides = read("slide,patient,path,annotation,group\nA,p1,a.svs\nB,p2,b.svs,,nested\n")
    assert [(slide.annotation, slide.group) for slide in slides] == [(None, ""), (None, "nested")]


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffslide,patient,path,mpp\nA,p1,a.svs,0.5\n",
        "\ufeff\ufeffslide,patient,path,mpp\nA,p1,a.svs,0.5\n",
        "slide;patient;path;mpp\r\nA;p1;a.svs;0,5\r\n",
        '"slide";"patient";"path";"mpp"\r\n"A";"p1";"a.svs";"0,5"\r\n',
        "slide\tpatient\tpath\tmpp\nA\tp1\ta.svs\t0.5\n",
        "sep=,\nslide,patient,path,mpp\nA,p1,a.svs,0.5\n",
        "\ufeffsep=;\r\nslide;patient;path;mpp\r\nA;p1;a.svs;0,5\r\n",
        '"sep=|"\nslide|patient|path|mpp\nA|p1|a.svs|0,5\n',
        "slide,patient,path,mpp,,\nA,p1,a.svs,0.5,,\n,,,,,\n",
        "slide;patient;path;mpp;;\nA;p1;a.svs;0,5;;\n;;;;;\n",
        "slide,patient,path,mpp\nA,p1,a.svs,0.5,,,\n",
        "slide,,patient,path,mpp\nA,,p1,a.svs,0.5\n",
        "\n,,,\nslide,patient,path,mpp\nA,p1,a.svs,0.5\n",
        "slide,patient,path,mpp\rA,p1,a.svs,0.5\r",
        'slide,patient,path,mpp\nA,p1,a.svs,"0,5"\n',
        "slide\tpatient\tpath\tmpp\nA\tp1\ta.svs\t0,5\n".encode("utf-16"),
    ],
)
def test_sheets_are_read_as_spreadsheet_programs_write_them(read, tmp_path, text):
    assert read(text) == [Slide("A", "p1", tmp_path / "a.svs", mpp=0.5)]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (b"PK\x03\x04 a workbook", "slides.csv: cannot be read as CSV: it is a workbook; save it as CSV"),
        ("slide,patient,path\n\nA,M\u00fcller,a.svs\n".encode("cp1252"), "line 3: .* it is not UTF-8; save it as CSV"),
        ("slide,patient,path\nA,p1,a.svs\n".encode("utf-16-le"), "it is not text in UTF-8; save it as CSV"),
        ("slide,patient,path,mpp\nA,p1,a.svs,0,5\n", "line 2: the value '5' has no column; .* in double quotes"),
        (
            "slide,patient,path,,x\nA,p1,a.svs,yes,\n",
            "line 2: the value 'yes' has no column; name its column",
        ),
        ("slide,patient,path,mpp,mpp\nA,p1,a.svs,,1\n", "line 1: the column 'mpp' appears twice; keep one"),
        ("sep=;\nslide;patiant;path\nA;p1;a.svs\n", "line 2: there is no column 'patiant'; did you mean 'patient'"),
        ('sep=;\nslide;patient;path\nA;p1;a.svs\nB;"p2;b.svs\n', "line 4: not CSV: .* quotation mark"),
        ("slide,patient,path,mpp\nA,p1,a.svs,1.234.5\n", "mpp '1.234.5' is not a positive number"),
        ("slide;patient;path;mpp\nA;p1;a.svs;1.234,5\n", "mpp '1.234,5' is not a positive number"),
        ("slide,patient,path\nA,p1,.\n", "line 2 .*path: .* is not a file; correct the path"),
        (f"slide,patient,path\nA,p1,{'x' * 300}.svs\n", "line 2 .*path: there is no file"),
    ],
)
def test_what_cannot_be_read_is_named_with_a_remedy(messages, text, what):
    (message,) = messages(text) if "patiant" not in str(text) else messages(text)[1:]
    assert re.search(what, message), message


def test_lines_are_counted_as_editors_count_them(messages):
    (message,) = messages('sep=,\nslide,patient,path,group\nA,p1,a.svs,"two\nlines"\n\nB,p2,gone.svs,\n')
    assert "slides.csv, line 6 (slide 'B'): path: there is no file" in message


def test_every_wrong_row_is_reported_with_its_line(messages):
    found = messages(
        "slide,patient,path,annotation,group,mpp,split\n"
        "A,p1,a.svs,,,,\n"
        "B,p2,missing.svs,,,,\n"
        "\n"
        "C,p3,b.svs,missing.geojson,,zero,\n"
        "../D,p;4,c.svs,,,-1,\n"
        "E,p5,,,,nan,tests\n"
        "a,p6,a.geojson,,,,\n"
    )
    assert all("slides.csv, line " in message for message in found)
    parts = [
        ("line 3 (slide 'B')", "missing.svs"),
        ("line 5 (slide 'C')", "missing.geojson"),
        ("line 5 (slide 'C')", "mpp 'zero'"),
        ("line 6 (slide '../D')", "slide '../D' is not a valid name"),
        ("line 6 (slide '../D')", "patient 'p;4'"),
        ("line 6 (slide '../D')", "mpp '-1'"),
        ("line 7 (slide 'E')", "path is empty"),
        ("line 7 (slide 'E')", "mpp 'nan'"),
        ("line 7 (slide 'E')", "split 'tests' is not one of annotated, unannotated, validation, test"),
        ("line 8", "'a' is already on line 2"),
    ]
    assert len(found) == len(parts)
    for where, what in parts:
        assert any(where in message and what in message for message in found), (where, what)


def test_a_patient_in_two_splits_is_refused(messages):
    (found,) = messages("slide,patient,path,split\nA,p1,a.svs,test\nB,p1,b.svs,annotated\nC,p1,c.svs,test\n")
    assert "line 3: patient 'p1' has split 'annotated', but 'test' on line 2" in found


def test_slides_of_a_patient_may_be_of_different_groups(read):
    slides = read("slide,patient,path,group\nA,p1,a.svs,benign\nB,p1,b.svs,malignant\n")
    assert [slide.group for slide in slides] == ["benign", "malignant"]


@pytest.mark.parametrize("patient", ["p1", "p2"])
@pytest.mark.parametrize("path", ["a.svs", "folder/../a.svs", "link.svs", "linked/a.svs", "linked/link.svs"])
def test_one_file_in_two_rows_is_refused(messages, tmp_path, patient, path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.svs").symlink_to("a.svs")
    (tmp_path / "linked").symlink_to(".")
    (found,) = messages(f"slide,patient,path\nA,p1,a.svs\nB,p3,b.svs\nC,{patient},{path}\n")
    assert re.search(r"line 4 \(slide 'C'\): path: .*a?\.svs is the file of slide 'A' on line 2; keep one", found)


def test_one_annotation_file_may_serve_several_slides(read):
    assert len(read("slide,patient,path,annotation\nA,p1,a.svs,a.geojson\nB,p2,b.svs,a.geojson\n")) == 2


def test_the_folder_above_a_linked_folder_is_that_of_its_target(tmp_path):
    (tmp_path / "store/deep").mkdir(parents=True)
    (tmp_path / "home").mkdir()
    (tmp_path / "home/study").symlink_to("../store/deep")
    for name in ("store/s.png", "home/s.png", "store/s-mask.png"):
        (tmp_path / name).touch()
    (tmp_path / "store/deep/slides.csv").write_text("slide,patient,path,annotation\nA,p1,../s.png,../s-mask.png\n")
    (slide,) = read_sheet(Slides(sheet=str(tmp_path / "home/study/slides.csv")))
    assert slide.path == tmp_path / "store/s.png"
    assert slide.annotation == tmp_path / "store/s-mask.png"
    (tmp_path / "home/s.png").unlink()
    (tmp_path / "home/slides.csv").write_text("slide,patient,path\nA,p1,study/../s.png\n")
    (slide,) = read_sheet(Slides(sheet=str(tmp_path / "home/slides.csv")))
    assert slide.path == tmp_path / "store/s.png"


def test_a_linked_file_keeps_its_own_name(read, tmp_path):
    """Stores such as git-annex link names to files that are named by their content."""
    (tmp_path / "0f3a").touch()
    (tmp_path / "linked.svs").symlink_to("0f3a")
    assert read("slide,patient,path\nA,p1,linked.svs\n")[0].path == tmp_path / "linked.svs"


def test_names_that_differ_in_case_only_raise_a_question():
    names = [("anna", "Benign"), ("Anna", "benign"), ("ANNA", "malignant"), ("Bob", "benign")]
    slides = [Slide(str(number), patient, Path(), group=group) for number, (patient, group) in enumerate(names)]
    first, second = similar_names(slides)
    assert first.startswith("'ANNA' and 'Anna' and 'anna' count as 3 different patients; if they are the same, spell")
    assert second.startswith("'Benign' and 'benign' count as 2 different groups")


def test_composed_and_decomposed_letters_are_the_same_name(read):
    first, second = read(
        "slide,patient,path,group\nA,M\u00fcller,a.svs,d\u00e9j\u00e0\nB,Mu\u0308ller,b.svs,de\u0301ja\u0300\n"
    )
    assert (first.patient, first.group) == (second.patient, second.group)


def test_wrong_headers_are_explained(messages):
    found = messages("slide,patiant,path\nA,p1,a.svs\n")
    assert "line 1: the column 'patient' is missing" in found[0]
    assert "line 1: there is no column 'patiant'; did you mean 'patient'?" in found[1]
    assert "has no rows" in messages("slide,patient,path\n")[0]


@pytest.mark.parametrize("text", ["", "slide,patient,path\nA,p1,a.svs,x\n", 'slide,patient,path\n"A,p1,a.svs\n'])
def test_what_is_no_table_is_refused(messages, text):
    assert any("slides.csv" in message for message in messages(text))


def test_files_that_are_no_text_or_missing_are_refused(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\x89PNG\x00slide")
    for name in ("a.csv", "missing.csv"):
        with pytest.raises(UserError, match=rf"{name}.*: cannot be read as CSV"):
            read_sheet(Slides(sheet=str(tmp_path / name)))


def test_slides_drawn_by_the_study_need_not_exist_yet(read, tmp_path):
    slides = read("slide,patient,path\nA,p1,later.tiff\n", made_here=True)
    assert slides[0].path == tmp_path / "later.tiff"


def test_relative_paths_start_from_the_root(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.svs").touch()
    (tmp_path / "slides.csv").write_text("slide,patient,path\nA,p1,x/../a.svs\n")
    monkeypatch.setenv("STEDM_TEST_ROOT", str(tmp_path / "data"))
    slides = read_sheet(Slides(sheet=str(tmp_path / "slides.csv"), root="${STEDM_TEST_ROOT}"))
    assert slides[0].path == tmp_path / "data/a.svs"


def test_files_in_a_storage_lie_where_they_are_fetched_to(read, messages):
    text = "slide,patient,path,annotation\nA,p1,s3://bucket/a.svs,a.geojson\n"
    (slide,) = read(text, fetched=lambda url: Path("fetched", url.removeprefix("s3://")))
    assert slide.path == Path("fetched/bucket/a.svs")
    (message,) = messages(text)
    assert message.endswith(
        "line 2 (slide 'A'): path: only the workflow fetches s3://bucket/a.svs; run it, or download the file"
    )


@pytest.mark.parametrize("relative", [False, True])
def test_a_written_sheet_reads_back_the_same(tmp_path, monkeypatch, relative):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path.relative_to(tmp_path) if relative else tmp_path
    slides = [
        Slide("A", "p1", folder / "a ü,b.svs", folder / "a.geojson", "solid", 0.25, "test"),
        Slide("B", "p2", folder / "b.svs"),
    ]
    (tmp_path / "results").mkdir()
    write_sheet(tmp_path / "results/slides.csv", slides)
    assert slides_by_name(tmp_path / "results/slides.csv") == {"A": slides[0], "B": slides[1]}


def test_paths_named_after_their_slides_have_one_pattern():
    slides = [Slide(name, name, Path(f"d/{name}.ome.tiff"), Path(f"a/{name}.geojson")) for name in ("P1", "P1.b", "ff")]
    assert path_pattern(slides, "path") == str(Path("d/{slide}.ome.tiff"))
    assert path_pattern(slides, "annotation") == str(Path("a/{slide}.geojson"))


@pytest.mark.parametrize("paths", [("d/P1.t", "e/P2.t"), ("P1.t", "x.t"), ("P1.t", None), ("P1.t", "P2.u"), ("a", "b")])
def test_paths_without_a_pattern_are_refused(paths):
    slides = [Slide(f"P{n}", "p", Path("x"), path and Path(path)) for n, path in enumerate(paths, start=1)]
    with pytest.raises(UserError, match=r"column annotation: .* one folder .*P01\.geojson"):
        path_pattern(slides, "annotation")


def phantom_study(tmp_path, **sections):
    classes = [{"name": name, "color": color} for name, color in (("stroma", "#e8a0bf"), ("tumour", "#6a3d9a"))]
    (tmp_path / "slides.csv").write_text("slide,patient,path,annotation,group\nA,p1,r/A.tiff,r/A.geojson,solid\n")
    return Study.model_validate(
        {
            "study": "s",
            "slides": {"sheet": str(tmp_path / "slides.csv")},
            "classes": classes,
            "patches": {"size": 32, "mpp": 1.0},
            "splits": {"source": "sheet", "annotated_patients": [1]},
            "segmentation": {"training": {"steps": 1}},
            "arms": {"real": {"label": "real"}},
            "evaluation": {"reference_arm": "real"},
        }
        | sections
    )


@pytest.mark.parametrize("name", ["A.tiff", "A.geojson"])
def test_slides_of_the_user_where_phantoms_would_be_rendered_stop_the_study(tmp_path, name):
    study = phantom_study(tmp_path, phantoms={"size": 256})
    assert len(read_study_sheet(study)) == 1  # nothing there yet
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / name).write_text("mine")
    with pytest.raises(UserError, match=rf"^phantoms: .*{name}; rendering would replace them\. Remove the section"):
        read_study_sheet(study)
    with pytest.raises(UserError, match=f"{name}: exists"):
        render_phantom(
            PhantomOptions.of(study), Slide("A", "A", tmp_path / "r/A.tiff", tmp_path / "r/A.geojson", "solid")
        )
    assert (tmp_path / "r" / name).read_text() == "mine"


def test_rendered_phantoms_are_rendered_again_but_not_over_an_edited_annotation(tmp_path):
    study = phantom_study(tmp_path, phantoms={"size": 256})
    (slide,) = read_study_sheet(study)
    for _ in range(2):
        render_phantom(PhantomOptions.of(study), slide)
        read_study_sheet(study)
    slide.annotation.write_text(slide.annotation.read_text() + " ")
    with pytest.raises(UserError, match=r"^phantoms: .*A\.geojson"):
        read_study_sheet(study)


def test_the_sheet_of_a_study_is_not_taken_with_fewer_rows(tmp_path):
    write_sheet(tmp_path / "slides.csv", [Slide(name, name, tmp_path / name) for name in "AB"])
    assert list(slides_by_name(tmp_path / "slides.csv")) == ["A", "B"]
    lines = (tmp_path / "slides.csv").read_text().splitlines(keepends=True)
    (tmp_path / "slides.csv").write_text("".join(lines[:2]))
    with pytest.raises(UserError, match=r"slides\.csv: is not what was written"):
        slides_by_name(tmp_path / "slides.csv")


def test_a_group_is_one_line_and_has_no_characters_that_cannot_be_shown(read, messages):
    (slide,) = read('slide,patient,path,group\ns,p,a.svs,"HER2\t\r\n 3+"\n')
    assert slide.group == "HER2 3+"
    (message,) = messages("slide,patient,path,group\ns,p,a.svs,HER2\x1b[31m\n")
    assert "line 2 (slide 's'): group: the characters '\\x1b' cannot be shown" in message


def test_a_sheet_of_gigabytes_is_refused_before_it_is_read(tmp_path):
    sheet = tmp_path / "slides.csv"
    with sheet.open("wb") as file:
        file.truncate(2**30)
    with pytest.raises(UserError, match=r"slides\.csv: has 1,024 MiB, more than any table of slides"):
        read_sheet(Slides(sheet=str(sheet)))
