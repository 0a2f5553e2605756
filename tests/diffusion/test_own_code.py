"""A generator's folder is loaded by diffusers alone, with its own code; and by us, without running it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch
from diffusers import AutoencoderKL, DiffusionPipeline
from PIL import Image

from stedm.diffusion.own_code import own_code
from stedm.diffusion.pipeline import StyleLayoutPipeline, load_pipeline
from stedm.errors import UserError
from stedm.models import GENERATOR_CODE
from stedm.seals import check_folder_unchanged

STRANGER = """
import importlib.util, sys
assert importlib.util.find_spec("stedm") is None, "the package is installed here"
import torch
from diffusers import DiffusionPipeline

for folder in sys.argv[2:]:
    pipeline = DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
    pipeline.set_progress_bar_config(disable=True)
    layout = torch.zeros(1, 32, 32, dtype=torch.long)
    layout[:, :, 16:] = 1
    noise = torch.Generator().manual_seed(0)
    style = torch.linspace(-1, 1, 2 * 3 * 32 * 32).reshape(1, 2, 3, 32, 32)
    images = pipeline(layout=layout, style_images=style, num_inference_steps=2, generator=noise).images
    print(repr(images.mean().item()), repr(images.std().item()))
    pipeline.save_pretrained(sys.argv[1])
assert "stedm" not in sys.modules
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Generators: one on pixels with canonical images; the same on the latents of an autoencoder."""
    from conftest import make_tiny_study

    study = make_tiny_study(tmp_path_factory.mktemp("study"))
    pixels = tiny.train(study, tiny.options(training={"steps": 1}, style={"canonical": True}))
    latent = study / "latent"
    pipeline = StyleLayoutPipeline.from_pretrained(pixels)
    stage = AutoencoderKL(
        block_out_channels=[16, 16, 16],
        latent_channels=48,
        norm_num_groups=4,
        sample_size=32,
        down_block_types=["DownEncoderBlock2D"] * 3,
        up_block_types=["UpDecoderBlock2D"] * 3,
    )
    pipeline.register_modules(first_stage=stage)
    pipeline.save_pretrained(latent)
    return pixels, latent


def generate(folder):
    pipeline = load_pipeline(folder)
    pipeline.set_progress_bar_config(disable=True)
    layout = torch.zeros(1, 32, 32, dtype=torch.long)
    layout[:, :, 16:] = 1
    style = torch.linspace(-1, 1, 2 * 3 * 32 * 32).reshape(1, 2, 3, 32, 32)
    noise = torch.Generator().manual_seed(0)
    return pipeline(layout=layout, style_images=style, num_inference_steps=2, generator=noise).images


def test_diffusers_loads_it_where_this_package_is_not_installed(folders, tmp_path):
    """In another process, which has the packages of this environment, but not this one; also what it saves again."""
    packages = tmp_path / "packages"
    packages.mkdir()
    for path in Path(torch.__file__).parents[1].iterdir():
        if "stedm" not in path.name and path.suffix != ".pth":
            (packages / path.name).symlink_to(path)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"PYTHONPATH": str(packages), "HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    for given, copy in ((folders, tmp_path / "again"), ([tmp_path / "again"], tmp_path / "once more")):
        call = [sys.executable, "-S", "-c", STRANGER, str(copy), *map(str, given)]
        done = subprocess.run(call, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found = torch.tensor([[float(value) for value in line.split()] for line in done.stdout.splitlines()])
        images = [generate(folder) for folder in folders[-len(given) :]]
        torch.testing.assert_close(found, torch.tensor([[one.mean().item(), one.std().item()] for one in images]))
        assert (copy / "pipeline.py").read_text() == own_code()


def test_its_code_is_one_file_that_names_all_it_needs():
    code = own_code()
    compile(code, "pipeline.py", "exec")
    assert "import stedm" not in code and "from stedm" not in code.replace("from stedm.diffusion.pipeline", "")
    checked = subprocess.run(["ruff", "check", "--isolated", "--select", "F", "-"], input=code, text=True, check=False)
    assert checked.returncode == 0


def test_with_the_package_nothing_of_the_folder_is_run(folders, tmp_path):
    """Neither by `load_pipeline` nor by `from_pretrained`, which needs no flag; a copy has its code again."""
    folder = tmp_path / "generator"
    shutil.copytree(folders[0], folder)
    (folder / "SHA256SUMS").unlink()
    for name in GENERATOR_CODE:
        (folder / name).write_text(f"raise AssertionError('{name} was run')")
    torch.testing.assert_close(generate(folder), generate(folders[0]))
    pipeline = StyleLayoutPipeline.from_pretrained(folder)
    assert type(pipeline.unet).__module__ == "stedm.diffusion.model"
    with pytest.raises(ValueError, match="contains custom code"):  # diffusers' own word, without its flag
        DiffusionPipeline.from_pretrained(folder)
    pipeline.save_pretrained(tmp_path / "copy")
    for name in GENERATOR_CODE:
        assert (tmp_path / "copy" / name).read_text() == (folders[0] / name).read_text()


def test_other_code_in_the_folder_is_refused(folders, tmp_path):
    for number, name in enumerate(["model.py", "unet/pipeline.py", "scheduler/component.py", "unet/sub/component.py"]):
        folder = tmp_path / str(number)
        shutil.copytree(folders[0], folder)
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("pass")
        with pytest.raises(UserError, match=rf"holds {name}, which stedm never saves"):
            load_pipeline(folder)


def test_generators_of_earlier_versions_are_loaded(folders, tmp_path):
    """They have no code, and their index names the package's modules."""
    folder = tmp_path / "generator"
    shutil.copytree(folders[0], folder)
    for name in (*GENERATOR_CODE, "SHA256SUMS", "README.md"):
        (folder / name).unlink()
    index = json.loads((folder / "model_index.json").read_text())
    index |= {"_class_name": "StyleLayoutPipeline", "unet": ["stedm.diffusion.model", "StyleLayoutUNet"]}
    index |= {"aggregator": ["stedm.style.aggregators", "StyleAggregator"]}
    index |= {"style_encoder": ["stedm.style.encoder", "StyleEncoder"]}
    index |= {"first_stage": ["stedm.first_stage", "PixelFirstStage"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    torch.testing.assert_close(generate(folder), generate(folders[0]))
    assert type(StyleLayoutPipeline.from_pretrained(folder).unet).__module__ == "stedm.diffusion.model"


def test_the_card_says_what_it_is_and_how_to_load_it_and_names_nobody(folders):
    folder = folders[0]
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlibrary_name: diffusers\nlicense: unknown\n")
    assert "| 2 annotated | 2 | 32 |" in card and "| 2 not annotated | 2 | 32 |" in card
    assert "32 × 32 px" in card and "0 = stroma, 1 = tumour" in card
    assert not any(name in card for name in ("A1", "A2", "U1", "U2"))
    check_folder_unchanged(folder)
    assert "](samples.png)" in card and Image.open(folder / "samples.png").width == (1 + 3) * 32  # layouts, styles
    code = [part.split("```")[0] for part in card.split("```python\n")[1:]]
    for text in [*code[1:], code[0].replace(", trust_remote_code=True", "").replace("DiffusionPipeline.", "Style.")]:
        text = text.replace("<this folder>", str(folder))
        scope = {"Style": StyleLayoutPipeline}
        exec(compile(text, "README.md", "exec"), scope)
        assert isinstance(scope["pipeline"], StyleLayoutPipeline)
    assert scope["images"].shape == (1, 3, 32, 32)
