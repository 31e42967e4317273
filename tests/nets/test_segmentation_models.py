"""Nets of segmentation-models-pytorch: our contract of nets, on random weights or those of a file."""

import pytest
import torch
import torch.nn.functional as F

from semivox.errors import ConfigError, GeometryError, UnknownMethodError
from semivox.nets.build import MakeNet
from semivox.nets.segmentation_models import NETS

SMALL = {"encoder_name": "resnet18", "decoder_channels": 16}
IMAGE = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def make_net(name="DeepLabV3Plus", options=None, **values):
    values = {"dims": 2, "channels": 3, "classes": 4, "seed": 0} | values
    options = SMALL if options is None else options
    return MakeNet(f"smp:{name}", options=options, **values)


@pytest.mark.parametrize("name", NETS)
def test_every_listed_net_gives_logits_and_features_of_the_declared_widths_and_strides(name):
    net = make_net(name, {"encoder_name": "resnet18"}, channels=1)()
    image = IMAGE[:, :1]
    features = net.encode(image)
    decoded = net.decode(features)
    assert decoded.logits.shape == (2, 4, 64, 96)
    assert list(features) == list(net.widths) == list(net.strides)
    assert list(features)[-1] == "bottleneck"
    declared = [*zip(net.widths.values(), net.strides.values(), strict=True)]
    declared += zip(net.decoded_widths, net.decoded_strides, strict=True)
    for feature, (width, (down, across)) in zip([*features.values(), *decoded.features], declared, strict=True):
        assert feature.shape == (2, width, 64 // down, 96 // across)
    assert decoded.features[-1].shape[2:] == image.shape[2:]


def test_the_logits_of_deeplab_are_a_convolution_of_its_last_feature():
    net = make_net()().eval()
    decoded = net.decode(net.encode(IMAGE))
    last = net.decoders[0].head[0]
    torch.testing.assert_close(F.conv2d(decoded.features[-1], last.weight, last.bias), decoded.logits)
    assert torch.equal(net(IMAGE), decoded.logits)


def test_features_may_be_changed_between_encoder_and_decoder():
    net = make_net()().eval()
    features = net.encode(IMAGE)
    changed = net.decode(features | {"bottleneck": features["bottleneck"] * 0})
    assert not torch.equal(changed.logits, net(IMAGE))


def test_every_weight_and_every_decoder_learns():
    net = make_net()(decoders=2)
    features = net.encode(IMAGE)
    sum(net.decode(features, index).logits.square().mean() for index in (0, 1)).backward()
    assert all(weight.grad is not None for weight in net.parameters())


def test_weights_depend_on_seed_and_name_alone_and_a_further_decoder_changes_none():
    one, two, other = make_net()(), make_net()(decoders=2), make_net(seed=1)()
    state = two.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in one.state_dict().items())
    assert not torch.equal(next(one.parameters()), next(other.parameters()))
    first, second = (next(decoder.parameters()) for decoder in two.decoders)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
@pytest.mark.parametrize("channels", [1, 3])
def test_encoder_weights_come_from_a_file_that_may_still_have_its_classifier(ending, channels, tmp_path):
    source = make_net(seed=5)().encoder.inner.state_dict()
    source |= {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    file = tmp_path / f"weights{ending}"
    if ending == ".pth":
        torch.save(source, file)
    else:
        from safetensors.torch import save_file

        save_file(source, file)
    net = make_net(options=SMALL | {"encoder_weights_file": str(file)}, channels=channels)()
    state = net.encoder.inner.state_dict()
    assert torch.equal(state["layer4.1.conv2.weight"], source["layer4.1.conv2.weight"])
    expected = source["conv1.weight"] if channels == 3 else source["conv1.weight"].sum(1, keepdim=True)
    torch.testing.assert_close(state["conv1.weight"], expected)
    assert net.widths["level1"] == channels


def test_weights_of_another_encoder_and_files_that_are_none_are_refused(tmp_path):
    torch.save(make_net()().encoder.inner.state_dict(), tmp_path / "resnet18.pth")
    (tmp_path / "broken.pth").write_bytes(b"no weights")
    for encoder, name in (("resnet34", "resnet18.pth"), ("resnet18", "broken.pth"), ("resnet18", "gone.pth")):
        options = {"encoder_name": encoder, "encoder_weights_file": str(tmp_path / name)}
        with pytest.raises(ConfigError, match=rf"{name} cannot be used \(.*check the file and encoder_name"):
            make_net(options=options)()


def test_a_size_that_does_not_fit_is_refused_with_the_size_that_does():
    with pytest.raises(GeometryError, match=r"321x321 .* multiple of 16x16; take 336x336"):
        make_net()()(torch.zeros(1, 3, 321, 321))


def test_a_batch_of_one_crop_is_refused_in_training_alone():
    net = make_net()()
    with pytest.raises(GeometryError, match="batch_labelled and batch_unlabelled of at least 2"):
        net(IMAGE[:1])
    assert net.eval()(IMAGE[:1]).shape == (1, 4, 64, 96)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"encoder_name": "resnet81"}, "no encoder 'resnet81': did you mean 'resnet18'"),
        ({"decoder_chanels": 3}, "no option 'decoder_chanels': did you mean 'decoder_channels'"),
        ({"encoder_weights": "imagenet"}, "nothing is downloaded: name a file with encoder_weights_file"),
        ({"classes": 3}, "'classes' .* the data set says how many"),
        ({"encoder_output_stride": 4}, "refused to make 'DeepLabV3Plus'"),
        ({"upsampling": 2}, r"logits of \(64, 64\) for an image of \(128, 128\)"),
    ],
)
def test_options_that_cannot_be_followed_are_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        make_net(options={"encoder_name": "resnet18"} | options)()


def test_unknown_nets_volumes_and_deep_outputs_are_refused():
    with pytest.raises(UnknownMethodError, match="did you mean 'smp:DeepLabV3Plus'"):
        make_net("DeepLabV4Plus")
    with pytest.raises(ConfigError, match="asks for volumes: take net 'vnet'"):
        make_net(dims=3)()
    with pytest.raises(ConfigError, match="asks for deep outputs"):
        make_net()(deep=True)
    with pytest.raises(ConfigError, match="asks for decoders of several kinds"):
        make_net()(decoders=2, varied=True)
