"""The network: any architecture of torchvision's, either head, and only what was asked for is trained."""

import hashlib

import pytest

pytestmark = pytest.mark.xdist_group("torch")  # one worker loads it for all these files


@pytest.fixture(scope="module", autouse=True)
def load_torch():
    """Load torch when the first test of this file runs: at the collection each of pytest's workers would load it."""
    global Frozen, Preprocess, model, models, save_file, torch
    import model
    import torch
    from frozen import Frozen
    from preprocess import Preprocess
    from safetensors.torch import save_file
    from vision import models


def test_every_architecture_has_our_head_and_a_last_block():
    """On torch's `meta` device, where weights have shapes and no memory. regnet computes with numbers while it is built."""
    for arch in ["resnet_tiny", *(name for name in models.list_models(module=models) if not name.startswith("regnet"))]:
        with torch.device("meta"):
            network = model.build(arch, 133, "linear", "last").eval()
            side = 299 if arch == "inception_v3" else 224
            features = network.backbone(torch.zeros(2, 3, side, side))
            for head in (network.head, model.make_head("mlp", network.head.in_features, 133)):
                assert head(features).shape == (2, 133), arch
        trained = sum(p.numel() for p in network.backbone.parameters() if p.requires_grad)
        assert 0 < trained < model.count_weights(network.backbone), arch


def test_regnet_is_built_with_our_head():
    network = model.build("regnet_y_400mf", 5).eval()
    assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 5)


def test_mlp_head_equals_the_original():
    head = model.build("resnet18", 133, "mlp").head
    assert [type(layer).__name__ for layer in head] == ["Linear", "ReLU", "Linear"]
    assert (head[0].in_features, head[0].out_features, head[2].out_features) == (512, 128, 133)


def test_unknown_options_are_rejected_by_name():
    with pytest.raises(ValueError, match="unknown architecture 'resnet19'; known: resnet_tiny, alexnet"):
        model.build("resnet19", 2)
    with pytest.raises(ValueError, match="head must be one of linear, mlp"):
        model.build("resnet18", 2, "svm")


@pytest.mark.parametrize(
    ("layers", "trained"), [("all", {"backbone", "head"}), ("last", {"backbone.layer4.1", "head"}), ("head", {"head"})]
)
def test_frozen_layers_keep_weights_and_statistics(layers, trained):
    """Only the requested layers are trained; the others keep their weights and statistics."""
    network = model.build("resnet18", 3, "linear", layers).train()
    moving = {name for name, p in network.named_parameters() if p.requires_grad}
    assert moving
    assert all(any(name.startswith(prefix + ".") for prefix in trained) for name in moving)
    before = {name: tensor.clone() for name, tensor in network.backbone.state_dict().items()}
    network(torch.randn(4, 3, 32, 32)).sum().backward()
    changed = {name for name, tensor in network.backbone.state_dict().items() if not torch.equal(tensor, before[name])}
    assert all("running" in name or "num_batches" in name for name in changed)
    if layers == "head":
        assert changed == set()
    if layers == "last":
        assert {name.split(".bn")[0] for name in changed} == {"layer4.1"}
    if layers == "all":
        assert "bn1.running_mean" in changed


def test_weights_load_from_torchvision_and_our_files_only(tmp_path):
    """Weights of torchvision's file and of ours are loaded; others are rejected."""
    published = models.get_model("resnet18", weights=None)  # what torchvision publishes: the whole network, 1000 scores
    torch.save(published.state_dict(), tmp_path / "resnet18-abcdef12.pth")
    sha = hashlib.sha256((tmp_path / "resnet18-abcdef12.pth").read_bytes()).hexdigest()
    network = model.build("resnet18", 5)
    assert model.load_backbone_weights(network, tmp_path / "resnet18-abcdef12.pth", sha) == 120
    assert torch.equal(network.backbone.conv1.weight, published.conv1.weight)
    with pytest.raises(ValueError, match="its SHA-256 differs"):
        model.load_backbone_weights(network, tmp_path / "resnet18-abcdef12.pth", "0" * 64)
    with pytest.raises(ValueError, match="does not fit"):
        model.load_backbone_weights(model.build("resnet34", 5), tmp_path / "resnet18-abcdef12.pth")
    save_file(model.build("resnet18", 9).state_dict(), tmp_path / "model.safetensors")
    assert model.load_backbone_weights(network, tmp_path / "model.safetensors") == 120


def test_pickle_with_code_is_not_executed(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"x": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(Exception, match=r"weights_only|Unsupported"):
        model.load_backbone_weights(model.build("resnet18", 2), tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


def build_small_vit():
    """A vision transformer of two small layers: those of vit_b_32 differ in size and number alone."""
    network = models.VisionTransformer(64, patch_size=16, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64)
    return model.remove_last_layer(network, "vit")[0]


@pytest.mark.parametrize("arch", ["resnet18", "mobilenet_v3_small", "vit"])
def test_fast_frozen_part_gives_the_features_of_the_backbone(arch, monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")  # fp32
    torch.manual_seed(0)
    side = 64
    backbone = (build_small_vit() if arch == "vit" else model.build(arch, 2).backbone).eval()
    preprocess = Preprocess(side)
    pictures = torch.randint(0, 256, (5, 3, side, side), dtype=torch.uint8)
    frozen = Frozen(backbone, preprocess, torch.device("cpu"), batch=4)
    found, wanted = frozen(pictures), model.compute_scores(backbone, preprocess.normalise(pictures))
    assert found.dtype == torch.float32
    assert torch.allclose(found, wanted, atol=1e-3 * wanted.abs().max().item())
    assert torch.equal(found[:2], frozen(pictures[:2]))  # whatever else is in the batch


def test_bf16_is_used_only_where_it_is_faster(monkeypatch):
    from frozen import is_bf16_faster

    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True, "avx512_bf16": True})
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    cpu = torch.device("cpu")
    assert is_bf16_faster(cpu, 224)
    assert not is_bf16_faster(cpu, 32)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")
    assert not is_bf16_faster(cpu, 224)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    assert not is_bf16_faster(cpu, 224)
    for able in (True, False):  # a T4 has none: there torch would emulate it
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda including_emulation, able=able: able or including_emulation
        )
        assert is_bf16_faster(torch.device("cuda"), 32) is able
