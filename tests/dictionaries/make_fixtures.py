"""Makes the files in ``files/`` with the libraries whose formats they are in.

Each folder has what a library saves, and the directions that it gives itself (``expected.npy``).
``versions.json`` says which versions those were. The libraries need many packages, and some need
others than fvfast's tests, so this runs in an environment of its own, one library at a time:

    pip install sae-lens
    python tests/dictionaries/make_fixtures.py saelens

    pip install --no-deps dictionary-learning && pip install einops nnsight==0.3.7 circuitsvis
    python tests/dictionaries/make_fixtures.py dictionary_learning

    pip install overcomplete 'matplotlib<3.9'
    python tests/dictionaries/make_fixtures.py overcomplete

    pip install --no-deps saev && pip install beartype jaxtyping einops orjson tyro
    python tests/dictionaries/make_fixtures.py saev
    # and again with the newer format of github.com/OSU-NLP-Group/saev
    PYTHONPATH=CHECKOUT/src python tests/dictionaries/make_fixtures.py saev 3d73f1f

    pip install line_profiler wandb  # of github.com/Prisma-Multimodal/ViT-Prisma
    PYTHONPATH=CHECKOUT/src python tests/dictionaries/make_fixtures.py vit_prisma aa5ff6a

Where fvfast is importable, too, it also reads the objects in memory.
"""

import importlib.metadata
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch

FILES = Path(__file__).with_name("files")
COUNT, WIDTH, OTHER_WIDTH = 7, 4, 5


def folder_of(name):
    folder = FILES / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def expect(folder, directions, live=None):
    """Save what the library gives; compare what fvfast reads of its object."""
    values = directions.detach().float().numpy()
    assert values.shape[0] == COUNT
    np.save(folder / "expected.npy", values)
    if live is not None:
        from fvfast.files.dictionaries import read_dictionary

        np.testing.assert_array_equal(read_dictionary(live).directions.numpy(), values)


def note(name, version):
    FILES.mkdir(exist_ok=True)
    path = FILES / "versions.json"
    versions = json.loads(path.read_text()) if path.exists() else {}
    versions[name] = version
    path.write_text(json.dumps(versions, indent=2, sort_keys=True) + "\n")


