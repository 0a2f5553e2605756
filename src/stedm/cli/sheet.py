"""`stedm sheet`: sample sheets of published data sets."""

import argparse
from typing import TYPE_CHECKING

from stedm.cli.command import Argument, argument, command, flag, out

if TYPE_CHECKING:
    from stedm.datasets.found import Found

FOLDER = argument("--folder", "DIR", "the data set, downloaded and unpacked")
PARTIAL = flag("--partial", "leave out what has not been downloaded")
NEW_SHEET = out("CSV", "sample sheet; paths in it start from its own folder")
FLOWER_PARTS = ["train", "val", "test"]
PARTS = Argument(
    "--parts",
    {"nargs": "+", "choices": FLOWER_PARTS, "default": FLOWER_PARTS, "help": "of setid.mat (all)"},
    needed=False,
)


@command("sheet catch", FOLDER, PARTIAL, NEW_SHEET)
def sheet_catch(args: argparse.Namespace) -> None:
    """CATCH, canine cutaneous tumours: *.svs, CATCH.json, datasets.csv."""
    from stedm.datasets import catch

    write_new_sheet(args, catch.find(args.folder))


@command("sheet camelyon16", FOLDER, PARTIAL, NEW_SHEET)
def sheet_camelyon16(args: argparse.Namespace) -> None:
    """Camelyon16, lymph nodes: normal_*.tif, tumor_*.tif, test_*.tif, their *.xml, reference.csv."""
    from stedm.datasets import camelyon16

    write_new_sheet(args, camelyon16.find(args.folder, args.out.parent / "no_tumour.geojson"))


@command("sheet bcss", FOLDER, PARTIAL, NEW_SHEET)
def sheet_bcss(args: argparse.Namespace) -> None:
    """BCSS, breast cancer: rgbs_colorNormalized/*.png, masks/*.png."""
    from stedm.datasets import bcss

    write_new_sheet(args, bcss.find(args.folder))


@command("sheet monuseg", FOLDER, PARTIAL, NEW_SHEET)
def sheet_monuseg(args: argparse.Namespace) -> None:
    """MoNuSeg, nuclei: Tissue Images/*.tif, Annotations/*.xml, MoNuSegTestData/*."""
    from stedm.datasets import monuseg

    write_new_sheet(args, monuseg.find(args.folder))


@command("sheet qupath", FOLDER, PARTIAL, NEW_SHEET)
def sheet_qupath(args: argparse.Namespace) -> None:
    """A QuPath project: project.qpproj, and annotations exported as GeoJSON named after their images."""
    from stedm.datasets import qupath

    write_new_sheet(args, qupath.find(args.folder))


@command(
    "sheet flowers102",
    FOLDER,
    PARTS,
    PARTIAL,
    NEW_SHEET,
)
def sheet_flowers102(args: argparse.Namespace) -> None:
    """Oxford Flowers 102: jpg/*.jpg, segmim/*.jpg, imagelabels.mat, setid.mat."""
    from stedm.datasets import flowers102

    write_new_sheet(args, flowers102.find(args.folder, args.out.parent / "masks", args.parts))


def write_new_sheet(args: argparse.Namespace, found: "Found") -> None:
    """Write what was found and say how much that is."""
    from collections import Counter

    from stedm.datasets.found import write_found

    write_found(found, args.folder, args.out, args.partial)
    roles = Counter(slide.split or "without a role" for slide in found.slides)
    patients = {slide.patient for slide in found.slides}
    print(
        f"{args.out}: {len(found.slides)} slides of {len(patients)} patients ("
        + ", ".join(f"{count} {role}" for role, count in sorted(roles.items()))
        + ")"
    )
