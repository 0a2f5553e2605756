"""Small copies of published data sets: their file names and formats, and images of a few pixels."""

import json
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image
from scipy.io import savemat

SIZE = 256
PINK = (220, 120, 180)


def slide(path: Path, size: int = SIZE, mpp: float | None = 0.25) -> Path:
    """A pink tiled TIFF, whatever its ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scale = {} if mpp is None else {"resolution": (1e4 / mpp,) * 2, "resolutionunit": "CENTIMETER"}
    image = np.full((size, size, 3), PINK, np.uint8)
    tifffile.imwrite(
        path, image, tile=(128, 128), photometric="rgb", compression="zlib", metadata=None, subfiletype=0, **scale
    )
    return path


def image(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **({"quality": 75} if path.suffix == ".jpg" else {}))
    return path


def text(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def square(left: float, upper: float, side: float) -> list[tuple[float, float]]:
    return [(left, upper), (left + side, upper), (left + side, upper + side), (left, upper + side)]


# Names and coordinates are made up; the forms are those of the published files.

CATCH = {
    "MCT_01_1": "train",
    "MCT_02_1": "train",
    "MCT_02_2": "train",
    "PNST_01_1": "train",
    "PNST_02_1": "val",
    "MCT_03_1": "test",
    "PNST_03_1": "test",
}


def catch(folder: Path) -> Path:
    """Each slide: a tumour, and the dermis around it after it; `segmentation` is flat, as in CATCH.json."""
    for name in CATCH:
        slide(folder / f"{name}.svs")
    rows = [f"{name}.svs;{role};ScanScope v1\n" for name, role in CATCH.items()]
    text(folder / "datasets.csv", "Slide;Dataset;Scanner\n" + "".join(rows))
    categories = ["Bone", "Cartilage", "Dermis", "Epidermis", "Subcutis", "Inflamm/Necrosis", "Melanoma"]
    categories += ["Plasmacytoma", "Mast Cell Tumor", "PNST", "SCC", "Trichoblastoma", "Histiocytoma"]
    annotations = []
    for number, name in enumerate(CATCH):
        tumour = "Mast Cell Tumor" if name.startswith("MCT") else "PNST"
        for category, points in ((tumour, square(64, 64, 128)), ("Dermis", square(0, 0, 256))):
            (left, upper), (right, lower) = points[0], points[2]
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": number,
                    "category_id": categories.index(category),
                    "segmentation": [value for point in points for value in point],
                    "area": (right - left) * (lower - upper),
                    "bbox": [left, upper, right - left, lower - upper],
                    "iscrowd": 0,
                }
            )
    content = {
        "info": {},
        "categories": [{"id": number, "name": name} for number, name in enumerate(categories)],
        "images": [
            {"id": number, "file_name": f"{name}.svs", "width": SIZE, "height": SIZE}
            for number, name in enumerate(CATCH)
        ],
        "annotations": annotations,
    }
    text(folder / "CATCH.json", json.dumps(content))
    return folder


def asap(path: Path, *groups: tuple[str, list[tuple[float, float]]]) -> Path:
    """Outlines of (group, points), as ASAP writes them."""
    shapes = []
    for number, (group, points) in enumerate(groups):
        vertices = "".join(f'<Coordinate Order="{order}" X="{x}" Y="{y}" />' for order, (x, y) in enumerate(points))
        shapes.append(
            f'<Annotation Name="Annotation {number}" Type="Polygon" PartOfGroup="{group}" Color="#F4FA58">'
            f"<Coordinates>{vertices}</Coordinates></Annotation>"
        )
    names = dict.fromkeys(group for group, _ in groups)
    listed = "".join(
        f'<Group Name="{name}" PartOfGroup="None" Color="#00ff00"><Attributes /></Group>' for name in names
    )
    return text(
        path,
        f'<?xml version="1.0"?>\n<ASAP_Annotations><Annotations>{"".join(shapes)}</Annotations>'
        f"<AnnotationGroups>{listed}</AnnotationGroups></ASAP_Annotations>\n",
    )


def camelyon16(folder: Path) -> Path:
    """tumor_010 is not annotated throughout, and test_049 was withdrawn; tumours have a hole."""
    for name in ("normal/normal_001", "normal/normal_002", "tumor/tumor_001", "tumor/tumor_002", "tumor/tumor_010"):
        slide(folder / f"training/{name}.tif")
    for name in ("test_001", "test_002", "test_049"):
        slide(folder / f"testing/images/{name}.tif")
    slide(folder / "masks/tumor_001_mask.tif")
    outlines = ("_0", square(32, 32, 128)), ("_2", square(64, 64, 32))
    for name in ("tumor_001", "tumor_002", "tumor_010"):
        asap(folder / f"training/lesion_annotations/{name}.xml", *outlines)
    asap(folder / "testing/lesion_annotations/test_001.xml", *outlines)
    text(
        folder / "testing/reference.csv",
        "test_001,Tumor,IDC,Macro\ntest_002,Normal,None,None\ntest_049,Tumor,IDC,Micro\n",
    )
    return folder


BCSS = [f"TCGA-{part}-DX1_xmin45749_ymin25055_MPP-0.2500" for part in ("A1-A0SK", "A2-A04P", "AR-A1AQ", "OL-A5D6")]


def bcss(folder: Path) -> Path:
    """Masks of four vertical stripes: 0 outside the region, 1 tumour, 2 stroma, 7 excluded."""
    mask = np.repeat(np.uint8([0, 1, 2, 7]), SIZE // 4)[None].repeat(SIZE, 0)
    for name in BCSS:
        image(folder / f"rgbs_colorNormalized/{name}.png", np.full((SIZE, SIZE, 3), PINK, np.uint8))
        image(folder / f"masks/{name}.png", mask)
    text(folder / "meta/gtruth_codes.tsv", "label\tGT_code\noutside_roi\t0\ntumor\t1\nstroma\t2\nexclude\t7\n")
    return folder


MONUSEG = {
    "TCGA-18-5592-01Z-00-DX1": "MoNuSeg 2018 Training Data",
    "TCGA-A7-A13E-01Z-00-DX1": "MoNuSeg 2018 Training Data",
    "TCGA-A7-A13F-01Z-00-DX1": "MoNuSeg 2018 Training Data",
    "TCGA-2Z-A9J9-01A-01-TS1": "MoNuSegTestData",
}


def monuseg(folder: Path) -> Path:
    """Each image: one square nucleus."""
    vertices = "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in square(64, 64, 32))
    content = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<Annotations MicronsPerPixel="0.252000">'
        '<Annotation Id="1" Name="" ReadOnly="0" NameReadOnly="0" LineColorReadOnly="0" Incremental="0" Type="4"'
        ' LineColor="65280" Visible="1" Selected="1" MarkupImagePath="" MacroName="">'
        '<Attributes><Attribute Name="Description" Id="0" Value=""/></Attributes>'
        '<Regions><RegionAttributeHeaders><AttributeHeader Id="9999" Name="Region" ColumnWidth="-1"/>'
        '</RegionAttributeHeaders><Region Id="1" Type="0" Zoom="1.0" Selected="0" ImageLocation="" ImageFocus="-1"'
        ' Length="128.0" Area="1024.0" LengthMicrons="32.3" AreaMicrons="65.0" Text="" NegativeROA="0"'
        f' InputRegionId="0" Analyze="1" DisplayId="1"><Attributes/><Vertices>{vertices}</Vertices></Region></Regions>'
        "<Plots/></Annotation></Annotations>\n"
    )
    for name, part in MONUSEG.items():
        train = "Training" in part
        slide(folder / part / ("Tissue Images" if train else "") / f"{name}.tif", mpp=None)
        text(folder / part / ("Annotations" if train else "") / f"{name}.xml", content)
    return folder


def qupath(folder: Path) -> Path:
    """A project that was moved with its images: no URI in it exists any more. Image 5 has no annotation."""
    images = []
    for number in range(1, 6):
        name = f"case {number}.svs"
        slide(folder.parent / "images" / name)
        role = {1: "annotated", 2: "annotated", 3: "test", 4: "test", 5: "unannotated"}[number]
        images.append(
            {
                "serverBuilder": {
                    "builderType": "uri",
                    "providerClassName": "qupath.lib.images.servers.openslide.OpenslideServerBuilder",
                    "uri": f"file:/old%20place/images/case%20{number}.svs",
                    "args": [] if number == 1 else ["--series", "0"],
                    "metadata": {"pixelCalibration": {"pixelWidth": {"value": 0.25, "unit": "µm"}}},
                },
                "entryID": number,
                "randomizedName": f"00000000-0000-0000-0000-00000000000{number}",
                "imageName": name,
                "metadata": {"Patient": f"P{number}", "split": role},
            }
        )
        if number != 5:
            ending = ".svs.geojson" if number % 2 else ".geojson"
            shapes = [("Region*", square(0, 0, 192)), ("Tumor", square(32, 32, 64))]
            features = [
                {
                    "type": "Feature",
                    "geometry": {"type": "Polygon", "coordinates": [[*points, points[0]]]},
                    "properties": {"objectType": "annotation", "classification": {"name": name}},
                }
                for name, points in shapes
            ]
            content = {"type": "FeatureCollection", "features": features}
            text(folder / f"annotations/case {number}{ending}", json.dumps(content))
    project = {
        "version": "0.5.1",
        "createTimestamp": 1700000000000,
        "modifyTimestamp": 1700000000001,
        "uri": "file:/old%20place/project/project.qpproj",
        "lastID": 5,
        "images": images,
    }
    text(folder / "project.qpproj", json.dumps(project))
    text(folder / "classifiers/classes.json", '{"pathClasses": []}')
    text(folder / "data/1/summary.json", "{}")
    return folder


def flowers102(folder: Path) -> Path:
    """Six classes of three images, a yellow square on green each; one image of each class in each published part."""
    labels = np.repeat(np.arange(1, 7), 3)
    flower = np.zeros((SIZE, SIZE, 1), bool)
    flower[64:192, 64:192] = True
    for number in range(1, len(labels) + 1):
        image(folder / f"jpg/image_{number:05}.jpg", np.where(flower, (230, 200, 30), (40, 120, 50)).astype(np.uint8))
        cut_out = np.where(flower, (230, 200, 30), (0, 0, 254)).astype(np.uint8)
        image(folder / f"segmim/segmim_{number:05}.jpg", cut_out)
    numbers = np.arange(1, len(labels) + 1)
    savemat(folder / "imagelabels.mat", {"labels": labels[None].astype(np.uint8)})
    parts = {key: numbers[part::3][None].astype(np.uint16) for part, key in enumerate(("trnid", "valid", "tstid"))}
    savemat(folder / "setid.mat", parts)
    return folder