def randomize(module):
    """Give all parameters other values, so that no two are equal, or transposes of each other."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()


def saelens():
    from sae_lens import (
        SAE,
        GatedSAE,
        GatedSAEConfig,
        JumpReLUSAE,
        JumpReLUSAEConfig,
        StandardSAE,
        StandardSAEConfig,
        TopKSAE,
        TopKSAEConfig,
        Transcoder,
        TranscoderConfig,
    )

    note("saelens", importlib.metadata.version("sae-lens"))
    common = {"d_in": WIDTH, "d_sae": COUNT, "dtype": "float32", "device": "cpu"}
    made = {
        "standard": (StandardSAE, StandardSAEConfig(**common)),
        "gated": (GatedSAE, GatedSAEConfig(**common)),
        "topk": (TopKSAE, TopKSAEConfig(**common, k=2)),
        "jumprelu_bfloat16": (JumpReLUSAE, JumpReLUSAEConfig(**{**common, "dtype": "bfloat16"})),
        "transcoder": (
            Transcoder,
            TranscoderConfig(**common, d_out=OTHER_WIDTH, apply_b_dec_to_input=False),
        ),
    }
    for name, (make, config) in made.items():
        config.metadata.hook_name = "blocks.3.hook_resid_post"
        if name == "transcoder":
            config.metadata.hook_name_out = "blocks.3.hook_mlp_out"
        folder = folder_of(f"saelens_{name}")
        sae = make(config)
        randomize(sae)
        sae.save_model(folder)
        expect(folder, SAE.load_from_disk(folder).W_dec if name != "transcoder"
               else Transcoder.load_from_disk(folder).W_dec, sae)  # fmt: skip


def dictionary_learning():
    from dictionary_learning.dictionary import (
        AutoEncoder,
        GatedAutoEncoder,
        JumpReluAutoEncoder,
    )
    from dictionary_learning.trainers.gdm import GatedSAETrainer
    from dictionary_learning.trainers.jumprelu import JumpReluTrainer
    from dictionary_learning.trainers.matryoshka_batch_top_k import (
        MatryoshkaBatchTopKSAE,
        MatryoshkaBatchTopKTrainer,
    )
    from dictionary_learning.trainers.standard import StandardTrainer
    from dictionary_learning.trainers.top_k import AutoEncoderTopK, TopKTrainer
    from dictionary_learning.training import trainSAE

    note("dictionary_learning", importlib.metadata.version("dictionary-learning"))
    common = {
        "activation_dim": WIDTH, "dict_size": COUNT, "layer": 2, "lm_name": "vit", "device": "cpu",
        "submodule_name": "blocks.2", "steps": 3, "lr": 1e-3, "warmup_steps": 0, "seed": 0,
        "sparsity_warmup_steps": None, "decay_start": None,
    }  # fmt: skip
    top = {"k": 2, "auxk_alpha": 0.03}
    made = {
        "standard": (StandardTrainer, AutoEncoder, {}, {"normalize_decoder": False}),
        "gated": (GatedSAETrainer, GatedAutoEncoder, {}, {}),
        "jumprelu": (JumpReluTrainer, JumpReluAutoEncoder, {}, {}),
        "topk": (TopKTrainer, AutoEncoderTopK, top, {"k": 2}),
        "matryoshka": (
            MatryoshkaBatchTopKTrainer, MatryoshkaBatchTopKSAE,
            {**top, "group_fractions": [0.5, 0.5], "group_weights": None}, {"k": 2},
        ),
    }  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(16, WIDTH, generator=generator) for _ in range(4)]
    for name, (trainer, read, more, how) in made.items():
        folder = folder_of(f"dictionary_learning_{name}")
        arguments = trainer.__init__.__annotations__
        settings = {key: value for key, value in {**common, **more}.items() if key in arguments}
        trainSAE(
            data=iter(batches), trainer_configs=[{"trainer": trainer, **settings}], steps=3,
            use_wandb=False, save_dir=str(folder), device="cpu",
        )  # fmt: skip
        for file in (folder / "trainer_0").iterdir():
            file.rename(folder / file.name)
        (folder / "trainer_0").rmdir()
        sae = read.from_pretrained(str(folder / "ae.pt"), **how)
        own = sae.W_dec if hasattr(sae, "W_dec") else sae.decoder.weight.T
        expect(folder, own, sae)


def overcomplete():
    from overcomplete.sae import SAE, TopKSAE
    from overcomplete.sae.archetypal_dictionary import RelaxedArchetypalDictionary

    note("overcomplete", importlib.metadata.version("overcomplete"))
    made = {
        "l2": SAE(WIDTH, COUNT),
        "multiplied": TopKSAE(
            WIDTH, COUNT, top_k=2,
            dictionary_params={"normalization": "max_l2", "use_multiplier": True},
        ),
        "archetypal": SAE(WIDTH, COUNT),
    }  # fmt: skip
    made["archetypal"].dictionary = RelaxedArchetypalDictionary(
        WIDTH, COUNT, torch.randn(9, WIDTH), delta=0.5
    )
    for name, sae in made.items():
        randomize(sae)
        sae.eval()  # makes the dictionary final
        folder = folder_of(f"overcomplete_{name}")
        torch.save(sae.state_dict(), folder / "sae.pth")
        expect(folder, sae.get_dictionary(), sae)


def saev(commit=None):
    import saev.nn

    old = hasattr(saev, "config")
    note("saev_first" if old else "saev_schema", commit or importlib.metadata.version("saev"))
    folder = folder_of("saev_first" if old else "saev_schema")
    if old:
        config = saev.config.SparseAutoencoder(d_vit=WIDTH, exp_factor=2, seed=0)
        global COUNT
        COUNT = 2 * WIDTH
    else:
        config = saev.nn.SparseAutoencoderConfig(d_model=WIDTH, d_sae=COUNT)
    sae = saev.nn.SparseAutoencoder(config)
    randomize(sae)
    saev.nn.dump(str(folder / "sae.pt"), sae)
    expect(folder, saev.nn.load(str(folder / "sae.pt")).W_dec, sae)


def vit_prisma(commit):
    from vit_prisma.sae.config import VisionModelSAERunnerConfig
    from vit_prisma.sae.sae import StandardSparseAutoencoder

    note("vit_prisma", commit)
    config = VisionModelSAERunnerConfig(
        d_in=WIDTH, expansion_factor=2, hook_point_layer=9, layer_subtype="hook_mlp_out",
        activation_fn_str="relu", checkpoint_path="", dataset_path="", dataset_train_path="",
        dataset_val_path="", cached_activations_path="",
    )  # fmt: skip
    config.device, config.dtype = "cpu", "float32"
    global COUNT
    COUNT = 2 * WIDTH
    sae = StandardSparseAutoencoder(config)
    randomize(sae)
    for name in ("vit_prisma", "vit_prisma_pickled"):
        folder = folder_of(name)
        config.save_config(str(folder / "config.json"))
        if name == "vit_prisma":
            torch.save(sae.state_dict(), folder / "weights.pt")
        else:
            sae.save_model(str(folder / "weights.pt"))
        read = StandardSparseAutoencoder.load_from_pretrained(str(folder / "weights.pt"))
        expect(folder, read.W_dec, sae)


if __name__ == "__main__":
    torch.manual_seed(0)
    {one.__name__: one for one in (saelens, dictionary_learning, overcomplete, saev, vit_prisma)}[
        sys.argv[1]
    ](*sys.argv[2:])
